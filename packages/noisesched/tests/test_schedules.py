import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisesched import chunk_levels

SCHEDULES = ["naive", "linear", "cosine", "sigmoid"]
counts = st.integers(2, 60)
bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


def level_by_the_paper(schedule, c, n, low, high, alpha):
    """One level, from Eq. 11, 26 or 27, with c = 0..n-1."""
    if schedule == "naive":
        return high
    if schedule == "linear":
        return low + c / (n - 1) * (high - low)
    if schedule == "cosine":
        return low + 0.5 * (high - low) * (1 - math.cos(math.pi * c / (n - 1)))
    return low + (high - low) / (1 + math.exp(-alpha * (c / (n - 1) - 0.5)))


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(n=counts, low_high=bounds, alpha=st.floats(0.1, 40))
def test_levels_are_the_papers_formulas(schedule, n, low_high, alpha):
    low, high = low_high
    levels = chunk_levels(n, schedule, level_min=low, level_max=high, steepness=alpha)
    expected = [level_by_the_paper(schedule, c, n, low, high, alpha) for c in range(n)]
    torch.testing.assert_close(levels, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(n=counts, low_high=bounds)
def test_levels_never_decrease_and_stay_in_bounds(schedule, n, low_high):
    low, high = low_high
    levels = chunk_levels(n, schedule, level_min=low, level_max=high)
    assert (levels.diff() >= -1e-15).all()
    assert low - 1e-15 <= levels.min() <= levels.max() <= high + 1e-15


@pytest.mark.parametrize(
    "options", [{"schedule": "linear"}, {"schedule": "cosine"}, {"schedule": "sigmoid", "normalize": True}]
)
@given(n=counts, low_high=bounds)
def test_first_and_last_level_are_exact(options, n, low_high):
    low, high = low_high
    levels = chunk_levels(n, level_min=low, level_max=high, **options)
    assert levels[0].item() == low
    assert levels[-1].item() == high


def test_plain_sigmoid_stops_short_of_both_ends():
    levels = chunk_levels(9, "sigmoid", level_min=0.2, level_max=0.9)
    gap = 0.7 / (1 + math.exp(5))
    assert levels[0].item() == pytest.approx(0.2 + gap)
    assert levels[-1].item() == pytest.approx(0.9 - gap)


@given(n=st.integers(3, 40), alpha=st.floats(0.5, 30))
def test_normalized_sigmoid_is_an_affine_image_of_the_plain_one(n, alpha):
    bounds = {"level_min": 0.1, "level_max": 0.9, "steepness": alpha}
    plain = chunk_levels(n, "sigmoid", **bounds)
    stretched = chunk_levels(n, "sigmoid", normalize=True, **bounds)
    scale = 0.8 / (plain[-1] - plain[0])
    torch.testing.assert_close(stretched, 0.1 + scale * (plain - plain[0]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_single_chunk_gets_the_highest_level(schedule):
    assert chunk_levels(1, schedule, level_min=0.3, level_max=0.7).tolist() == [0.7]


def test_defaults_are_a_cosine_from_half_to_shift_five():
    levels = chunk_levels(7)
    assert levels.dtype == torch.float64
    torch.testing.assert_close(levels, chunk_levels(7, "cosine", level_min=0.5, level_max=0.83))
    shifts = levels / (1 - levels)
    assert shifts[0].item() == 1
    assert shifts[-1].item() == pytest.approx(5, abs=0.2)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_chunks": 0}, "num_chunks is 0"),
        ({"schedule": "cosin"}, "'cosin'; choose one of naive, linear, cosine, sigmoid"),
        ({"level_min": 0.9, "level_max": 0.5}, "level_min is 0.9 and level_max is 0.5"),
        ({"level_min": -0.1}, "level_min is -0.1"),
        ({"level_max": 1.2}, "level_max is 1.2"),
        ({"level_max": math.nan}, "level_max is nan"),
        ({"schedule": "sigmoid", "steepness": 0.0}, "steepness is 0.0"),
        ({"schedule": "linear", "normalize": True}, "schedule is 'linear'; leave it out"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        chunk_levels(**({"num_chunks": 5} | options))
