"""Conversions between levels and signal-to-noise ratios, and the grid of levels that a sampler visits."""

import math
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor


@overload
def level_from_snr(snr: float) -> float: ...
@overload
def level_from_snr(snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]: ...
def level_from_snr(snr: float | Float[Tensor, "*shape"]) -> float | Float[Tensor, "*shape"]:
    """Level with a given signal-to-noise ratio in flow matching: t = 1 / (1 + sqrt(snr)).

    For example, `level_from_snr(0.003)` is 0.948; 0.003 is the last step in section 5.1 of the paper.

    Args:
        snr: Ratio of signal power to noise power, from 0 (pure noise) to infinity (clean).
    """
    _require(snr, low=0.0, high=math.inf, name="snr")
    root = snr.sqrt() if isinstance(snr, Tensor) else math.sqrt(snr)
    return 1 / (1 + root)


@overload
def snr_from_level(level: float) -> float: ...
@overload
def snr_from_level(level: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]: ...
def snr_from_level(level: float | Float[Tensor, "*shape"]) -> float | Float[Tensor, "*shape"]:
    """Signal-to-noise ratio of the interpolant (1 - t) * clean + t * noise (BlockVid Eq. 2): ((1 - t) / t)^2.

    Args:
        level: Level t in [0, 1]. Level 0 has an infinite ratio.
    """
    _require(level, low=0.0, high=1.0, name="level")
    if not isinstance(level, Tensor) and level == 0:
        return math.inf
    ratio = (1 - level) / level
    return ratio * ratio


@overload
def shift_levels(levels: float, shift: float) -> float: ...
@overload
def shift_levels(levels: Float[Tensor, "*shape"], shift: float | Float[Tensor, "..."]) -> Float[Tensor, "*shape"]: ...
def shift_levels(
    levels: float | Float[Tensor, "*shape"], shift: float | Float[Tensor, "..."]
) -> float | Float[Tensor, "*shape"]:
    """Shift levels towards noise (shift > 1) or towards clean (shift < 1): t -> shift*t / (1 + (shift - 1)*t).

    Levels 0 and 1 do not change, and 1/2 becomes shift / (1 + shift). A shift by a and then by b is a shift by a * b.

    Args:
        levels: Levels in [0, 1].
        shift: Positive factor, or a tensor of factors that broadcasts against `levels`.
    """
    _require(levels, low=0.0, high=1.0, name="levels")
    _require(shift, low=0.0, high=math.inf, name="shift", open_ends=True)
    # The same map in a form that is exact for the levels 0 and 1.
    pushed = shift * levels
    return pushed / (pushed + (1 - levels))


def denoising_grid(num_steps: int, *, level_max: float = 1.0, shift: float = 1.0) -> Float[Tensor, " {num_steps}+1"]:
    """Levels that a sampler visits, from `level_max` down to 0. They are evenly spaced before the shift.

    All chunks use the same grid. The schedules of `chunk_levels` are for training only.

    Args:
        num_steps: Number of solver steps, at least 1. The grid has one level more.
        level_max: First level, in (0, 1]. 1 is pure noise. The shift does not change it.
        shift: Shift of the levels in between. A larger one gives more steps at high noise.

    Returns:
        Strictly decreasing levels in float64, the last one 0.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; expected at least 1")
    if not 0 < level_max <= 1:
        raise ValueError(f"level_max is {level_max}; expected a level in (0, 1]")
    _require(shift, low=0.0, high=math.inf, name="shift", open_ends=True)
    start = shift_levels(float(level_max), 1 / shift)
    grid = shift_levels(torch.linspace(start, 0.0, num_steps + 1, dtype=torch.float64), shift)
    grid[0] = level_max
    return grid


def _require(
    value: float | Float[Tensor, "*any"], *, low: float, high: float, name: str, open_ends: bool = False
) -> None:
    """Raise ValueError unless all values lie in [low, high], or in (low, high) with open ends. NaN never does."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise TypeError(f"{name} has dtype {value.dtype}; pass a floating-point tensor, such as {name}.float()")
        inside = (value > low) & (value < high) if open_ends else (value >= low) & (value <= high)
        valid = bool(inside.all())
    else:
        valid = low < value < high if open_ends else low <= value <= high
    if not valid:
        interval = f"({low:g}, {high:g})" if open_ends else f"[{low:g}, {high:g}]"
        raise ValueError(f"{name} is {value}; expected values in {interval}")
