"""Noise levels that grow with the index of the chunk (BlockVid section 3.5 and appendix A.5)."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Schedule = Literal["naive", "linear", "cosine", "sigmoid"]


def chunk_levels(
    num_chunks: int,
    schedule: Schedule = "cosine",
    *,
    level_min: float = 0.5,
    level_max: float = 0.83,
    steepness: float = 10.0,
    normalize: bool = False,
) -> Float[Tensor, " {num_chunks}"]:
    """Noise level of every chunk of a training video, growing with the chunk index (BlockVid Eqs. 11, 26, 27).

    In the paper's formula the index goes from 1 to n and is divided by n - 1, so it exceeds 1. Here c = 0..n-1. The
    first chunk gets `level_min` and the last `level_max`, as the paper's text says. A single chunk gets `level_max`.

    Args:
        num_chunks: Number of chunks n, at least 1.
        schedule: `cosine` (Eq. 11), `linear` (Eq. 26), `sigmoid` (Eq. 27), or `naive`: `level_max` everywhere.
        level_min: Level of the first chunk, in [0, `level_max`].
        level_max: Level of the last chunk, in [`level_min`, 1].
        steepness: alpha in Eq. 27, positive. Only `sigmoid` uses it.
        normalize: Scale the sigmoid so that it reaches both levels. Without it, as in Eq. 27, it does not reach them.

    Returns:
        One level per chunk, in float64.
    """
    _check(num_chunks, schedule, level_min, level_max, normalize)
    if num_chunks == 1 or schedule == "naive":
        return torch.full((num_chunks,), level_max, dtype=torch.float64)
    position = torch.arange(num_chunks, dtype=torch.float64) / (num_chunks - 1)
    if schedule == "linear":
        progress = position
    elif schedule == "cosine":
        progress = 0.5 * (1 - torch.cos(math.pi * position))
    else:
        progress = _logistic(position, steepness=steepness, normalize=normalize)
    start, end = torch.tensor([level_min, level_max], dtype=torch.float64)
    return torch.lerp(start, end, progress)  # lerp, unlike a + (b - a) * p, is exact at both ends


def _logistic(
    position: Float[Tensor, " num_chunks"], *, steepness: float, normalize: bool
) -> Float[Tensor, " num_chunks"]:
    if not (steepness > 0 and math.isfinite(steepness)):
        raise ValueError(f"steepness is {steepness}; the sigmoid schedule needs a finite, positive steepness")
    progress = torch.sigmoid(steepness * (position - 0.5))
    if not normalize:
        return progress
    return (progress - progress[0]) / (progress[-1] - progress[0])


def _check(num_chunks: int, schedule: str, level_min: float, level_max: float, normalize: bool) -> None:
    if num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; a video has at least 1 chunk")
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule is {schedule!r}; choose one of {', '.join(get_args(Schedule))}")
    if not 0 <= level_min <= level_max <= 1:
        raise ValueError(
            f"level_min is {level_min} and level_max is {level_max}; expected 0 <= level_min <= level_max <= 1, "
            "where 0 is clean and 1 is pure noise"
        )
    if normalize and schedule != "sigmoid":
        raise ValueError(f"normalize=True changes only the sigmoid, but schedule is {schedule!r}; leave it out")
