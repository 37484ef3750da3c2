"""The benches measure what they say, and go on where they stopped."""

import json
import shutil
from dataclasses import asdict, replace
from math import nan

import pytest
import torch

import storyworld
from bdiff.cli.main import main
from bdiff.defaults import Sampling
from bdiff_bench import world
from bdiff_bench.harness.recipe import keep_recipe
from bdiff_bench.page import write_bench_page
from bdiff_bench.speed import SpeedBenchConfig, bench_speed
from bdiff_bench.world import WorldBenchConfig, bench_world, clarity_curve, summarise
from bdiff_core import (
    CausalVAE,
    ChunkDiT,
    EncodedText,
    SentenceTextEncoder,
    VAEConfig,
    save_transformer,
    save_vae,
    tiny,
)
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
    plain = {"num_stories": 2, "num_chunks": 6, "num_steps": 1, "workers": 1}
    return WorldBenchConfig(out=out, model=folder, **(plain | options))


def test_a_random_model_gets_little_right_and_a_stopped_bench_goes_on(folder, tmp_path, monkeypatch):
    one = bench_world(config(folder, tmp_path, num_stories=1))
    assert one["stories"] == 1
    assert one["figures"]["visible"]["mean"] < 0.5  # only the given first chunk shows the protagonist
    asked = []
    score = world.score_story
    monkeypatch.setattr(world, "score_story", lambda c, seed, parts: asked.append(seed) or score(c, seed, parts))
    two = bench_world(config(folder, tmp_path))
    assert two["stories"] == 2
    assert asked == [world.FIRST_STORY + 1]
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
    changes = {
        "seed": 1,
        "num_chunks": 7,
        "num_steps": 2,
        "guidance": 1.5,
        "seniority": 0.3,
        "num_sink": 1,
        "richness": 0,
    }
    for name, value in changes.items():
        named = name if name != "num_steps" else "steps"
        with pytest.raises(ValueError, match=rf"another recipe \(different: {named}\); take another --out"):
            bench_world(replace(two, **{name: value}))
    with pytest.raises(ValueError, match=r"another recipe \(different: transformer\)"):
        world.check(replace(two, model=other))
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(ValueError, match="did not note what it was made with"):
        bench_world(two)


def test_settings_that_a_recipe_knew_nothing_of_were_as_they_are_by_default(tmp_path):
    lines = tmp_path / "lines.jsonl"
    recipe = {"sampling": asdict(Sampling()), "seed": 0}
    keep_recipe(lines, recipe | {"seed": 1})
    keep_recipe(lines, recipe)  # nothing was made with the other one
    lines.write_text("{}\n")
    old = {name: value for name, value in recipe["sampling"].items() if name != "seniority"}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe | {"sampling": old}))
    keep_recipe(lines, recipe)
    with pytest.raises(ValueError, match="different: seniority, seed"):
        keep_recipe(lines, {"sampling": asdict(Sampling(seniority=0.1)), "seed": 1})


@pytest.mark.parametrize("command", ["world", "kv", "endurance"])
def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path, command, capsys):
    error = fails("bench", command, "--model", tmp_path / "none", "--out", tmp_path / "out", capsys=capsys)
    assert "none" in error


@pytest.mark.parametrize(("command", "options"), [("world", []), ("kv", ["--part", "video"])])
def test_a_model_that_draws_no_storyworld_is_refused_before_the_first_film(folder, tmp_path, command, options, capsys):
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    (model / "sampling.json").write_text('{"height": 32}')
    error = fails("bench", command, "--model", model, "--out", tmp_path / "out", *options, capsys=capsys)
    assert "the model draws pictures of (32, 64) pixels; the stories have (64, 64)" in error
    assert not list((tmp_path).glob("out/*"))


def fails(*arguments, capsys):
    """The one line that a command ends in."""
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    return error


def test_a_model_is_sampled_as_it_wants(tmp_path):
    (tmp_path / "sampling.json").write_text('{"steps": 5, "shift": 2.0, "guidance": 1.5, "noise": "shared"}')
    plain = WorldBenchConfig(out=tmp_path, model=tmp_path).sampling
    assert (plain.steps, plain.shift, plain.guidance, plain.noise) == (5, 2.0, 1.5, "shared")
    told = WorldBenchConfig(out=tmp_path, model=tmp_path, num_steps=3, guidance=1.0, seniority=0.2, num_sink=1)
    assert told.sampling == replace(plain, steps=3, guidance=1.0, seniority=0.2, num_sink=1)
    assert told.policy == SemanticSparse(seniority=0.2, num_sink=1)


def test_captions_recall_the_right_place():
    """The gate of the shipped model: 95% of the returns that no recent chunk helps with."""
    found = world.retrieval_share(
        SentenceTextEncoder(), SemanticSparse(), range(world.FIRST_STORY, world.FIRST_STORY + 24)
    )
    assert found["returns"] > 100
    assert found["share"] >= 0.95


@pytest.mark.parametrize("num_chunks", [2, 12])
def test_returns_are_counted_in_films_of_the_length_that_is_told(folder, tmp_path, num_chunks):
    summary = bench_world(config(folder, tmp_path, num_stories=1, num_chunks=num_chunks))
    found = world.retrieval_share(
        SentenceTextEncoder(), SemanticSparse(), range(world.FIRST_STORY, world.FIRST_STORY + 1), num_chunks=num_chunks
    )
    assert summary["retrieval"] == found
    assert (found["returns"] > 0) == (found["share"] is not None) == (num_chunks == 12)
    shown = "" if found["share"] is None else f" {found['share']:.3f}"
    table = (tmp_path / "summary.md").read_text()
    assert f"| {found['returns']} returns: an older chunk in view shows the place |{shown} |" in table


def test_a_blind_memory_recalls_by_chance():
    class Blind:
        def encode(self, prompts):
            drawn = torch.randn(len(prompts), 8, generator=torch.Generator().manual_seed(len(prompts[0])))
            return EncodedText(tokens=drawn[:, None], embedding=torch.nn.functional.normalize(drawn, dim=1))

    assert (
        world.retrieval_share(Blind(), SemanticSparse(), range(world.FIRST_STORY, world.FIRST_STORY + 24))["share"]
        < 0.7
    )


def test_clarity_of_the_truth_is_measured_per_chunk():
    story = storyworld.render(5, 3)
    curve = clarity_curve(story.frames, story)
    assert len(curve) == 3
    blurred = torch.nn.functional.avg_pool2d(story.frames.transpose(0, 1), 3, 1, 1).transpose(0, 1)
    assert all(soft < 0.5 * sharp for soft, sharp in zip(clarity_curve(blurred, story), curve, strict=True))


NO_RETURNS = {"returns": [], "true_returns": []}
FIGURES = ("visible", "direction", "place", "clarity_ratio", "true_clarity_ratio", "clarity_to_truth")


def test_the_interval_of_a_summary_holds_its_mean():
    lines = [dict.fromkeys(FIGURES, value) | NO_RETURNS | {"story": i} for i, value in enumerate((0.5, 0.7, 0.9, nan))]
    figure = summarise(lines, num_chunks=6)["figures"]["visible"]
    assert figure["mean"] == pytest.approx(0.7)
    assert figure["low"] < 0.7 < figure["high"]
    assert figure["least"] == 0.5


def test_a_summary_does_not_depend_on_which_worker_finished_first():
    values = (0.31, nan, 0.52, 0.9, 0.74, 0.05)
    lines = [
        dict.fromkeys(FIGURES, value)
        | {"story": i, "returns": [{"chunk": c, "palette": 0.01 * c * (1 + i), "subject": None} for c in range(3, 25)]}
        | {"true_returns": [{"chunk": c, "palette": 0.01 * i * c, "subject": None} for c in range(3, 25)]}
        for i, value in enumerate(values)
    ]
    in_order = summarise(lines, num_chunks=25)
    for order in ((5, 4, 3, 2, 1, 0), (2, 0, 1, 4, 5, 3)):
        assert summarise([lines[i] for i in order], num_chunks=25) == in_order
    assert [line["story"] for line in lines] == [0, 1, 2, 3, 4, 5]


def test_growth_is_the_rise_of_a_line_through_the_returns_of_all_films():
    """From chunk 5 to the last; less that of the true films, which chunks by what they show make grow, too."""
    plain = dict.fromkeys(FIGURES, 1.0) | NO_RETURNS

    def returns(error):
        return [{"chunk": c, "palette": error(c), "subject": 0.05 if c % 2 else None} for c in range(3, 25)]

    def line(story, error):
        return plain | {"story": story, "returns": returns(error), "true_returns": returns(lambda c: 0.004 * c)}

    rising = [line(0, lambda c: 0.01 * c), line(1, lambda c: 0.01 * c + 0.001 * (-1) ** c)]
    growth = summarise([*rising, plain | {"story": 2}], num_chunks=25)["growth"]
    assert growth["palette"]["mean"] == pytest.approx(0.19, abs=2e-3)
    assert growth["palette"]["low"] > 0.18
    assert growth["palette_beyond_true"]["mean"] == pytest.approx(0.006 * 19, abs=2e-3)
    assert 0.11 < growth["palette_beyond_true"]["low"] < growth["palette_beyond_true"]["high"] < 0.118
    assert growth["subject"]["mean"] == pytest.approx(0, abs=1e-12)
    assert summarise([plain | {"story": 2}], num_chunks=25)["growth"] == {}


def test_speed_bench_writes_its_figures(folder, tmp_path):
    figures = bench_speed(
        SpeedBenchConfig(out=tmp_path / "speed.json", model=folder, num_chunks=9, early=3, late=7, neighbours=2)
    )
    assert json.loads((tmp_path / "speed.json").read_text()) == figures
    rolling, semantic = figures["policies"]["rolling"], figures["policies"]["semantic"]
    assert rolling["bank_bytes"]["early"] <= rolling["bank_bytes"]["late"]
    assert semantic["bank_bytes_a_chunk"] > 0
    assert rolling["times_real_time"] > 0
    write_bench_page(tmp_path / "page.md", title="Speed", world=None, speed=tmp_path / "speed.json")
    page = (tmp_path / "page.md").read_text()
    assert f"| rolling | {rolling['seconds_a_chunk']['median']:.2f}" in page
    assert torch.__version__ in page


def test_a_page_needs_figures(tmp_path):
    with pytest.raises(ValueError, match="nothing to show"):
        write_bench_page(tmp_path / "page.md", title="Empty", world=None, speed=None)
    (tmp_path / "speed.json").write_text('{"machine": 1}')
    with pytest.raises(ValueError, match="not the figures of a bench"):
        write_bench_page(tmp_path / "page.md", title="Broken", world=None, speed=tmp_path / "speed.json")
    assert not (tmp_path / "page.md").exists()


def test_chunks_to_compare_must_exist(tmp_path):
    with pytest.raises(ValueError, match="must lie in a video of 50 chunks"):
        SpeedBenchConfig(out=tmp_path / "speed.json", num_chunks=50)
