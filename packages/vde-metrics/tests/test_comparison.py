import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import DriftReport, MetricDrift, compare
from vde_metrics.reports.page import comparison_page


def report(video, error, *, frozen=False, metric="clarity", num_chunks=3, **changes):
    one = MetricDrift(
        name=metric,
        settings="S()",
        scores=(4.0,) * num_chunks,
        vde=error * 3,
        vde_normalized=error,
        slope=0.0,
        worst_chunk=None,
    )
    fields = {
        "video": video,
        "fps": None,
        "height": 8,
        "width": 8,
        "chunk_frames": tuple(range(0, 10 * num_chunks + 1, 10)),
        "weights": "linear",
        "metrics": (one,),
        "still_pairs": (1.0 if frozen else 0.0,) * num_chunks,
    }
    return DriftReport(**fields | changes)


def groups(first, second):
    return {
        "ours": [report(f"ours/{name}.mp4", error) for name, error in first.items()],
        "theirs": [report(f"theirs/{name}.mkv", error) for name, error in second.items()],
    }


errors = st.lists(st.floats(0, 10), min_size=2, max_size=8)


@settings(deadline=None)
@given(errors, st.floats(0.01, 1))
def test_a_constant_difference_of_pairs_has_no_spread(first, shift):
    """However much the videos differ among themselves."""
    ours = {str(i): error for i, error in enumerate(first)}
    found = compare(groups(ours, {name: error + shift for name, error in ours.items()}), draws=50)
    (difference,) = found.metrics[0].differences
    assert difference.is_paired
    assert difference.is_clear
    assert difference.estimate.low == pytest.approx(shift, abs=1e-9)
    assert difference.estimate.high == pytest.approx(shift, abs=1e-9)


@settings(deadline=None)
@given(errors, errors)
def test_intervals_hold_the_means(first, second):
    found = compare(
        groups({f"a{i}": e for i, e in enumerate(first)}, {f"b{i}": e for i, e in enumerate(second)}), draws=200
    )
    one = found.metrics[0]
    for label, values in (("ours", first), ("theirs", second)):
        estimate = one.groups[label]
        assert estimate.mean == pytest.approx(np.mean(values))
        assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9
    assert not one.differences[0].is_paired
    assert one.differences[0].estimate.mean == pytest.approx(np.mean(second) - np.mean(first))


def test_the_interval_is_that_of_normal_theory_for_many_videos():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = compare(groups({str(i): v for i, v in enumerate(values)}, {"x": 1.0, "y": 2.0}))
    estimate = found.metrics[0].groups["ours"]
    half = 1.96 * values.std() / 20
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_only_shared_names_are_paired():
    found = compare(groups({"a": 1.0, "b": 2.0, "c": 9.0}, {"b": 3.0, "a": 2.0, "d": 0.0}))
    (difference,) = found.metrics[0].differences
    assert difference.is_paired
    assert (difference.estimate.mean, difference.estimate.num_videos) == (1.0, 2)


def test_infinite_errors_have_no_interval():
    found = compare(groups({"a": math.inf, "b": 2.0}, {"a": 1.0, "b": 2.0}))
    one = found.metrics[0]
    assert (one.groups["ours"].mean, one.groups["ours"].low) == (math.inf, None)
    assert not one.differences[0].is_clear
    assert found.to_dict()["metrics"][0]["groups"]["ours"]["mean"] == "inf"


def test_frozen_videos_are_named():
    found = compare({"ours": [report("a", 0.0, frozen=True)], "theirs": [report("a", 1.0)]})
    assert found.frozen == {"ours": 1, "theirs": 0}
    assert "Frozen videos of ours, in which nothing moves: 1." in found.to_markdown()


def test_what_does_not_compare_is_refused():
    with pytest.raises(ValueError, match="give two or more models with videos"):
        compare({"ours": [report("a", 1.0)], "theirs": []})
    with pytest.raises(ValueError, match="a was measured by protocol paper"):
        compare({"ours": [report("a", 1.0)], "theirs": [report("b", 1.0, protocol="released")]})
    with pytest.raises(ValueError, match="has 3 chunks and b 5"):
        compare({"ours": [report("a", 1.0)], "theirs": [report("b", 1.0, num_chunks=5)]}, error="vde")
    with pytest.raises(ValueError, match="has linear weights and b log"):
        compare({"ours": [report("a", 1.0)], "theirs": [report("b", 1.0, weights="log")]})


def test_the_page_shows_a_mean_for_each_model():
    chosen = groups({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 3.0})
    page = comparison_page(chosen, compare(chosen))
    assert page.count("<polyline") == 6
    assert "Drift of ours and theirs" in page
    assert "theirs minus ours" in page
