"""From records to figures: groups by gap, comparisons in pairs, growth over a video."""

import random

import pytest

from bdiff_bench.memory.arms import RANDOM_PLACE, RECONSTRUCTION
from bdiff_bench.memory.figures import gap_groups, summarise
from bdiff_bench.memory.measures import MEASURES


@pytest.mark.parametrize("gap", range(1, 20))
@pytest.mark.parametrize("away", [2, 5])
def test_every_gap_is_in_one_group(gap, away):
    record = {"gap": gap, "away": away if gap == 1 else gap}
    assert sum(inside(record) for inside in gap_groups(4).values()) == 1


def lines(errors, mode="given"):
    """For each label its errors beyond and within, the same in three stories but for a story's own 0.01."""
    records = [
        {
            "arm": label, "mode": mode, "story": story, "seed": 0,
            "chunks": [
                {"chunk": gap, "place": gap, "gap": gap, "away": gap}
                | dict.fromkeys(MEASURES[mode], None if e is None else e + 0.01 * story)
                for gap, e in zip((7, 3), both, strict=True)
            ],
        } for label, both in errors.items() for story in range(3)
    ]  # fmt: skip
    return summarise(records, labels=list(errors), against="rolling", window=4, num_chunks=9)[mode]


def test_a_summary_tells_beyond_from_within():
    errors = {"semantic": (0.04, 0.05), "rolling": (0.14, 0.05), RECONSTRUCTION: (0.0, 0.0), RANDOM_PLACE: (0.19, 0.19)}
    found = lines(errors)
    assert found["stories"] == 3
    figure = found["groups"]["beyond"]["colour"]["rolling"]
    assert (figure["mean"], figure["chunks"], figure["stories"]) == (pytest.approx(0.15), 3, 3)
    assert found["groups"]["within"]["colour"]["semantic"]["mean"] == pytest.approx(0.06)
    row = found["comparisons"]["semantic"]
    assert row["beyond_ratio"]["mean"] == pytest.approx(1 / 3)
    assert row["beyond_difference"] == pytest.approx({"mean": -0.1, "low": -0.1, "high": -0.1})
    assert row["beyond_to_random_place"]["mean"] == pytest.approx(0.25)
    assert row["within_relative_difference"] == pytest.approx({"mean": 0.0, "low": 0.0, "high": 0.0})
    assert row["beyond_disjoint"] is True
    assert "beyond_ratio" not in found["comparisons"]["rolling"]
    assert lines(errors | {"semantic": (0.13, 0.05)})["comparisons"]["semantic"]["beyond_disjoint"] is False


def test_a_place_that_was_once_lost_is_not_held_any_more():
    chain = [(5, 0, 3), (6, 0, 1), (9, 1, 6), (10, 1, 1), (14, 0, 8), (16, 0, 2), (17, 1, 4)]  # chunk, place, gap
    records = [
        {
            "arm": label, "mode": "given", "story": story, "seed": 0,
            "chunks": [
                {"chunk": chunk, "place": place, "gap": gap, "away": gap}
                | dict.fromkeys(MEASURES["given"], chunk / 100)
                for chunk, place, gap in chain
            ],
        } for label in ("rolling", RANDOM_PLACE) for story in range(2)
    ]  # fmt: skip
    groups = summarise(records, labels=["rolling", RANDOM_PLACE], against=None, window=4, num_chunks=25)["given"][
        "groups"
    ]
    held = groups["held"]["colour"]["rolling"]
    assert held["chunks"] == 2 * 2
    assert held["mean"] == pytest.approx((0.05 + 0.06) / 2)
    assert groups["within"]["colour"]["rolling"]["chunks"] == 2 * 5


def grown(slopes, *, num_chunks=25, mode="free", noise=0.0):
    """The growth of videos whose errors rise by so much a chunk from 0.1 on, told by every second chunk."""
    draw = random.Random(0)
    records = [
        {
            "arm": label, "mode": mode, "story": story, "seed": 0,
            "chunks": [
                {"chunk": chunk, "place": 0, "gap": 3, "away": 3}
                | dict.fromkeys(MEASURES[mode], 0.1 + slope * chunk + noise * draw.gauss(0, 1))
                for chunk in range(story, num_chunks, 2)
            ],
        } for label, slope in slopes.items() for story in range(4)
    ]  # fmt: skip
    return summarise(records, labels=list(slopes), against=None, window=4, num_chunks=num_chunks)[mode]["growth"]


def test_what_rises_by_a_hundredth_a_chunk_grows_by_so_much_from_chunk_5_to_the_last():
    found = grown({"rolling": 0.01, "semantic": 0.0, RECONSTRUCTION: -0.002, RANDOM_PLACE: 0.0})
    assert set(found) == {"palette", "subject"}
    for by_label in found.values():
        assert by_label["rolling"] == pytest.approx({"mean": 0.19, "low": 0.19, "high": 0.19})
        assert by_label["semantic"] == pytest.approx({"mean": 0, "low": 0, "high": 0}, abs=1e-12)
        assert by_label[RECONSTRUCTION]["mean"] == pytest.approx(-0.038)
    assert set(grown({"rolling": 0.01, RANDOM_PLACE: 0.0}, mode="given")) == {"subject"}


def test_growth_has_an_interval_that_holds_what_is_there():
    found = grown({"rolling": 0.004, "semantic": 0.0, RANDOM_PLACE: 0.0}, noise=0.02)["palette"]
    assert 0 < found["rolling"]["low"] < 0.076 < found["rolling"]["high"]
    assert found["semantic"]["low"] < 0 < found["semantic"]["high"]


def test_a_video_too_short_to_grow_has_no_growth():
    assert grown({"rolling": 0.01, RANDOM_PLACE: 0.0}, num_chunks=6)["palette"] == {}


def test_what_could_not_be_measured_is_left_out():
    found = lines({"rolling": (None, 0.1), RECONSTRUCTION: (None, 0.1), RANDOM_PLACE: (None, 0.1)})
    assert found["groups"]["beyond"]["colour"] == {}
    assert found["comparisons"]["rolling"]["beyond_to_random_place"] is None
    assert found["groups"]["within"]["colour"]["rolling"]["chunks"] == 3
