"""The study of the memory's cost, at toy sizes: what it measures is there and makes sense."""

import json
import shutil
from dataclasses import replace

import pytest

from studies.command import run_study, study
from studies.memory_cost import MemoryCostConfig, measure_memory_cost, tiny_config
from studies.memory_cost.page import memory_cost_parts


@pytest.fixture(scope="module")
def config(tiny_model, tmp_path_factory):
    return tiny_config(MemoryCostConfig(out=tmp_path_factory.mktemp("cost"), model=tiny_model))


@pytest.fixture(scope="module")
def figures(config):
    return measure_memory_cost(config)


def test_every_part_is_written_and_shown(config, figures):
    assert json.loads((config.out / "figures.json").read_text()) == figures
    page = (config.out / "page.md").read_text()
    assert page == "\n\n".join(["# What the memory costs", *memory_cost_parts(figures)]) + "\n"
    assert page.count("## ") == 5
    names = {path.name for path in config.out.iterdir()}
    assert names == {"figures.json", "page.md", "films.jsonl", "recipe.json"}  # no bank is left


def test_the_memory_takes_a_part_of_a_chunk(figures):
    found = figures["overhead"]
    assert found["chunks"] == 4
    assert all(seconds > 0 for seconds in found["seconds"].values())
    assert 0 < found["share"] < 1


def test_speeds_are_compared_with_plain_ones(figures):
    found = figures["throughput"]
    assert found["read_bytes"] == 2 * 2 * 2 * 16 * 64 * 2 * 2
    for tier, plain in ((found["host"], "memcpy"), (found["disk"]["page cache"], "file")):
        assert tier["read_over_plain"] == pytest.approx(tier["read"]["median"] / tier[plain]["median"])


def test_fewer_bits_are_less_exact(figures):
    plain, sharp = figures["exactness"]["films"]
    assert (plain["query_scale"], sharp["query_scale"]) == (1.0, 3.0)
    for film in (plain, sharp):
        int8, int4 = (film["formats"][name]["recalled"] for name in ("int8", "int4"))
        assert 0 < int8["mean"] < int4["mean"] < 1
        assert len(int8["layers"]) == 2
        assert film["bytes"]["int4"] < film["bytes"]["int8"] < film["bytes"]["plain"] == 1


def test_videos_with_a_packed_past_have_the_noise_of_the_plain_ones(figures):
    colour = figures["video"]["metrics"]["colour"]
    plain, int8 = (colour["by_seed"][form] for form in ("plain", "int8"))
    assert plain[0] != plain[1]
    assert int8 == pytest.approx(plain, rel=0.05)
    assert colour["spread"] == pytest.approx(abs(plain[0] - plain[1]))
    assert colour["difference"]["int8"] == pytest.approx(sum(int8) / 2 - sum(plain) / 2, abs=1e-12)


def test_what_a_packed_read_takes_is_measured(figures):
    found = figures["peak"]
    assert found["int8"]["returned_bytes"] == found["int4"]["returned_bytes"] > found["int8"]["held_bytes"]


@pytest.mark.parametrize(
    ("changes", "named"), [({"settings": {"steps": 2}}, "steps"), ({"num_chunks": 9}, "num_chunks")]
)
def test_videos_of_another_recipe_are_refused_before_anything_is_measured(config, figures, changes, named):
    assert figures["video"]["stories"] == 1
    with pytest.raises(ValueError, match=rf"another recipe \(different: {named}\)"):
        measure_memory_cost(replace(config, **changes))
    assert json.loads((config.out / "figures.json").read_text()) == figures


def test_stories_that_come_back_to_no_place_are_refused_before_anything_is_measured(tiny_model, tmp_path):
    config = MemoryCostConfig(out=tmp_path / "out", model=tiny_model, num_chunks=6, num_stories=1, num_seeds=2)
    with pytest.raises(ValueError, match="none of 1 stories comes back to a place in 6 chunks"):
        measure_memory_cost(config)
    assert not config.out.exists()


def test_a_video_too_short_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_chunks is 5"):
        MemoryCostConfig(out=tmp_path, num_chunks=5)


def fails(capsys, *arguments):
    """The one line that the command ends in."""
    with pytest.raises(SystemExit) as stopped:
        run_study(study("memory_cost"), "studies.memory_cost", list(map(str, arguments)))
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    return error


def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path, capsys):
    assert "none" in fails(capsys, "--model", tmp_path / "none", "--out", tmp_path / "out")


def test_a_model_that_draws_no_storyworld_is_refused_before_the_first_video(tiny_model, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "sampling.json").write_text('{"height": 32}')
    error = fails(capsys, "--model", model, "--out", tmp_path / "out", "--part", "video")
    assert "(32, 64) pixels; the stories have (64, 64)" in error
    assert not list(tmp_path.glob("out/*"))
