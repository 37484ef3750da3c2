"""A run stops where it must and says of which batch; its log says how fast it was."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bdiff_train.engine.config import RunConfig, Task
from bdiff_train.engine.guards import Guard, GuardConfig
from bdiff_train.engine.log import TrainingLog, Work
from bdiff_train.engine.loop import fit


def loss_with_factors(factors):
    def loss(model, step, generator):
        value = (model(torch.randn(4, 5, generator=generator)) - 1).square().mean()
        return value * factors.get(step, 1.0), {}

    return loss


def name(step, generator):
    return {"stories": [step, 7], "chunks": [3, 4]}


def run(out, factors, **guard):
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    config = RunConfig(out=out, max_steps=12, guard=GuardConfig(**guard), checkpoint_minutes=0, seed=5, log_steps=1)
    fit(model, config, Task(loss=loss_with_factors(factors), batch_name=name))
    return model


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_a_run_with_its_batch_named(tmp_path, factor):
    with pytest.raises(FloatingPointError, match=r"up to step 6.*seed 5, step 6, .*stories \[6, 7\], chunks \[3, 4\]"):
        run(tmp_path, {6: factor}, bad_steps=1)
    line = json.loads((tmp_path / "bad_batches.jsonl").read_text())
    assert line["step"] == 6
    assert line["micro_batches"][0]["stories"] == [6, 7]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6


def test_a_spike_is_refused_and_the_run_goes_on(tmp_path, caplog):
    calm = run(tmp_path / "calm", {8: 0.0}, spike=30.0, window=4)  # a step of that batch without any gradient
    spiked = run(tmp_path / "spiked", {8: 1e6}, spike=30.0, window=4)
    assert "the loss is" in caplog.text
    assert "stories [8, 7]" in caplog.text
    assert torch.allclose(calm.weight, spiked.weight, atol=0.02)
    assert not (tmp_path / "calm" / "bad_batches.jsonl").exists()


def test_what_is_usual_survives_a_stop(tmp_path):
    """Otherwise a resumed run would accept what an unbroken one refuses."""
    whole = run(tmp_path / "whole", {8: 1e6}, spike=30.0, window=6)
    torch.manual_seed(0)
    config = RunConfig(
        out=tmp_path / "parts", max_steps=12, guard=GuardConfig(spike=30.0, window=6), checkpoint_minutes=0, seed=5
    )
    dies = loss_with_factors({8: 1e6})

    def loss(model, step, generator):
        if step == 7:
            raise KeyboardInterrupt
        return dies(model, step, generator)

    with pytest.raises(KeyboardInterrupt):
        fit(nn.Linear(5, 3), config, Task(loss=loss))
    model = nn.Linear(5, 3)
    fit(model, config, Task(loss=dies))
    assert torch.equal(model.weight, whole.weight)


def test_parts_that_take_turns_are_judged_apart():
    guard = Guard(config=GuardConfig(spike=10.0, window=2))
    for _ in range(2):
        assert guard.complaint("model.", 1.0, 1.0) is None
        assert guard.complaint("judge.", 1000.0, 1000.0) is None
    assert guard.complaint("judge.", 2000.0, 2000.0) is None
    assert "the loss is 2000 times its median" in guard.complaint("model.", 2000.0, 1.0)
    assert "the gradient is 2000 times its median" in guard.complaint("model.", 1.0, 2000.0)
    assert guard.bad == 2
    assert guard.complaint("model.", -5.0, 1.0) is None
    assert guard.bad == 0


def test_guards_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"spike is 1.0"):
        GuardConfig(spike=1.0)


def test_a_checkpoint_of_earlier_versions_is_gone_on_with(tmp_path):
    torch.manual_seed(0)
    whole, model = nn.Linear(5, 3), nn.Linear(5, 3)
    model.load_state_dict(whole.state_dict())
    config = RunConfig(out=tmp_path / "whole", max_steps=4)
    fit(whole, config, Task(loss=loss_with_factors({})))
    parts = RunConfig(out=tmp_path / "parts", max_steps=4, checkpoint_minutes=0)

    def dies(module, step, generator):
        if step == 2:
            raise KeyboardInterrupt
        return loss_with_factors({})(module, step, generator)

    with pytest.raises(KeyboardInterrupt):
        fit(model, parts, Task(loss=dies))
    old = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    del old["guard"]
    assert set(old) == {"model", "average", "optimizers", "random", "step", "seconds", "evaluation"}
    torch.save(old, tmp_path / "parts" / "checkpoint.pt")
    fit(model, parts, Task(loss=loss_with_factors({})))
    assert torch.equal(model.weight, whole.weight)


def test_the_log_tells_throughput_and_its_share_of_the_machine(tmp_path):
    work = Work(tokens=100, flops=10**6, rate=1e9)
    config = RunConfig(out=tmp_path, max_steps=5, micro_batches=2, log_steps=2, work=work)
    fit(nn.Linear(5, 3), config, Task(loss=loss_with_factors({})))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    for line in lines:
        assert line["tokens_per_second"] > 0
        share = line["tokens_per_second"] / work.tokens * work.flops / work.rate
        assert line["matmul_share"] == pytest.approx(share, rel=1e-4)


class Events:
    """What TensorBoard's writer is told."""

    def __init__(self, log_dir, purge_step):
        self.log_dir, self.purge_step, self.scalars, self.closed = log_dir, purge_step, [], False
        Events.last = self

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def close(self):
        self.closed = True


def test_events_are_what_the_log_says_and_a_resumed_run_purges_what_came_after(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Events))
    for steps, purge in ((2, None), (4, 3)):
        config = RunConfig(out=tmp_path, max_steps=steps, log_steps=1, tensorboard=True)
        fit(nn.Linear(5, 3), config, Task(loss=loss_with_factors({})))
        assert Events.last.log_dir == str(tmp_path / "tensorboard")
        assert Events.last.purge_step == purge
        assert Events.last.closed
        written = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        told = [(value, step) for name, value, step in Events.last.scalars if name == "loss"]
        expected = [(line["loss"], line["step"]) for line in written if line["step"] >= (purge or 1)]
        assert [step for _, step in told] == [step for _, step in expected]
        assert [value for value, _ in told] == pytest.approx([value for value, _ in expected], rel=1e-5)


def test_tensorboard_that_is_not_installed_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'bdiff\[tensorboard\]'"):
        TrainingLog(tmp_path, tensorboard=True)
