"""Figures of kinds and memories: means with intervals, paired differences, and their tables."""

from math import nan

import pytest

from bdiff_bench.harness.statistics import mean_interval
from bdiff_bench.world.comparison import compare, comparison_parts
from bdiff_bench.world.drift import DRIFTS
from bdiff_bench.world.figures import NUM_DRAWS, summarise

FIGURES = ("visible", "direction", "place", "clarity_ratio", "true_clarity_ratio", "clarity_to_truth")
TRUE = dict.fromkeys(("true_visible", "true_direction", "true_place"), 1.0)
RETRIEVAL = {"retrieval": {"returns": 0, "share": None}}


def line(policy, story, value, *, take="walk", slope=None, **other):
    returns = [] if slope is None else [{"chunk": c, "palette": slope * c, "subject": None} for c in range(3, 25)]
    drifts = {"drift": dict.fromkeys(DRIFTS, value), "true_drift": dict.fromkeys(DRIFTS, 0.1)}
    named = {"take": take, "policy": policy, "story": story, "returns": returns, "true_returns": returns}
    return named | dict.fromkeys(FIGURES, value) | TRUE | drifts | other


def test_differences_are_paired_video_by_video():
    semantic = [line("semantic", story, value) for story, value in enumerate((0.1, 0.5, 0.9))]
    rolling = [line("rolling", story, value) for story, value in enumerate((0.2, 0.6, 1.0))]
    found = compare([*rolling[::-1], *semantic], policies=("rolling", "semantic"), num_chunks=25)
    difference = found["differences"]["rolling"]["figures"]["drift_clarity"]
    assert difference == pytest.approx({"mean": 0.1, "low": 0.1, "high": 0.1, "videos": 3})
    assert found["differences"].keys() == {"rolling"}
    mean = found["policies"]["rolling"]["figures"]["visible"]
    assert mean == mean_interval((0.2, 0.6, 1.0), num_draws=NUM_DRAWS) | {"videos": 3}
    assert found["true"]["drift_motion"]["mean"] == pytest.approx(0.1)


def test_without_the_semantic_memory_nothing_is_compared():
    found = compare([line("sink", 0, 0.5), line("none", 0, 0.5)], policies=("sink", "none"), num_chunks=5)
    assert found["differences"] == {}


def test_what_was_not_measured_does_not_count():
    drift = dict.fromkeys(DRIFTS, 0.5) | {"background": None}  # infinite
    lines = [line("semantic", 0, 0.5, place=nan, drift=drift), line("semantic", 1, 0.7), line("none", 1, 0.3)]
    found = compare([*lines, line("none", 0, 0.1)], policies=("semantic", "none"), num_chunks=5)
    figures = found["policies"]["semantic"]["figures"]
    assert [figures[name]["videos"] for name in ("place", "drift_background", "visible")] == [1, 1, 2]
    assert found["differences"]["none"]["figures"]["place"]["mean"] == pytest.approx(-0.4)
    for one in found["policies"].values():
        one |= RETRIEVAL
    heading, means, differences, _ = comparison_parts({"walk": found})
    assert heading == "## walk"
    assert "| over 2 videos | semantic | none | true videos |" in means
    assert "| drift of the background | 0.700 (0.700 to 0.700, 1 video) |" in means
    assert "| drift of the protagonist | -0.400 (-0.400 to -0.400) |" in differences


def test_growth_is_that_of_stories_and_as_in_a_bench_of_stories_alone():
    semantic = [line("semantic", story, 0.5, take="story", slope=0.01) for story in range(3)]
    none = [line("none", story, 0.5, take="story", slope=0.03) for story in range(3)]
    found = compare([*semantic, *none], policies=("semantic", "none"), num_chunks=25)
    assert found["policies"]["semantic"]["growth"] == summarise(semantic, num_chunks=25)["growth"]
    assert found["differences"]["none"]["growth"]["palette"]["mean"] == pytest.approx(0.02 * 19)
    walk = compare([line("semantic", 0, 0.5, slope=0.01)], policies=("semantic",), num_chunks=25)
    assert walk["policies"]["semantic"]["growth"] == {}
