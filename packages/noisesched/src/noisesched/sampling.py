"""Random levels for training, drawn around the level of each chunk."""

import warnings
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from noisesched.levels import shift_levels

Coupling = Literal["shift", "cap", "joint"]


def sample_levels(
    chunk_levels: Float[Tensor, " num_chunks"],
    batch_size: int,
    *,
    coupling: Coupling = "shift",
    generator: torch.Generator,
) -> Float[Tensor, " {batch_size} num_chunks"]:
    """Draw training levels t of every chunk around the schedule's level of that chunk (BlockVid section 3.5).

    The paper does not say how a chunk's level is used in training. With u uniform in [0, 1) and the chunk's level l:

    - `shift` (default): t = shift_levels(u, l / (1 - l)). The median of t is l, and all levels in (0, 1) are trained.
    - `joint`: as `shift`, but with one u for all chunks of a video, so chunks differ only by their level l.
    - `cap`: t = u * l. Levels above l are never trained, although sampling starts from level 1. It gives a warning.

    Args:
        chunk_levels: Level of each chunk, from `chunk_levels`. They lie in (0, 1), or in [0, 1] with `cap`.
        batch_size: Number of videos.
        coupling: How t is made from u and l.
        generator: Source of u, on any device.

    Returns:
        Levels in the dtype and on the device of `chunk_levels`. A model that takes one level per frame repeats each of
        them over the frames of its chunk.
    """
    _check(chunk_levels, batch_size, coupling)
    num_chunks = chunk_levels.shape[0]
    num_draws = 1 if coupling == "joint" else num_chunks
    u = torch.rand(batch_size, num_draws, generator=generator, dtype=torch.float64, device=generator.device)
    u = u.to(chunk_levels.device).expand(batch_size, num_chunks)
    level = chunk_levels.double()
    if coupling == "cap":
        warnings.warn(
            f"coupling='cap' never trains a chunk above its own level (here down to {float(level.min()):.3g}), but "
            "sampling starts every chunk from level 1; use coupling='shift' unless you sample from capped levels",
            UserWarning,
            stacklevel=2,
        )
        return (u * level).to(chunk_levels.dtype)
    return shift_levels(u, level / (1 - level)).to(chunk_levels.dtype)


def _check(chunk_levels: Float[Tensor, " num_chunks"], batch_size: int, coupling: str) -> None:
    if coupling not in get_args(Coupling):
        raise ValueError(f"coupling is {coupling!r}; choose one of {', '.join(get_args(Coupling))}")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    if chunk_levels.ndim != 1:
        raise ValueError(f"chunk_levels has shape {tuple(chunk_levels.shape)}; expected one level per chunk")
    if coupling == "cap":
        inside, interval = (chunk_levels >= 0) & (chunk_levels <= 1), "[0, 1]"
    else:
        inside, interval = (chunk_levels > 0) & (chunk_levels < 1), "(0, 1), where the shift l / (1 - l) is finite"
    if not bool(inside.all()):
        raise ValueError(f"chunk_levels is {chunk_levels.tolist()}; coupling={coupling!r} needs levels in {interval}")
