"""The bench of takes samples every kind under each memory, measures the videos, and goes on where it stopped."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

import storyworld
from bdiff.cli.main import main
from bdiff_bench import cli
from bdiff_bench.harness.statistics import mean_interval
from bdiff_bench.takes import TakesBenchConfig, bench_takes, check, takes_tables
from bdiff_bench.takes import run as takes_run
from bdiff_bench.takes.figures import summarise
from bdiff_bench.takes.scores import chunk_scores, drift
from bdiff_core import CausalVAE, ChunkDiT, VAEConfig, save_transformer, save_vae, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with random weights, for takes."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_vae(CausalVAE(VAEConfig()), folder)
    save_transformer(ChunkDiT(replace(tiny(), dim=48, num_layers=1, num_heads=2, ffn_dim=48)), folder / "transformer")
    (folder / "sampling.json").write_text('{"richness": 2, "latent_frames": 3, "steps": 1, "guidance": 1.0}')
    return folder


def config_of(folder, out, **options):
    plain = {"takes": ("walk",), "policies": ("semantic", "none"), "num_takes": 1, "num_chunks": 5, "workers": 1}
    return TakesBenchConfig(out=out, model=folder, **(plain | options))


@pytest.fixture(scope="module")
def bench(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "out"
    seen = []
    summary = bench_takes(config_of(folder, out), on_video=lambda done, total, left: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    return out, summary


def test_a_line_a_row_and_a_strip_for_the_truth_and_each_memory(bench):
    out, summary = bench
    lines = [json.loads(line) for line in (out / "videos.jsonl").read_text().splitlines()]
    assert [line["policy"] for line in lines] == ["truth", "semantic", "none"]
    table = (out / "summary.md").read_text()
    for policy in ("truth", "semantic", "none"):
        assert f"\n| {policy} | 1 |" in table
    assert "minus semantic" in table
    with Image.open(out / "walk.png") as picture:
        assert picture.size == (5 * 64, 3 * 64)
    assert json.loads((out / "summary.json").read_text())["figures"] == summary["figures"]
    assert takes_tables(summary) == table


def test_a_random_model_is_worse_than_the_truth(bench):
    figures = {policy: one["figures"] for policy, one in bench[1]["figures"]["walk"].items()}
    assert figures["none"]["visible"]["mean"] < 0.6  # only the given first chunk may show the protagonist
    assert figures["truth"]["direction"]["mean"] >= figures["semantic"]["direction"]["mean"]


def test_a_stopped_bench_goes_on_and_more_memories_are_added(bench, folder, monkeypatch):
    out, before = bench
    asked, score = [], takes_run.score_video
    monkeypatch.setattr(takes_run, "score_video", lambda c, job, s: asked.append(job.policy) or score(c, job, s))
    after = bench_takes(config_of(folder, out, policies=("semantic", "none", "rolling")))
    assert asked == ["rolling"]
    assert after["figures"]["walk"]["none"] == before["figures"]["walk"]["none"]
    with pytest.raises(ValueError, match=r"another recipe \(different: seed\); take another --out"):
        bench_takes(config_of(folder, out, seed=1))


def test_every_memory_has_the_same_noise_and_first_chunk(folder, tmp_path):
    """Two memories that show the same give the same video."""
    config = config_of(folder, tmp_path, num_chunks=2, policies=("rolling", "full"))
    figures = bench_takes(config)["figures"]["walk"]
    assert figures["rolling"]["figures"] == figures["full"]["figures"]
    assert all(one["mean"] == 0 for one in figures["full"]["difference"].values())


def test_differences_are_paired_and_what_is_not_there_does_not_count():
    names = ("visible", "direction", "place", "sharpness", "clarity_drift", "motion_drift", "background_drift")

    def line(policy, story, value, place):
        return {"take": "walk", "policy": policy, "story": story} | dict.fromkeys(names, value) | {"place": place}

    lines = [line("a", 1, 0.5, None), line("a", 2, 0.9, 1.0), line("b", 1, 0.4, 0.5), line("b", 2, 0.6, 0.5)]
    found = summarise(lines[::-1], takes=["walk"], policies=["a", "b"], stories=[1, 2, 3])["walk"]
    assert found["b"]["difference"]["visible"] == mean_interval([0.4 - 0.5, 0.6 - 0.9])
    assert found["b"]["difference"]["place"] == mean_interval([-0.5])
    assert found["a"]["figures"]["place"]["mean"] == 1.0
    assert found["truth"] == {"videos": 0, "figures": {}, "difference": {}}


def test_drift_is_a_mean_relative_change():
    assert drift([2.0, 2.0, 2.0]) == 0.0
    assert drift([2.0, 1.0, 1.0]) == pytest.approx(0.5)
    assert math.isnan(drift([0.0, 1.0]))


def test_a_blurred_video_drifts_in_clarity_and_a_still_one_in_nothing():
    story = storyworld.render(3, 4, take="place", first_chunk_frames=9, chunk_frames=12)
    blurred = story.frames.clone()
    for chunk in (1, 2, 3):
        part = story.truth.chunk_of_frame == chunk
        small = torch.nn.functional.avg_pool2d(story.frames[:, part].transpose(0, 1), 4)
        blurred[:, part] = torch.nn.functional.interpolate(small, scale_factor=4).transpose(0, 1)
    true, made = (chunk_scores(frames, story)["clarity"] for frames in (story.frames, blurred))
    assert drift(made) > 5 * drift(true)


def test_names_of_the_command_are_those_of_the_world():
    assert cli.TAKES == storyworld.TAKES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"takes": ("film",)}, r"^take is 'film'; expected one of story, place, walk$"),
        ({"takes": ()}, r"^take is ''; expected at least one, each once$"),
        ({"policies": ("none", "none")}, r"^policy is 'none, none'; expected at least one, each once$"),
        ({"policies": ("some",)}, r"^policy is 'some'; expected one of semantic"),
    ],
)
def test_what_is_not_there_is_refused(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(folder, tmp_path, **changes)


def test_a_model_of_poorer_stories_is_refused_in_one_line(folder, tmp_path, capsys):
    (model := tmp_path / "model").mkdir()
    for name in ("vae.safetensors", "transformer"):
        (model / name).symlink_to(folder / name)
    (model / "sampling.json").write_text('{"richness": 1}')
    with pytest.raises(ValueError, match="a place is drawn at richness 2 only"):
        check(config_of(model, tmp_path / "out", takes=("place",)))
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "takes", "--model", str(model), "--out", str(tmp_path / "out"), "--take", "walk"])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "takes", "--model", str(model), "--out", str(tmp_path / "out"), "--take", "film"])
    assert stopped.value.code == 2
