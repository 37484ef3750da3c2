"""The statistics of benches are those of slow ways that share no code with them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_bench.harness.statistics import (
    NUM_DRAWS,
    StorySums,
    Trend,
    draw_with_replacement,
    interval,
    mean_interval,
    mean_of_known,
    median_around,
    median_of_known,
    quartiles,
    rank_correlation,
)

numbers = st.floats(-100, 100)
stories = st.lists(st.lists(st.one_of(st.none(), numbers), max_size=4), min_size=1, max_size=5)


def quantile(values, share):
    """Slow: the value at a place in the sorted list, on the line between its two neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def mean(values):
    return sum(values) / len(values) if values else math.nan


def sums(*values_by_story):
    return StorySums.of(values_by_story)


# Means and intervals


@settings(deadline=None, max_examples=25)
@given(stories, stories)
def test_means_and_intervals_are_those_of_the_slow_way(one, other):
    """Slow: the list of all values that each draw of stories has."""
    count = min(len(one), len(other))
    one, other = one[:count], other[:count]
    draws = draw_with_replacement(count, num_draws=60)
    known = [[[value for value in values if value is not None] for values in each] for each in (one, other)]
    drawn = [[mean([value for story in draw for value in each[story]]) for draw in draws] for each in known]
    alone = sums(*one).figure(draws)
    total = [value for values in known[0] for value in values]
    assert (alone is None) == (not total)
    if alone is not None:
        finite = [value for value in drawn[0] if not math.isnan(value)]
        assert alone["mean"] == pytest.approx(mean(total), abs=1e-9)
        assert alone["low"] == pytest.approx(quantile(finite, 0.025), abs=1e-9)
        assert alone["high"] == pytest.approx(quantile(finite, 0.975), abs=1e-9)
        assert alone["stories"] == sum(map(bool, known[0]))
    found = interval(np.subtract, sums(*one), sums(*other), draws=draws)
    assert (found is None) == (not all(any(map(bool, each)) for each in known))
    paired = [a - b for a, b in zip(*drawn, strict=True) if not math.isnan(a - b)]
    if found is not None and paired:
        assert found["low"] == pytest.approx(quantile(paired, 0.025), abs=1e-9)
        assert found["high"] == pytest.approx(quantile(paired, 0.975), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.lists(numbers, min_size=1, max_size=8))
def test_the_interval_of_a_mean_is_that_of_the_slow_way(values):
    found = mean_interval(values, num_draws=80)
    means = [mean([values[place] for place in draw]) for draw in draw_with_replacement(len(values), num_draws=80)]
    assert found["mean"] == pytest.approx(mean(values), abs=1e-9)
    assert (found["low"], found["high"]) == pytest.approx((quantile(means, 0.025), quantile(means, 0.975)), abs=1e-9)


def test_draws_are_the_same_at_every_call_and_fewer_are_the_first_of_more():
    """Published figures with 2,000 draws are of the first half of the 4,000 draws of others."""
    draws = draw_with_replacement(32)
    assert draws.shape == (NUM_DRAWS, 32)
    assert (draws == draw_with_replacement(32)).all()
    assert (draws[:2000] == draw_with_replacement(32, num_draws=2000)).all()
    assert (draws[:2000] == np.random.default_rng(0).choice(np.arange(32), (2000, 32))).all()  # as they were drawn once
    counts = np.bincount(draws.ravel(), minlength=32) / draws.size
    assert abs(counts - 1 / 32).max() < 0.002


def test_the_mean_is_over_chunks_and_the_interval_over_stories():
    found = interval(lambda mean: mean, sums([0.1] * 30, [0.4]), draws=draw_with_replacement(2))
    assert found["mean"] == pytest.approx(3.4 / 31)
    assert (found["low"], found["high"]) == (pytest.approx(0.1), pytest.approx(0.4))  # a story drawn twice
    several = interval(lambda mean: mean, sums(*([0.1 * n] for n in range(10))), draws=draw_with_replacement(10))
    assert 0.2 < several["low"] < 0.45 < several["high"] < 0.7
    assert interval(lambda mean: mean, sums([], []), draws=draw_with_replacement(2)) is None


def test_differences_are_paired():
    """Two arms whose own intervals overlap widely differ by the same amount in every story."""
    draws = draw_with_replacement(12)
    one = sums(*([0.05 * n] * (1 + n % 3) for n in range(1, 13)))
    other = StorySums(total=one.total + 0.1 * one.count, count=one.count)
    double = StorySums(total=2 * one.total, count=one.count)
    wide = interval(lambda mean: mean, one, draws=draws)
    assert wide["high"] - wide["low"] > 0.1
    difference = interval(lambda a, b: a - b, other, one, draws=draws)
    ratio = interval(lambda a, b: a / b, double, one, draws=draws)
    assert list(difference.values()) == pytest.approx([0.1] * 3)
    assert list(ratio.values()) == pytest.approx([2.0] * 3)


# Trends


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.tuples(st.integers(0, 24), numbers), max_size=5), min_size=1, max_size=4))
def test_a_rise_is_that_of_the_line_by_least_squares(points):
    draws = draw_with_replacement(len(points), num_draws=40)
    found = Trend.of(points).figure(19, draws)
    slopes = [slope([point for story in draw for point in points[story]]) for draw in draws]
    whole = slope([point for story in points for point in story])
    assert (found is None) == math.isnan(whole)
    if found is not None:
        finite = [19 * each for each in slopes if not math.isnan(each)]
        close = {"rel": 1e-6, "abs": 1e-6}
        assert found["mean"] == pytest.approx(19 * whole, **close)
        assert found["low"] == pytest.approx(quantile(finite, 0.025), **close)
        assert found["high"] == pytest.approx(quantile(finite, 0.975), **close)


def slope(points):
    """Slow: sums of products of differences from the means."""
    if len({x for x, _ in points}) < 2:
        return math.nan
    mean_x, mean_y = (mean([point[axis] for point in points]) for axis in (0, 1))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def test_what_another_trend_rises_is_subtracted_story_by_story():
    rising, flat = ([[(x, y * x + 7 * story) for x in range(5)] for story in range(3)] for y in (3, 1))
    draws = draw_with_replacement(3)
    found = Trend.of(rising).figure(10, draws, beyond=Trend.of(flat))
    assert list(found.values()) == pytest.approx([20.0] * 3)


# Quartiles, medians and ranks


@given(st.lists(numbers, min_size=1, max_size=9))
def test_quartiles_lie_on_the_line_between_neighbours(values):
    found = quartiles(values)
    expected = {"median": quantile(values, 0.5), "low": quantile(values, 0.25), "high": quantile(values, 0.75)}
    assert found == pytest.approx(expected, abs=1e-9)
    assert found["median"] == pytest.approx(np.median(values), abs=1e-9)


def test_values_that_are_none_do_not_count():
    assert mean_of_known([1.0, None, 4.0]) == 2.5
    assert median_of_known([9.0, None, 1.0, 2.0]) == 2.0
    assert median_of_known([1.0, None, 2.0]) == 1.5
    assert mean_of_known([None]) is median_of_known([]) is None


def test_a_median_around_a_place_is_of_its_neighbours():
    assert median_around([9.0, 1.0, 2.0, 9.0, 3.0, 0.0], 2, 2) == 2.0  # of 1, 2 and 9
    assert median_around([9.0, 1.0, 2.0, 9.0, 3.0, 0.0], 2, 0) == 2.0


@given(st.permutations(range(5)))
def test_rank_correlation_is_that_of_the_textbook(values):
    expected = 1 - 6 * sum((rank - place) ** 2 for place, rank in enumerate(values)) / (5 * 24)
    assert rank_correlation([float(value) for value in values]) == pytest.approx(expected)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_equal_values_share_their_rank(values):
    """Slow: the mean of the ranks in all orders in which equal values may be sorted, then Pearson's correlation."""
    orders = [
        order
        for order in itertools.permutations(range(len(values)))
        if all(values[a] <= values[b] for a, b in itertools.pairwise(order))
    ]
    ranks = [mean([order.index(place) for order in orders]) for place in range(len(values))]
    if len(set(values)) == 1:
        assert rank_correlation(values) == 0
    else:
        assert rank_correlation(values) == pytest.approx(np.corrcoef(ranks, range(len(values)))[0, 1], abs=1e-9)


def test_a_missing_value_has_no_rank():
    assert rank_correlation([1.0, None]) is rank_correlation([1.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0]) == 0
    assert rank_correlation([1.0, 1.0, 2.0]) == pytest.approx(0.866, abs=1e-3)
