"""Solvers: the steps from noise to clean latents, and the level that the model is told at each of them."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.latents import as_latents

StepFunction = Callable[[Tensor, Tensor, float, float], Tensor]
"""``solver(x, velocity, level, next_level) -> x`` at the next level."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a solver."""

    level: float
    """Level in [0, 1] that the model is told; it may differ from the level that the solver computes with."""
    advance: Callable[[Tensor, Tensor], Tensor]
    """``advance(x, velocity)`` gives x after the step. Call it once, and the steps in order."""


@runtime_checkable
class Solver(Protocol):
    """A solver that remembers the steps it has made of a chunk. A solver that does not is a `StepFunction`."""

    def steps(self, levels: Sequence[float], *, index: int) -> Iterator[Step]:
        """The steps of chunk ``index`` along ``levels``, which decrease to 0."""
        ...


@runtime_checkable
class StepNoise(Protocol):
    """Noise for solvers that add noise again; ``noisesched.NoiseStream`` is one."""

    def step(self, index: int, step: int) -> Float[Tensor, "frames c h w"]:
        """Noise of a step of a chunk: a function of the seed, ``index`` and ``step`` alone."""
        ...


def euler(x: Tensor, velocity: Tensor, level: float, next_level: float) -> Tensor:
    """One Euler step of dx/dt = v from ``level`` to ``next_level`` (flow matching, BlockVid Eqs. 2-4)."""
    return x + (next_level - level) * velocity


def solver_steps(solver: StepFunction | Solver, levels: Sequence[float], *, index: int) -> Iterator[Step]:
    """The steps of chunk ``index`` along ``levels`` (from `checked_grid`), for either kind of solver."""
    if isinstance(solver, Solver):
        return solver.steps(levels, index=index)
    return (Step(level, _one_step(solver, level, after)) for level, after in pairwise(levels))


def _one_step(solver: StepFunction, level: float, after: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, velocity: solver(x, velocity, level, after)


def checked_grid(grid: Float[Tensor, " levels"] | Sequence[float | int]) -> list[float]:
    """The levels of a sampler as numbers.

    Raises:
        ValueError: If there are fewer than two, or they do not decrease to 0.
    """
    levels = [float(level) for level in grid]
    if len(levels) < 2 or any(after >= level for level, after in pairwise(levels)) or levels[-1] != 0.0:
        raise ValueError(f"grid is {levels}; expected at least two decreasing levels that end at 0")
    return levels


def check_context_noise(level: float) -> None:
    """Raise a ValueError unless it is a level that a model may be told, in [0, 1)."""
    if not 0.0 <= level < 1.0:
        raise ValueError(f"context_noise is {level}; expected a level in [0, 1), such as 0.1")


@dataclass(frozen=True, slots=True)
class Renoising:
    """The sampler of distilled few-step models (Self-Forcing, CausVid, LongLive).

    Every step estimates the clean latents, x_0 = x - t v, and adds fresh noise up to the next level t':
    x' = (1 - t') x_0 + t' noise. As in their published code, x_0 is computed in float64 and rounded to the dtype of x,
    and the noise is added in float32 or better.

    Args:
        noise: Its ``step(index, step)`` is the noise added after each step but the last.
        told: The level that the model is told at each step, where it is not the one that the solver computes with
            (CausVid); None: the same.
        first: The levels of chunk 0, if it has others, falling to 0 (Causal-Forcing++ with one or two steps).
    """

    noise: StepNoise
    told: Sequence[float] | None = None
    first: Sequence[float] | None = None

    def steps(self, levels: Sequence[float], *, index: int) -> Iterator[Step]:
        """The steps of chunk ``index``.

        Raises:
            ValueError: If there is not one level to tell for each step.
        """
        told = self.told
        if index == 0 and self.first is not None:
            levels, told = checked_grid(self.first), None
        told = levels[:-1] if told is None else told
        if len(told) != len(levels) - 1:
            raise ValueError(f"told has {len(told)} levels; expected one for each of the {len(levels) - 1} steps")
        for number, (level, after) in enumerate(pairwise(levels)):
            advance = partial(self._advance, level=level, after=after, index=index, number=number)
            yield Step(told[number], advance)

    def _advance(self, x: Tensor, velocity: Tensor, *, level: float, after: float, index: int, number: int) -> Tensor:
        exact = torch.float32 if x.device.type == "mps" else torch.float64  # which has no float64
        clean = (x.to(exact) - level * velocity.to(exact)).to(x.dtype)
        if after == 0.0:
            return clean
        wide = clean.to(torch.promote_types(x.dtype, torch.float32))
        return ((1 - after) * wide + after * as_latents(self.noise.step(index, number), like=wide)).to(x.dtype)


class Scheduled:
    """A flow-matching scheduler of diffusers, Euler or UniPC, on the levels that a sampler gives it.

    The model gets the scheduler's own timesteps, which may differ from its sigmas: UniPC rounds them down to whole
    thousandths. The scheduler computes in the dtype of its inputs. Each chunk gets a scheduler of its own.

    Args:
        scheduler: A ``FlowMatchEulerDiscreteScheduler``, or a ``UniPCMultistepScheduler`` that predicts flow. Its own
            shift is part of `grid`.

    Raises:
        ValueError: If the scheduler is not one for flow matching.
    """

    def __init__(self, scheduler: Any) -> None:
        config = scheduler.config
        if not (hasattr(scheduler, "shift") or config.get("use_flow_sigmas", False)):
            raise ValueError(
                f"{type(scheduler).__name__} does not sample a flow; expected FlowMatchEulerDiscreteScheduler, or "
                "UniPCMultistepScheduler with use_flow_sigmas"
            )
        self._scheduler = scheduler
        self._shift = float(config.get("shift", config.get("flow_shift", 1.0)))

    def grid(self, num_steps: int) -> list[float]:
        """The levels that the scheduler itself would choose for so many steps, from 1 (or just under it) to 0."""
        scheduler = deepcopy(self._scheduler)
        scheduler.set_timesteps(num_steps)
        return [float(sigma) for sigma in scheduler.sigmas]

    def steps(self, levels: Sequence[float], *, index: int) -> Iterator[Step]:
        """The steps of a chunk; they are the same for every ``index``."""
        scheduler = self._at(levels)
        for timestep in scheduler.timesteps:
            level = float(timestep) / scheduler.config.num_train_timesteps
            yield Step(level, partial(_schedule, scheduler, timestep))

    def _at(self, levels: Sequence[float]) -> Any:
        """A fresh scheduler set to ``levels``."""
        scheduler = deepcopy(self._scheduler)
        own = self.grid(len(levels) - 1)
        if max(abs(given - ours) for given, ours in zip(levels, own, strict=True)) < 1e-5:
            scheduler.set_timesteps(len(levels) - 1)
        else:
            # The scheduler shifts the levels that it gets, so it gets those that become ours.
            unshifted = [level / (self._shift - (self._shift - 1) * level) for level in levels[:-1]]
            scheduler.set_timesteps(sigmas=np.array(unshifted))
        scheduler.set_begin_index(0)
        return scheduler


def _schedule(scheduler: Any, timestep: Tensor, x: Tensor, velocity: Tensor) -> Tensor:
    out: Tensor = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    return out
