"""Conversions between levels and signal-to-noise ratios, and the grid of levels that a sampler visits."""

import math
from collections.abc import Sequence
from itertools import pairwise
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


def few_step_grid(steps: Sequence[int], *, shift: float = 1.0, num_train_steps: int = 1000) -> list[float]:
    """Levels of a model that was distilled to a few steps, from its list of timesteps (Self-Forcing's "warped" steps).

    A timestep t stands for the level t / num_train_steps before the shift. With shift 5, 750 becomes 0.9375.

    Args:
        steps: Timesteps, falling, from 1 to `num_train_steps`; for example 1000, 750, 500, 250.
        shift: Shift of the model's scheduler.
        num_train_steps: Timestep of pure noise.

    Returns:
        The level of each timestep, and 0 behind them.
    """
    _check_steps(steps, num_train_steps)
    return [*(shift_levels(step / num_train_steps, shift) for step in steps), 0.0]


def nearest_grid(steps: Sequence[int], *, shift: float = 1.0, num_train_steps: int = 1000) -> list[float]:
    """Levels of a few-step model whose timesteps are those of its scheduler after the shift (CausVid).

    The scheduler has `num_train_steps` levels, even before the shift. A timestep t means the one of them that is
    nearest to t / num_train_steps. The model is told t itself: see the `told` of ``bdiff_core.Renoising``.

    Args:
        steps: Timesteps, falling, from 1 to `num_train_steps`; for example 1000, 757, 522.
        shift: Shift of the model's scheduler.
        num_train_steps: Levels of the scheduler, and its timestep of pure noise.

    Returns:
        The level of each timestep, and 0 behind them.
    """
    _check_steps(steps, num_train_steps)
    known = shift_levels(torch.arange(num_train_steps, 0, -1, dtype=torch.float64) / num_train_steps, shift)
    return [*(float(known[(known - step / num_train_steps).abs().argmin()]) for step in steps), 0.0]


def _check_steps(steps: Sequence[int], num_train_steps: int) -> None:
    falling = all(step > after for step, after in pairwise(steps))
    if not steps or not falling or not 0 < steps[-1] <= steps[0] <= num_train_steps:
        raise ValueError(f"steps is {list(steps)}; expected falling timesteps from 1 to {num_train_steps}")


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
