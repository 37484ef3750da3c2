"""Shuffling of noise frames on both sides of every chunk boundary (BlockVid Eqs. 12-13)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from noisesched.counter import derive_key, permutation

_SUFFIX, _PREFIX = 1, 2


def shuffle_boundaries(
    noise: Float[Tensor, "chunks frames ..."],
    window: int,
    *,
    generator: torch.Generator,
    overlap: bool = False,
) -> Float[Tensor, "chunks frames ..."]:
    """Permute the last `window` frames of every chunk and the first `window` of the next (BlockVid Eqs. 12-13).

    Both sides of a boundary are permuted independently, and no frame leaves its chunk. The first chunk keeps its first
    frames and the last chunk its last ones, because there is no boundary there. The permutations of a chunk depend only
    on its index and on one draw from the generator, not on the number of chunks.

    Args:
        noise: Noise frames of every chunk.
        window: Number s of frames that are shuffled on each side: 0 (no shuffling) to the number of frames in a chunk.
        generator: Source of the permutations. Exactly one number is drawn from it.
        overlap: Allow 2 * window > frames. Then the last frames are shuffled first and the first frames after them, so
            a frame may move twice.

    Returns:
        A new tensor with the same frames in their new order.
    """
    num_chunks, frames = noise.shape[:2]
    check_window(window, frames=frames, overlap=overlap)
    root = draw_root(generator)
    chunks = []
    for index in range(num_chunks):
        order = boundary_order(frames, window, key=(root, 0, index), prefix=index > 0, suffix=index < num_chunks - 1)
        chunks.append(noise[index].index_select(0, order.to(noise.device)))
    return torch.stack(chunks) if chunks else noise.clone()


def draw_root(generator: torch.Generator) -> int:
    """Draw one number from the generator. It is part of the keys of all permutations."""
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def boundary_order(
    frames: int, window: int, *, key: tuple[int, ...], prefix: bool, suffix: bool
) -> Int64[Tensor, " frames"]:
    """Source index of every frame of one chunk.

    Args:
        frames: Number of frames in the chunk.
        window: Number of frames that are shuffled on each side.
        key: Key of the permutations.
        prefix: Shuffle the first frames, after the last ones.
        suffix: Shuffle the last frames.
    """
    order = torch.arange(frames)
    if suffix:
        order[frames - window :] = order[frames - window :][permutation(derive_key(*key, _SUFFIX), window)]
    if prefix:
        order[:window] = order[:window][permutation(derive_key(*key, _PREFIX), window)]
    return order


def check_window(window: int, *, frames: int, overlap: bool) -> None:
    """Raise ValueError if a window is longer than a chunk, or if both overlap and that is not allowed."""
    if not 0 <= window <= frames:
        raise ValueError(f"window is {window}; expected 0 to {frames}, the number of frames in a chunk")
    if 2 * window > frames and not overlap:
        raise ValueError(
            f"window is {window}, but a chunk has {frames} frames: its first and last {window} frames overlap; use a "
            f"window of at most {frames // 2}, or overlap=True to shuffle the last frames first and then the first ones"
        )
