"""Figures of stories have intervals, and do not depend on the order in which stories were finished."""

from math import nan

import pytest

from bdiff_bench.world.figures import summarise

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


def test_growth_is_the_rise_of_a_line_through_the_returns_of_all_videos():
    """From chunk 5 to the last; less that of the true videos, which chunks by what they show make grow, too."""
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
