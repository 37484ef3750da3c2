"""Training folders that bdiff 0.1 wrote are gone on with: there, a critic was a judge and a generator the model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bdiff import Sampling
from bdiff_core import CausalVAE, EncodedText, VAEConfig
from bdiff_train.data import load_stories, prepare_stories
from bdiff_train.data import stories as stories_module
from bdiff_train.engine import RunConfig, Task, fit
from bdiff_train.engine.log import plot_log
from bdiff_train.transformer.adversarial import OLD_NAMES

OLD = Path(__file__).with_name("written_by_0.1")
"""A training with a critic, stopped after five of eight steps, and what it ended with; two encoded stories."""


class Pair(nn.Module):
    """A generator and a critic of a layer each."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)


def loss(module, step, generator):
    """As it was when the folder was written."""
    x = torch.randn(8, 4, generator=generator)
    score = module.critic(module.generator(x))
    value = (score - x.sum(1, keepdim=True)).square().mean() if step % 2 else (score - 1).square().mean()
    return value, {"score": score.mean().item()}


def go_on(out, *, names):
    """Train the pair to the end; returns it and how many steps were made."""
    module, made = Pair(), []

    def counted(module, step, generator):
        made.append(step)
        return loss(module, step, generator)

    config = RunConfig(
        out=out, max_steps=8, log_steps=2, warmup_steps=2, learning_rate=0.01, rates=(("critic.", 2.0),), ema_decay=0.5
    )
    task = Task(
        loss=counted,
        orthogonal=[module.generator.weight],
        part=lambda step: "generator." if step % 2 else "critic.",
        draws=lambda step: step // 2,
        old_names=names,
    )
    fit(module, config, task)
    return module, made


def lines(file):
    """The lines of a log by today's names, without the time."""
    text = file.read_text()
    for old, new in OLD_NAMES.items():
        text = text.replace(f'"{old}', f'"{new}')
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text.splitlines()]


def test_a_training_is_gone_on_with_and_ends_where_it_would_have_ended(tmp_path):
    out = tmp_path / "out"
    shutil.copytree(OLD / "adversarial", out)
    module, made = go_on(out, names=OLD_NAMES)
    assert made == [5, 6, 7]
    for name, value in load_file(OLD / "end.safetensors").items():
        old = next(old for old in OLD_NAMES if name.startswith(old))
        found = module.state_dict()[OLD_NAMES[old] + name.removeprefix(old)]
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-6, msg=name)
    for line, expected in zip(lines(out / "log.jsonl"), lines(OLD / "log-at-the-end.jsonl"), strict=True):
        assert line == pytest.approx(expected, rel=1e-4)
    plot_log(out / "log.jsonl", tmp_path / "curve.png")
    again = torch.load(out / "checkpoint.pt", weights_only=True)
    assert sorted({name.split(".")[0] for name in (*again["model"], *again["guard"]["past"])}) == [
        "critic",
        "generator",
    ]


def test_its_names_are_not_those_of_today(tmp_path):
    """Or the test above would say nothing of older files."""
    out = tmp_path / "out"
    shutil.copytree(OLD / "adversarial", out)
    with pytest.raises(ValueError, match="is of another model"):
        go_on(out, names={})


def test_encoded_stories_are_found_and_read(tmp_path, monkeypatch):
    folder = tmp_path / "stories"
    shutil.copytree(OLD / "stories", folder)
    (shard,) = folder.iterdir()
    monkeypatch.setattr(stories_module, "fingerprint", lambda vae: shard.stem.split("-")[-1])
    monkeypatch.setattr(stories_module, "write_shard", None)  # nothing is to be encoded
    shards = prepare_stories(None, range(7, 9), folder=folder, num_chunks=2, richness=1)
    assert shards == [shard]

    class Encoder:
        def encode(self, prompts):
            return EncodedText(tokens=torch.zeros(len(prompts), 1, 3), embedding=torch.eye(len(prompts)))

    stories = load_stories(shards, Encoder())
    assert stories.latents.shape == (2, 10, 2, 8, 8)
    assert (stories.num_chunks, stories.frames_per_chunk) == (2, 5)


def test_an_autoencoder_has_the_name_that_it_had():
    """Or all stories were encoded again."""
    widths = {"encoder_widths": (4, 4), "decoder_widths": (4, 4, 4)}
    vae = CausalVAE(VAEConfig(latent_channels=2, **widths, encoder_blocks=(1, 1), decoder_blocks=(1, 1, 1)))
    for number, value in enumerate(vae.state_dict().values()):
        value.copy_(torch.arange(value.numel()).remainder(7 + number).reshape(value.shape))
    assert stories_module.fingerprint(vae) == (OLD / "fingerprint.txt").read_text().strip()


def test_a_model_is_sampled_by_the_settings_that_its_training_wrote():
    sampling, written = Sampling.of_model(OLD), json.loads((OLD / "sampling.json").read_text())
    assert sampling == Sampling(
        steps=written["steps"],
        shift=written["shift"],
        guidance=written["guidance"],
        age_bonus=written["seniority"],
        richness=written["richness"],
        num_sink=written["num_sink"],
    )
