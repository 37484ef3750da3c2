import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisesched import denoising_grid, few_step_grid, level_from_snr, nearest_grid, shift_levels, snr_from_level

inner_levels = st.floats(1e-4, 1 - 1e-4)
shifts = st.floats(0.05, 20)


@given(level=inner_levels)
def test_snr_is_the_power_ratio_of_the_interpolant(level):
    signal, noise = (1 - level) ** 2, level**2
    assert snr_from_level(level) == pytest.approx(signal / noise, rel=1e-12)


@given(level=inner_levels)
def test_level_from_snr_inverts_snr_from_level(level):
    assert level_from_snr(snr_from_level(level)) == pytest.approx(level, rel=1e-12)
    tensor = torch.tensor([level], dtype=torch.float64)
    torch.testing.assert_close(level_from_snr(snr_from_level(tensor)), tensor)


def test_the_papers_last_step_is_level_0948():
    assert level_from_snr(0.003) == pytest.approx(0.948, abs=5e-4)


def test_clean_and_pure_noise_are_the_ends():
    assert snr_from_level(0.0) == math.inf
    assert snr_from_level(1.0) == 0
    assert level_from_snr(math.inf) == 0
    assert level_from_snr(0.0) == 1
    ends = torch.tensor([0.0, 1.0])
    assert snr_from_level(ends).tolist() == [math.inf, 0]
    assert level_from_snr(snr_from_level(ends)).tolist() == [0, 1]


@given(level=st.floats(0, 1), shift=shifts)
def test_shift_is_the_formula(level, shift):
    assert shift_levels(level, shift) == pytest.approx(shift * level / (1 + (shift - 1) * level), rel=1e-9)


@given(level=st.floats(0, 1), first=shifts, second=shifts)
def test_shifts_compose_by_multiplication(level, first, second):
    twice = shift_levels(shift_levels(level, first), second)
    assert twice == pytest.approx(shift_levels(level, first * second), rel=1e-9)


@given(shift=shifts)
def test_shift_keeps_both_ends_exactly_and_moves_the_middle(shift):
    levels = shift_levels(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), shift)
    assert levels[0].item() == 0
    assert levels[1].item() == pytest.approx(shift / (1 + shift))
    assert levels[2].item() == 1


@given(snr=st.floats(1e-6, 1e6), shift=shifts)
def test_a_shift_divides_the_snr_by_its_square(snr, shift):
    assert snr_from_level(shift_levels(level_from_snr(snr), shift)) == pytest.approx(snr / shift**2, rel=1e-6)


def test_shift_broadcasts_one_factor_per_chunk():
    levels = torch.full((3, 2), 0.5)
    torch.testing.assert_close(shift_levels(levels, torch.tensor([1.0, 3.0])), torch.tensor([[0.5, 0.75]] * 3))


@given(num_steps=st.integers(1, 100), level_max=st.floats(0.05, 1), shift=shifts)
def test_grid_falls_strictly_from_level_max_to_zero(num_steps, level_max, shift):
    grid = denoising_grid(num_steps, level_max=level_max, shift=shift)
    assert grid.shape == (num_steps + 1,)
    assert grid[0].item() == level_max
    assert grid[-1].item() == 0
    assert (grid.diff() < 0).all()


@given(num_steps=st.integers(1, 40), level_max=st.floats(0.05, 1), shift=shifts)
def test_unshifting_a_grid_gives_even_steps(num_steps, level_max, shift):
    even = shift_levels(denoising_grid(num_steps, level_max=level_max, shift=shift), 1 / shift)
    torch.testing.assert_close(even.diff(), (-even[0] / num_steps).expand(num_steps))


def test_the_warped_steps_of_self_forcing():
    """timesteps[1000 - list] of a scheduler with 1000 steps and shift 5, as its pipeline takes them."""
    even = torch.linspace(1.0, 0.0, 1001, dtype=torch.float64)[:-1]
    timesteps = 1000 * (5 * even / (1 + 4 * even))
    published = [float(timesteps[1000 - step]) / 1000 for step in (1000, 750, 500, 250)]
    assert few_step_grid([1000, 750, 500, 250], shift=5.0) == pytest.approx([*published, 0.0], abs=1e-12)
    assert few_step_grid([1000, 750, 500, 250], shift=5.0) == pytest.approx([1, 0.9375, 5 / 6, 0.625, 0])


def test_the_steps_of_causvid_mean_the_nearest_level_of_its_scheduler():
    grid = nearest_grid([1000, 757, 522], shift=5.0)
    assert grid == pytest.approx([1.0, 0.7571, 0.5216, 0.0], abs=5e-5)
    even = [step / 1000 for step in range(1000, 0, -1)]
    sigmas = [5 * level / (1 + 4 * level) for level in even]
    assert grid[1:3] == pytest.approx([min(sigmas, key=lambda s: abs(s - told)) for told in (0.757, 0.522)], abs=1e-12)


@pytest.mark.parametrize("make", [few_step_grid, nearest_grid])
@pytest.mark.parametrize("steps", [[], [500, 750], [1001, 500], [750, 0], [750, 750]])
def test_steps_fall_from_the_first_to_the_last(make, steps):
    with pytest.raises(ValueError, match="expected falling timesteps from 1 to 1000"):
        make(steps, shift=5.0)


def test_plain_grid_is_linear_and_in_float64():
    grid = denoising_grid(4)
    assert grid.dtype == torch.float64
    assert grid.tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: level_from_snr(-0.1), r"snr is -0.1; expected values in \[0, inf\]"),
        (lambda: snr_from_level(1.5), r"level is 1.5; expected values in \[0, 1\]"),
        (lambda: snr_from_level(torch.tensor([0.5, math.nan])), "level is .*nan"),
        (lambda: shift_levels(-0.5, 2.0), r"levels is -0.5; expected values in \[0, 1\]"),
        (lambda: shift_levels(0.5, 0.0), r"shift is 0.0; expected values in \(0, inf\)"),
        (lambda: denoising_grid(0), "num_steps is 0"),
        (lambda: denoising_grid(3, level_max=0.0), r"level_max is 0.0; expected a level in \(0, 1\]"),
        (lambda: denoising_grid(3, shift=-1.0), "shift is -1.0"),
    ],
)
def test_values_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
