"""Two ranks under torchrun, with FSDP2 on the CPU, train what one process trains, and go on from each other's stops."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bdiff_core import ChunkDiT, ModelConfig
from bdiff_train.engine import RunConfig, Task, fit
from bdiff_train.engine.distributed import require_one_process
from bdiff_train.transformer import GeneratorAndCritic
from forcing_losses import flow_matching_loss, interpolate

TINY = ModelConfig(
    dim=24, num_layers=2, num_heads=2, ffn_dim=32, in_channels=4, out_channels=4, text_dim=6, text_length=3
)


def small_model():
    torch.manual_seed(3)
    model = ChunkDiT(TINY)
    nn.init.normal_(model.head.project.weight, std=0.1)
    model.gradient_checkpointing = True
    return model


def flow_matching(model, step, generator):
    clean, noise = (torch.randn(2, 4, 4, 4, 4, generator=generator) for _ in range(2))
    levels, text = torch.rand(2, 4, generator=generator), torch.randn(2, 3, 6, generator=generator)
    velocity = model(interpolate(clean, noise, levels), levels, text, frames_per_chunk=2)
    return flow_matching_loss(velocity, clean, noise), {}


def take_turns(pair, step, generator):
    """A loss that calls more than `forward`, and trains one part at a time."""
    clean = torch.randn(1, 4, 2, 4, 4, generator=generator)
    keys = [layer.key for layer in pair.generator.keys_values(clean, torch.zeros(1, 2), torch.zeros(1, 3, 6))]
    score = pair.critic(torch.stack(keys).mean((0, 1, 2, 3))).square().sum()
    return score + 1e-3 * sum(key.square().mean() for key in keys), {}


def look_first(model, step, generator):
    """Flow matching after looks at the model, as many as the micro-batch draws, as estimates of a context are."""
    latents, levels, text = torch.randn(1, 4, 2, 4, 4, generator=generator), torch.zeros(1, 2), torch.zeros(1, 3, 6)
    with torch.no_grad():
        for _ in range(int(torch.randint(4, (), generator=generator))):
            latents = latents - 0.1 * model(latents, levels, text, frames_per_chunk=2)
    loss, figures = flow_matching(model, step, generator)
    return loss * latents.square().mean(), figures


def run_config(out, **changes):
    plain = RunConfig(out=out, max_steps=6, micro_batches=2, learning_rate=3e-3, warmup_steps=2, log_steps=1)
    return replace(plain, checkpoint_minutes=0, decay=((0.0, 1.0),), **changes)


def train(out, *, loss=flow_matching, sharding="blocks", **changes):
    model = small_model()
    matrices = [p for name, p in model.blocks.named_parameters() if name.endswith("weight") and p.ndim == 2]
    fit(model, run_config(out, sharding=sharding, **changes), Task(loss=loss, orthogonal=matrices))
    return model


def train_in_turns(out, *, max_steps=4):
    pair = GeneratorAndCritic(small_model(), nn.Linear(12, 3))
    task = Task(loss=take_turns, part=lambda step: ("critic.", "generator.")[step % 2])
    fit(pair, run_config(out, rates=(("critic.", 2.0),), max_steps=max_steps), task)
    return pair


def on_two_ranks(out):
    """What each of the processes does that torchrun starts."""
    from bdiff_train.engine import torchrun

    torch.set_num_threads(1)
    with torchrun() as ranks:

        def dies(model, step, generator):
            if step == 3:
                raise KeyboardInterrupt
            return flow_matching(model, step, generator)

        for loss in (dies, flow_matching):
            try:
                model = train(out / "ranks", loss=loss)
            except KeyboardInterrupt:
                ranks.wait()
        handed_on = train(out / "handed on", max_steps=8)
        train_in_turns(out / "turns", max_steps=1)  # the generator has not had its turn
        turns = train_in_turns(out / "turns")
        looks = train(out / "looks", loss=look_first, sharding="whole")
        if ranks.is_first:
            models = {"ranks": model, "handed on": handed_on, "turns": turns, "looks": looks}
            torch.save({name: found.state_dict() for name, found in models.items()}, out / "found.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    found = {"whole": train(out / "whole")}
    train(out / "handed on")
    found["handed on"] = train(out / "whole to the end", max_steps=8)
    found["turns"] = train_in_turns(out / "turns alone")
    found["looks"] = train(out / "looks alone", loss=look_first)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run([sys.executable, *launch], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return out, found, torch.load(out / "found.pt", weights_only=True)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_weights(model, state):
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_two_ranks_train_what_one_process_trains_and_resume(runs):
    out, alone, ranks = runs
    assert losses(out / "ranks") == pytest.approx(losses(out / "whole"), abs=1e-4)
    assert len(losses(out / "ranks")) == 6
    assert_same_weights(alone["whole"], ranks["ranks"])


@pytest.mark.slow
def test_two_ranks_go_on_from_one_process(runs):
    out, alone, ranks = runs
    assert losses(out / "handed on") == pytest.approx(losses(out / "whole to the end"), abs=1e-4)
    assert_same_weights(alone["handed on"], ranks["handed on"])


@pytest.mark.slow
def test_one_process_goes_on_from_two_ranks(runs):
    out, alone, _ = runs
    assert not (out / "ranks" / "checkpoint.pt").exists()
    assert_same_weights(alone["handed on"], train(out / "ranks", max_steps=8).state_dict())
    assert losses(out / "ranks") == pytest.approx(losses(out / "whole to the end"), abs=1e-4)
    assert [path.name for path in (out / "ranks").glob("checkpoint*")] == ["checkpoint.pt"]


@pytest.mark.slow
def test_parts_take_turns_on_two_ranks_as_on_one(runs):
    out, alone, ranks = runs
    assert losses(out / "turns") == pytest.approx(losses(out / "turns alone"), abs=1e-4)
    assert_same_weights(alone["turns"], ranks["turns"])


@pytest.mark.slow
def test_ranks_may_ask_the_model_unequally_often(runs):
    out, alone, ranks = runs
    assert losses(out / "looks") == pytest.approx(losses(out / "looks alone"), abs=1e-4)
    assert_same_weights(alone["looks"], ranks["looks"])


def test_micro_batches_that_ranks_cannot_divide_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="micro_batches is 1; 2 ranks divide them"):
        fit(nn.Linear(1, 1), RunConfig(out=tmp_path, max_steps=1), Task(loss=flow_matching))


def test_what_needs_one_process_says_so_under_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="the autoencoder trains in one process, and torchrun started 2"):
        require_one_process("the autoencoder")


if __name__ == "__main__":
    on_two_ranks(Path(sys.argv[1]))
