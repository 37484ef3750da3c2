"""Batches are what the design says, and a killed run ends where an unbroken one does."""

import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bdiff.defaults import WEIGHTS, Sampling
from bdiff_core import (
    CausalVAE,
    ChunkDiT,
    VAEConfig,
    load_transformer,
    load_vae,
    save_transformer,
    save_vae,
    tiny,
)
from bdiff_train.data.stories import StorySet, prepare_stories
from bdiff_train.engine.loop import step_generator
from bdiff_train.transformer.batches import GatherConfig, make_batch
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.loss import motion_weight
from bdiff_train.transformer.train import train_model
from kvbank import Rolling, SemanticSparse
from noisesched import chunk_levels

CHUNKS, FRAMES, TOKENS = 9, 5, 80


@pytest.fixture(scope="module")
def stories():
    """Latents that name their story and chunk; captions of three meanings in turn."""
    generator = torch.Generator().manual_seed(0)
    number = torch.arange(2 * CHUNKS).view(2, CHUNKS).repeat_interleave(FRAMES, 1).half()
    return StorySet(
        latents=number[:, :, None, None, None].expand(-1, -1, 2, 8, 8).contiguous(),
        caption=torch.arange(CHUNKS).remainder(3).expand(2, -1),
        tokens=torch.randn(3, 4, 6, generator=generator).half(),
        embedding=torch.eye(3),
    )


def batch(world, policy=None, *, step=0, **options):
    plain = {"text_dropout": 0.0, "token_drop": 0.0, "context_noise": 0.0, "stories": 6, "copies": 3}
    return make_batch(
        world,
        chunk_levels(CHUNKS),
        policy or SemanticSparse(),
        config=GatherConfig(**(plain | options)),
        tokens_per_chunk=TOKENS,
        generator=step_generator(1, step),
    )


def test_a_sample_shows_the_chunks_that_the_policy_selects(stories):
    made = batch(stories, stories=24)
    policy = SemanticSparse()
    for row in range(24):
        target = int(made.clean[row, 0, 0, 0, 0]) % CHUNKS
        similarity = [1.0 if (c - target) % 3 == 0 else 0.0 for c in range(target)]
        seen = list(policy.select(target, similarity))
        context = made.latents[row, 0, : 4 * FRAMES : FRAMES, 0, 0].remainder(CHUNKS).int().tolist()
        absent = 4 - len(seen)
        assert context[absent:] == seen
        assert made.gather.slots[row].tolist() == [0] * absent + list(range(-len(seen), 0)) + [0] * 3
        captions = [*[c % 3 for c in seen], *[target % 3] * 3]
        assert torch.equal(made.text[row, absent:], stories.tokens[captions].float())


def test_clean_chunks_see_the_past_and_copies_see_no_other_copy(stories):
    made = batch(stories, stories=24)
    for row in range(24):
        absent = 4 - int((made.gather.slots[row, :4] < 0).sum())
        visible = made.gather.visible[row]
        for i in range(7):
            for j in range(7):
                past = absent <= j < min(i, 4)
                assert bool(visible[i, j]) == (i == j or past)


def test_copies_are_noisy_at_their_level_and_context_is_clean(stories):
    made = batch(stories)
    levels = made.levels.unflatten(1, (7, FRAMES))
    assert (levels[:, :4] == 0).all()
    assert (levels[:, 4:] > 0).all()
    assert torch.equal(levels[:, 4:].amax(2), levels[:, 4:].amin(2))
    noisy = made.latents[:, :, 4 * FRAMES :]
    level = made.levels[:, None, 4 * FRAMES :, None, None]
    torch.testing.assert_close(noisy, (1 - level) * made.clean + level * made.noise)
    assert made.noise.std() == pytest.approx(1.0, abs=0.05)


def test_later_chunks_are_trained_at_higher_levels(stories):
    made = [batch(stories, stories=64, copies=8, step=k) for k in range(3)]
    targets = torch.cat([m.clean[:, 0, 0, 0, 0] for m in made]).remainder(CHUNKS)
    levels = torch.cat([m.levels.unflatten(1, (12, FRAMES))[:, 4:, 0] for m in made])
    expected = chunk_levels(CHUNKS).float()
    for chunk in (0, CHUNKS - 1):
        assert levels[targets == chunk].median() == pytest.approx(expected[chunk].item(), abs=0.08)


def test_text_is_dropped_for_a_whole_sample(stories):
    made = batch(stories, stories=64, text_dropout=0.5)
    silent = (made.text == 0).flatten(2).all(2)
    assert (silent.all(1) | ~silent.any(1)).all()
    assert 16 < int(silent.all(1).sum()) < 48


def test_a_batch_is_a_function_of_seed_and_step(stories):
    one, again, other = batch(stories), batch(stories), batch(stories, step=1)
    assert torch.equal(one.latents, again.latents)
    assert not torch.equal(one.latents, other.latents)


def test_what_moves_within_a_chunk_weighs_more():
    still = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 2 * FRAMES, 1, 1)
    still[:, :, FRAMES:] += 1  # the second chunk shows another picture, which is no motion
    assert torch.allclose(motion_weight(still, frames_per_chunk=FRAMES, strength=5.0), torch.ones(()))
    moving = still.clone()
    moving[:, :, 1, 2, 3] += 100.0
    weight = motion_weight(moving, frames_per_chunk=FRAMES, strength=5.0)
    assert weight.shape == (2, 1, 2 * FRAMES, 8, 8)
    assert weight.mean().item() == pytest.approx(1.0)
    assert (weight[:, 0, 1, 2, 3] / weight[:, 0, 0, 0, 0]).tolist() == pytest.approx([6.0, 6.0], rel=1e-3)


def test_a_policy_that_shows_too_much_is_refused(stories):
    with pytest.raises(ValueError, match=r"shows \d chunks; GatherConfig.context is 4"):
        batch(stories, Rolling(8), stories=24)


@pytest.fixture(scope="module")
def run_config(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("train")
    torch.manual_seed(0)
    save_vae(CausalVAE(VAEConfig()), folder / "vae.safetensors")
    return ModelTrainConfig(
        out=folder / "whole",
        vae=folder / "vae.safetensors",
        stories=folder / "stories",
        max_steps=4,
        num_stories=1,
        chunks_per_story=4,
        held_out_stories=1,
        model=replace(tiny(), dim=48, num_layers=1, num_heads=2, ffn_dim=48),
        batch=GatherConfig(stories=1, copies=1),
        decay=((0.5, 0.5),),
        preview_chunks=2,
    )


def test_a_killed_run_ends_where_an_unbroken_one_does(run_config, monkeypatch):
    import bdiff_train.engine.loop as run

    train_model(run_config)
    broken = replace(run_config, out=run_config.out.with_name("broken"))
    step = run._Run.step

    def die_at_step_two(self, loss):
        if self.progress.step == 2:
            self.save()
            raise KeyboardInterrupt
        return step(self, loss)

    monkeypatch.setattr(run._Run, "step", die_at_step_two)
    with pytest.raises(KeyboardInterrupt):
        train_model(broken)
    monkeypatch.undo()
    train_model(broken)
    stopped = replace(run_config, out=run_config.out.with_name("stopped"))
    seen = []
    early = train_model(stopped, watch=lambda fraction: seen.append(fraction) or fraction >= 0.5)
    assert (early.steps, early.finished, seen) == (2, False, [0.25, 0.5])
    assert not (stopped.out / "transformer").exists()
    assert train_model(stopped, watch=lambda fraction: fraction == 1).finished
    gone_on = torch.load(stopped.out / "checkpoint.pt", weights_only=True)
    whole, resumed = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (run_config.out, broken.out))
    assert whole["step"] == resumed["step"] == 4
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
        assert torch.equal(value, gone_on["model"][name]), name
    for name in ("transformer/model.safetensors", "curve.png", "preview.png", "recipe.json", "log.jsonl"):
        assert (broken.out / name).stat().st_size > 0


_KILLED = """
import functools, pickle, sys, time
import bdiff_train.transformer.train as training
training.RunConfig = functools.partial(training.RunConfig, checkpoint_minutes=0)

def watch(fraction):
    if fraction > 0.5:
        print("hanging", flush=True)
        time.sleep(600)
    return False

training.train_model(pickle.load(sys.stdin.buffer), watch=watch)
"""


def test_forty_steps_are_twenty_a_sigkill_and_twenty_more(run_config):
    """A transformer, bit for bit: the order of the data, all draws, both optimizers and the average."""
    whole, parts = (
        replace(run_config, out=run_config.out.with_name(name), max_steps=40) for name in ("forty", "parts")
    )
    train_model(whole)
    with subprocess.Popen([sys.executable, "-c", _KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(pickle.dumps(parts))
        process.stdin.close()
        assert process.stdout.readline() == b"hanging\n"
        process.send_signal(signal.SIGKILL)
    assert torch.load(parts.out / "checkpoint.pt", weights_only=True)["step"] == 20
    train_model(parts)
    one, other = (torch.load(config.out / "checkpoint.pt", weights_only=True) for config in (whole, parts))
    assert one["step"] == other["step"] == 40
    for part in ("model", "average", "optimizers"):
        for name, value in _tensors(one[part]):
            assert torch.equal(value, dict(_tensors(other[part]))[name]), name
    weights = [(config.out / "transformer/model.safetensors").read_bytes() for config in (whole, parts)]
    assert weights[0] == weights[1]


def _tensors(tree, name=""):
    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, (dict, list, tuple)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _tensors(value, f"{name}/{key}")


def test_training_goes_on_from_shipped_weights_in_single_precision(run_config):
    """Weights ship in half precision, in which AdamW's steps and the average would be lost to rounding."""
    first = train_model(replace(run_config, out=run_config.out.with_name("first"), max_steps=1))
    onward = replace(
        run_config, out=run_config.out.with_name("onward"), start_from=run_config.out.with_name("first") / "transformer"
    )
    train_model(replace(onward, max_steps=1, learning_rate=1e-12, orthogonal_learning_rate=1e-12))
    begun, state = (
        torch.load(run_config.out.with_name(name) / "checkpoint.pt", weights_only=True) for name in ("first", "onward")
    )
    assert first.steps == state["step"] == 1
    for name, value in state["average"].items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, begun["average"][name], atol=2e-3), name


def test_the_folder_of_a_training_is_a_model_that_says_how_it_wants_to_be_sampled(run_config):
    out = run_config.out.with_name("sampled")
    train_model(replace(run_config, out=out, max_steps=1, preview_chunks=3))
    with Image.open(out / "preview.png") as sheet:  # two lines of truth and film, three frames a chunk
        assert sheet.size == (2 * 3 * 64, 2 * 2 * 64)
    assert Sampling.of_model(out) == replace(Sampling.of_model(WEIGHTS), richness=run_config.richness, num_sink=0)
    used, kept = load_vae(run_config.vae).state_dict(), load_vae(out / "vae.safetensors").state_dict()
    for name, value in used.items():
        torch.testing.assert_close(kept[name].float(), value.float(), atol=2e-3, rtol=2e-3)


def test_stories_of_two_autoencoders_are_not_mixed(tmp_path):
    shards = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        shards += prepare_stories(CausalVAE(VAEConfig()), [5], folder=tmp_path, num_chunks=2)
    first, other, again = shards
    assert first == again != other
    one, two = (load_file(shard)["latents"] for shard in (first, other))
    assert not torch.equal(one, two)


def test_what_goes_on_from_a_model_reads_prompts_as_that_model_does(run_config, tmp_path):
    start = ChunkDiT(replace(run_config.model, text_length=20))
    save_transformer(start, tmp_path / "start")
    train_model(replace(run_config, out=tmp_path / "out", start_from=tmp_path / "start", max_steps=1))
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["model"]["text_length"] == 20
    assert load_transformer(tmp_path / "out" / "transformer").config.text_length == 20


def test_equal_captions_are_equally_similar():
    """Products of equal rows of a matrix differ in their last bits, and the memory would choose others for them."""
    generator = torch.Generator().manual_seed(0)
    film = StorySet(
        latents=torch.zeros(40, 25, 1, 1, 1),
        caption=torch.randint(6, (40, 25), generator=generator),
        tokens=torch.zeros(6, 1, 1),
        embedding=torch.nn.functional.normalize(torch.randn(6, 384, generator=generator), dim=1),
    )
    exact = film.embedding.double() @ film.embedding.double().T
    for story in range(40):
        of = film.caption[story].tolist()
        for chunk in range(25):
            found = film.similarity(story, chunk)
            assert found == pytest.approx(exact[of[chunk], of[:chunk]].tolist(), abs=1e-6)
            assert len(set(zip(of[:chunk], found, strict=True))) == len(set(of[:chunk]))


def test_an_unknown_policy_is_refused(run_config):
    with pytest.raises(ValueError, match="policy is 'ring'; expected one of semantic, rolling"):
        replace(run_config, policy="ring")
