"""Several kinds of videos under several memories: lines, resuming, pictures, pages and refusals."""

import json
from dataclasses import replace

import pytest
from PIL import Image

import storyworld
from bdiff_bench import cli
from bdiff_bench.page import write_bench_page
from bdiff_bench.world import WorldBenchConfig, bench_world
from bdiff_bench.world import run as world_run
from bdiff_bench.world.config import WorldJob
from bdiff_bench.world.drift import DRIFTS
from bdiff_bench.world.stills import MOST_BYTES
from bdiff_train.transformer import FIRST_STORY

SETTINGS = {"steps": 2, "guidance": 1.0, "richness": 2}


@pytest.fixture(scope="module")
def bench(tiny_model, tmp_path_factory):
    """The folder of a bench of all kinds under two memories, its config, its summary and what it said."""
    config = WorldBenchConfig(
        out=tmp_path_factory.mktemp("bench"),
        model=tiny_model,
        takes=("story", "place", "walk"),
        policies=("semantic", "rolling"),
        num_stories=1,
        num_chunks=4,
        settings=SETTINGS,
        workers=1,
    )
    said = []
    return config, bench_world(config, on_take=lambda *state: said.append(state)), said


def lines_of(config):
    return [json.loads(line) for line in config.lines.read_text().splitlines()]


def test_each_line_says_kind_and_memory_and_how_far_it_drifts(bench):
    config, summary, said = bench
    lines = lines_of(config)
    assert [WorldJob.of(line) for line in lines] == config.jobs
    for line in lines:
        assert line["drift"].keys() == line["true_drift"].keys() == set(DRIFTS)
    assert [state[:2] for state in said] == [(count, 6) for count in range(1, 7)]
    assert said[-1][2] == 0
    assert summary["takes"].keys() == {"story", "place", "walk"}
    assert json.loads((config.out / "summary.json").read_text()) == summary
    assert "| difference | rolling minus semantic |" in (config.out / "summary.md").read_text()


def test_memories_have_the_same_noise(tiny_model, tmp_path):
    """A window that holds the whole past shows what the full memory shows, so the videos are the same."""
    config = WorldBenchConfig(
        out=tmp_path, model=tiny_model, policies=("rolling", "full"), num_stories=1, num_chunks=3, workers=1
    )
    bench_world(replace(config, settings={"steps": 1, "guidance": 1.0}))
    rolling, full = ({**line, "policy": None} for line in lines_of(config))
    assert str(rolling) == str(full)  # nan is not equal to nan
    stills = [(tmp_path / "stills" / f"story-{policy}.png").read_bytes() for policy in config.policies]
    assert stills[0] == stills[1]


def test_a_picture_shows_the_truth_and_each_memory(bench):
    config, _, _ = bench
    for take in config.takes:
        file = config.out / f"{take}.png"
        with Image.open(file) as picture:
            assert picture.size == (64 + 4 * 130, 16 + 3 * 130)
        assert file.stat().st_size < MOST_BYTES


def test_a_bench_goes_on_with_more_memories_and_lines_of_older_versions(bench, tmp_path, monkeypatch):
    config, before, _ = bench
    asked, score = [], world_run.score_story
    monkeypatch.setattr(world_run, "score_story", lambda f, t, p: asked.append((t.take, p)) or score(f, t, p))
    after = bench_world(replace(config, takes=("walk",), policies=("semantic", "none")))
    assert asked == [("walk", "none")]
    assert after["takes"]["walk"]["policies"]["semantic"] == before["takes"]["walk"]["policies"]["semantic"]
    asked.clear()
    plain = replace(config, takes=("story",), policies=())
    summary = bench_world(plain)  # the model's own memory is the semantic one
    assert asked == []
    old = replace(plain, out=tmp_path)
    (line,) = (line for line in lines_of(config) if (line["take"], line["policy"]) == ("story", "semantic"))
    new = [name for name in line if name in ("take", "policy", "drift") or name.startswith("true_")]
    kept = {
        name: value for name, value in line.items() if name not in new or name in ("true_clarity_ratio", "true_returns")
    }
    old.lines.write_text(json.dumps(kept) + "\n")
    (tmp_path / "recipe.json").write_text((config.out / "recipe.json").read_text())
    assert bench_world(old) == summary | {"config": summary["config"] | {"out": str(tmp_path)}}
    assert asked == []
    assert not (tmp_path / "story.png").exists()  # it has no stills
    bench_world(replace(old, policies=("semantic",)))  # a comparison needs drift, which old lines do not have
    assert asked == [("story", "semantic")]
    assert (tmp_path / "story.png").exists()


def test_a_bench_of_stories_under_the_models_own_memory_says_what_it_always_said(bench, tmp_path):
    config, compared, _ = bench
    summary = bench_world(replace(config, out=tmp_path, takes=("story",), policies=()))
    assert list(summary) == ["stories", "figures", "growth", "retrieval", "config"]
    assert not {"takes", "policies"} & summary["config"].keys()
    figures = compared["takes"]["story"]["policies"]["semantic"]["figures"]
    for name, figure in summary["figures"].items():
        if name != "true_clarity_ratio":
            assert {key: figure[key] for key in ("mean", "low", "high")} == {
                key: figures[name][key] for key in ("mean", "low", "high")
            }
    assert json.loads((tmp_path / "recipe.json").read_text()) == json.loads((config.out / "recipe.json").read_text())


def test_a_page_shows_all_kinds(bench, tmp_path):
    config, _, _ = bench
    bench_world(config)
    write_bench_page(tmp_path / "page.md", title="Base", world=config.out / "summary.json")
    text = (tmp_path / "page.md").read_text()
    assert "1 held-out videos of each kind under each memory, of 4 chunks at richness 2" in text
    for take in config.takes:
        assert f"\n### {take}\n" in text


def test_the_command_counts_takes(run, tiny_model, tmp_path):
    asked = ("--num-stories", 1, "--num-chunks", 2, "--steps", 1, "--richness", 2, "--workers", 1)
    memories = ("--policy", "sink", "--policy", "none")
    code, out, err = run("bench", "world", "--model", tiny_model, "--out", "out", "--take", "walk", *memories, *asked)
    assert code == 0
    assert err == "1/2 takes done, about 1 min left\n2/2 takes done\n"
    assert json.loads(out)["takes"]["walk"]["differences"] == {}
    assert (tmp_path / "out" / "walk.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--take", "film"), "'film' is not one of 'story', 'place', 'walk'"),
        (("--policy", "all"), "'all' is not one of 'semantic', 'rolling'"),
        (("--take", "walk", "--take", "walk"), "takes is walk, walk; expected some of story, place, walk, each once"),
        (("--policy", "sink", "--policy", "sink"), "policies is sink, sink; expected some of"),
        (("--take", "walk"), "richness is 1; a walk is drawn at richness 2 only"),
        (("--policy", "sink", "--age-bonus", "0.1"), "--age-bonus is a setting of the semantic memory"),
        (("--policy", "none", "--num-sink", "1"), "--num-sink is a setting of the semantic memory"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run, tiny_model, tmp_path, options, message):
    code, out, err = run("bench", "world", "--model", tiny_model, "--out", "out", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_stories_are_the_held_out_ones(bench):
    config, _, _ = bench
    assert {line["story"] for line in lines_of(config)} == {FIRST_STORY}


def test_the_kinds_that_the_command_names_are_those_of_the_world():
    assert cli.TAKES == storyworld.TAKES
