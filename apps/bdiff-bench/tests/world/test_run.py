"""The bench samples and measures stories, and goes on where it stopped."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from bdiff.cli.main import main
from bdiff_bench.world import WorldBenchConfig, bench_world, check, retrieval_share
from bdiff_bench.world import run as world_run
from bdiff_core import CausalVAE, ChunkDiT, SentenceTextEncoder, VAEConfig, save_transformer, save_vae, tiny
from bdiff_train.transformer import FIRST_STORY
from kvbank import SemanticSparse


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_vae(CausalVAE(VAEConfig()), folder)
    save_transformer(ChunkDiT(replace(tiny(), dim=48, num_layers=1, num_heads=2, ffn_dim=48)), folder / "transformer")
    return folder


def config(folder, out, **options):
    plain = {"num_stories": 2, "num_chunks": 6, "settings": {"steps": 1}, "workers": 1}
    return WorldBenchConfig(out=out, model=folder, **(plain | options))


def test_a_random_model_gets_little_right_and_a_stopped_bench_goes_on(folder, tmp_path, monkeypatch):
    one = bench_world(config(folder, tmp_path, num_stories=1))
    assert one["stories"] == 1
    assert one["figures"]["visible"]["mean"] < 0.5  # only the given first chunk shows the protagonist
    asked = []
    score = world_run.score_story
    monkeypatch.setattr(world_run, "score_story", lambda f, true, p: asked.append(true.seed) or score(f, true, p))
    two = bench_world(config(folder, tmp_path))
    assert two["stories"] == 2
    assert asked == [FIRST_STORY + 1]
    assert json.loads((tmp_path / "summary.json").read_text()) == two
    table = (tmp_path / "summary.md").read_text()
    assert f"{two['figures']['direction']['mean']:.3f}" in table
    assert "over 2 stories" in table
    long = bench_world(config(folder, tmp_path / "long", num_stories=1, num_chunks=12))
    assert f"{long['growth']['palette']['mean']:+.4f}" in (tmp_path / "long" / "summary.md").read_text()


def test_figures_of_another_recipe_are_not_taken_for_those_asked_for(folder, tmp_path):
    """With the same folder, fewer stories are those of the longer bench; other settings are refused, and so is a folder
    that does not say what it was made with."""
    two = config(folder, tmp_path)
    bench_world(two)
    one = bench_world(replace(two, num_stories=1))
    assert one == bench_world(config(folder, tmp_path / "alone", num_stories=1)) | {"config": one["config"]}
    assert one["stories"] == 1
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    save_transformer(ChunkDiT(replace(tiny(), dim=48, num_layers=1, num_heads=2, ffn_dim=48)), other / "transformer")
    changes = {"seed": {"seed": 1}, "num_chunks": {"num_chunks": 7}}
    settings = {"steps": 2, "guidance": 1.5, "age_bonus": 0.3, "num_sink": 1, "richness": 0}
    changes |= {name: {"settings": two.settings | {name: value}} for name, value in settings.items()}
    for name, change in changes.items():
        with pytest.raises(ValueError, match=rf"another recipe \(different: {name}\); take another --out"):
            bench_world(replace(two, **change))
    with pytest.raises(ValueError, match=r"another recipe \(different: transformer\)"):
        check(replace(two, model=other))
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(ValueError, match="did not note what it was made with"):
        bench_world(two)


def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path, capsys):
    error = fails("bench", "world", "--model", tmp_path / "none", "--out", tmp_path / "out", capsys=capsys)
    assert "none" in error


def test_a_model_that_draws_no_storyworld_is_refused_before_the_first_story(folder, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    (model / "sampling.json").write_text('{"height": 32}')
    error = fails("bench", "world", "--model", model, "--out", tmp_path / "out", capsys=capsys)
    assert "(32, 64) pixels; the stories have (64, 64)" in error
    assert not list((tmp_path).glob("out/*"))


@pytest.mark.parametrize("names", [("--num-steps", "--seniority"), ("--steps", "--age-bonus")])
def test_settings_are_options_by_their_names_and_by_old_ones(folder, tmp_path, names, capsys):
    arguments = ["--num-stories", "1", "--num-chunks", "2", names[0], "2", names[1], "0.25", "--workers", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "world", "--model", str(folder), "--out", str(tmp_path / "out"), *arguments])
    assert stopped.value.code == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["num_steps"], config["seniority"]) == ("2", "0.25")  # names that summaries always had


def fails(*arguments, capsys):
    """The one line that a command ends in."""
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    return error


@pytest.mark.parametrize("num_chunks", [2, 12])
def test_returns_are_counted_in_videos_of_the_length_that_is_sampled(folder, tmp_path, num_chunks):
    summary = bench_world(config(folder, tmp_path, num_stories=1, num_chunks=num_chunks))
    found = retrieval_share(
        SentenceTextEncoder(), SemanticSparse(), range(FIRST_STORY, FIRST_STORY + 1), num_chunks=num_chunks
    )
    assert summary["retrieval"] == found
    assert (found["returns"] > 0) == (found["share"] is not None) == (num_chunks == 12)
    shown = "" if found["share"] is None else f" {found['share']:.3f}"
    table = (tmp_path / "summary.md").read_text()
    assert f"| {found['returns']} returns: an older chunk in view shows the place |{shown} |" in table
