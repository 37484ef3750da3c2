"""A killed training ends where an unbroken one does, and its folder is a model."""

import json
import math
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import storyworld
from bdiff import Sampling
from bdiff.cli.main import cli
from bdiff.defaults import WEIGHTS
from bdiff_core import CausalVAE, ChunkDiT, load_transformer, load_vae, save_transformer, save_vae, tiny
from bdiff_core.vae import VAEConfig
from bdiff_train import ModelTrainConfig, train_model
from bdiff_train.engine import loop as run
from bdiff_train.transformer import (
    FIRST_STORY,
    RECIPES,
    BatchConfig,
    Files,
    ModelTask,
    StorySampler,
    run_config,
)
from bdiff_train.transformer.train import recipe_json

FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))


@pytest.fixture(scope="module")
def small_config(tmp_path_factory):
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
        batch=BatchConfig(stories=1, copies=1),
        decay=((0.5, 0.5),),
        preview_chunks=2,
    )


def test_a_killed_run_ends_where_an_unbroken_one_does(small_config, monkeypatch):
    train_model(small_config)
    broken = replace(small_config, out=small_config.out.with_name("broken"))
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
    stopped = replace(small_config, out=small_config.out.with_name("stopped"))
    seen = []
    early = train_model(stopped, watch=lambda fraction: seen.append(fraction) or fraction >= 0.5)
    assert (early.steps, early.finished, seen) == (2, False, [0.25, 0.5])
    assert not (stopped.out / "transformer").exists()
    assert train_model(stopped, watch=lambda fraction: fraction == 1).finished
    gone_on = torch.load(stopped.out / "checkpoint.pt", weights_only=True)
    whole, resumed = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (small_config.out, broken.out))
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


def test_forty_steps_are_twenty_a_sigkill_and_twenty_more(small_config):
    """A transformer, bit for bit: the order of the data, all draws, both optimizers and the average."""
    whole, parts = (
        replace(small_config, out=small_config.out.with_name(name), max_steps=40) for name in ("forty", "parts")
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


def test_training_goes_on_from_shipped_weights_in_single_precision(small_config):
    """Weights ship in half precision, in which AdamW's steps and the average would be lost to rounding."""
    first = train_model(replace(small_config, out=small_config.out.with_name("first"), max_steps=1))
    onward = replace(
        small_config,
        out=small_config.out.with_name("onward"),
        start_from=small_config.out.with_name("first") / "transformer",
    )
    train_model(replace(onward, max_steps=1, learning_rate=1e-12, orthogonal_learning_rate=1e-12))
    begun, state = (
        torch.load(small_config.out.with_name(name) / "checkpoint.pt", weights_only=True)
        for name in ("first", "onward")
    )
    assert first.steps == state["step"] == 1
    for name, value in state["average"].items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, begun["average"][name], atol=2e-3), name


def test_the_folder_of_a_training_is_a_model_that_says_how_it_wants_to_be_sampled(small_config):
    out = small_config.out.with_name("sampled")
    train_model(replace(small_config, out=out, max_steps=1, preview_chunks=3))
    with Image.open(out / "preview.png") as sheet:  # two lines of truth and sample, three frames a chunk
        assert sheet.size == (2 * 3 * 64, 2 * 2 * 64)
    assert Sampling.of_model(out) == replace(Sampling.of_model(WEIGHTS), richness=small_config.richness, num_sink=0)
    used, kept = load_vae(small_config.vae).state_dict(), load_vae(out / "vae.safetensors").state_dict()
    for name, value in used.items():
        torch.testing.assert_close(kept[name].float(), value.float(), atol=2e-3, rtol=2e-3)


def test_a_training_by_default_is_the_one_it_was(small_config):
    result = train_model(replace(small_config, out=small_config.out.with_name("as-before")))
    assert result.evaluation == {"held_out_loss": pytest.approx(1.158737301826477, rel=1e-4)}
    names = sorted(shard.name.rpartition("-")[0] for shard in small_config.stories.glob("*-1x4-*"))
    assert names == ["stories-r1-0000000-1x4", "stories-r1-1000000-1x4"]
    known = json.loads((small_config.out.with_name("as-before") / "words.json").read_text())
    assert known == storyworld.words(("story",), companions=False)


@pytest.fixture(scope="module")
def mixed(small_config):
    """A training on two kinds of takes with short chunks, for three memories, stopped after two of four steps."""
    config = replace(
        small_config,
        out=small_config.out.with_name("mixed"),
        takes=("story", "walk"),
        richness=2,
        latent_frames=2,
        more_policies=("none", "sink"),
    )
    assert not train_model(config, watch=lambda fraction: fraction >= 0.5).finished
    assert not (config.out / "words.json").exists()
    train_model(config)
    return config


def test_a_folder_of_several_kinds_has_their_words_and_its_length_of_chunks(mixed, small_config):
    assert json.loads((mixed.out / "words.json").read_text()) == storyworld.words(("story", "walk"))
    settings = json.loads((mixed.out / "recipe.json").read_text())
    named = {name: settings[name] for name in ("takes", "latent_frames", "policy", "more_policies")}
    assert named == {
        "takes": ["story", "walk"],
        "latent_frames": 2,
        "policy": "semantic",
        "more_policies": ["none", "sink"],
    }
    names = {shard.name.rpartition("-")[0] for shard in small_config.stories.glob("*-f2-*")}
    assert names == {f"{kind}-f2-r2-{seed}-1x4" for kind in ("stories", "walk") for seed in ("0000000", "1000000")}


def test_the_log_has_the_loss_of_each_kind_also_after_a_stop(mixed):
    lines = [json.loads(line) for line in (mixed.out / "log.jsonl").read_text().splitlines()]
    (figures,) = (line for line in lines if "held_out_loss" in line)
    of_kinds = [figures[f"held_out_loss.{kind}"] for kind in ("story", "walk")]
    assert figures["held_out_loss"] == pytest.approx(sum(of_kinds) / 2, rel=1e-4)
    assert figures["step"] == 4
    unbroken = replace(mixed, out=mixed.out.with_name("unbroken"))
    train_model(unbroken)
    one, other = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (mixed.out, unbroken.out))
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())


def test_a_model_of_short_chunks_samples_them(mixed, tmp_path):
    sampler = StorySampler.load(mixed.out, transformer=mixed.out / "transformer", sampling=Sampling.of_model(mixed.out))
    assert sampler.story(FIRST_STORY, 3).chunk_frames == (5, 8, 8)
    with Image.open(mixed.out / "preview.png") as sheet:
        assert sheet.size == (3 * 64, 2 * 2 * 64)
    words = ["sample", "--model", str(mixed.out), "--prompt", "a fox waits", "--steps", "1", "--scale", "1"]
    done = CliRunner().invoke(cli, [*words, "--seconds", "2", "--out", str(tmp_path / "video")])
    assert done.exit_code == 0, done.output
    (video,) = (tmp_path / "video").glob("*.mp4")
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5 + 8 + 8  # two seconds in whole chunks


def test_what_goes_on_from_a_model_reads_prompts_as_that_model_does(small_config, tmp_path):
    start = ChunkDiT(replace(small_config.model, text_length=20))
    save_transformer(start, tmp_path / "start")
    train_model(replace(small_config, out=tmp_path / "out", start_from=tmp_path / "start", max_steps=1))
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["model"]["text_length"] == 20
    assert load_transformer(tmp_path / "out" / "transformer").config.text_length == 20


def test_ranks_gather_the_whole_model_where_they_call_it_unequally_often(make_data, small_model):
    data, model = make_data(), small_model()
    sharding = {}
    for name in ("stage2", "stage3", "sink", "anchor"):
        config = RECIPES[name](FILES)
        sharding[name] = run_config(config, ModelTask(config=config, data=data), model).sharding
    assert sharding == {"stage2": "blocks", "stage3": "whole", "sink": "whole", "anchor": "whole"}


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_are_written_in_strict_json(name):
    def refuse(constant):
        raise AssertionError(constant)

    config = replace(RECIPES[name](FILES), max_steps=3, minutes=math.inf)
    written = json.loads(recipe_json(config), parse_constant=refuse)
    assert (written["recipe"], written["minutes"], written["max_steps"]) == (config.recipe, None, 3)
    assert written["batch"]["estimated_passes"] == config.batch.estimated_passes
