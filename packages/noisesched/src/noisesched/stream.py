"""The noise of an endless video, chunk by chunk, with random access."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from noisesched.boundaries import boundary_order, check_window, draw_root
from noisesched.counter import derive_key, normal

Base = Literal["shared", "fresh"]
_BASE_NOISE = 3


@dataclass(frozen=True, slots=True)
class NoiseStream:
    """Boundary-shuffled noise of a video without a last chunk (BlockVid section 3.5, Eqs. 12-13).

    Every chunk is a pure function of (seed, index), every re-noising draw of (seed, index, step): asking for chunk 500
    first, twice, or after a restart gives the same frames. Except for the open end, a stream is `shuffle_boundaries` of
    itself with `window=0`, under a generator seeded with the stream's seed. As there is no last chunk, every suffix is
    shuffled; the first chunk's prefix is not.

    Numbers are drawn on the CPU, then moved, so they are the same on every device.
    """

    frame_shape: tuple[int, ...]
    """Shape of one frame, such as (channels, height, width)."""
    frames_per_chunk: int
    """Frames in every chunk, at least 1."""
    _: KW_ONLY
    seed: int
    """Seed of the whole stream, 0 to 2**64 - 1."""
    window: int | None = None
    """Shuffle unit s; None becomes min(4, frames_per_chunk // 2), 0 shuffles nothing."""
    base: Base = "shared"
    """`shared`: all chunks start from the same base frames, as in the paper; `fresh`: each has frames of its own."""
    overlap: bool = False
    """Allow 2 * window > frames_per_chunk: suffix first, then prefix."""
    dtype: torch.dtype = torch.float32
    """Dtype of the noise; the numbers are drawn in float32 and rounded to it."""
    device: torch.device | str = "cpu"
    """Device that the noise is moved to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_shape", tuple(self.frame_shape))
        if any(size < 1 for size in self.frame_shape):
            raise ValueError(f"frame_shape is {self.frame_shape}; every size must be at least 1")
        if self.frames_per_chunk < 1:
            raise ValueError(f"frames_per_chunk is {self.frames_per_chunk}; a chunk has at least 1 frame")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; expected an integer from 0 to 2**64 - 1")
        if self.base not in get_args(Base):
            raise ValueError(f"base is {self.base!r}; choose one of {', '.join(get_args(Base))}")
        window = min(4, self.frames_per_chunk // 2) if self.window is None else self.window
        object.__setattr__(self, "window", window)
        check_window(window, frames=self.frames_per_chunk, overlap=self.overlap)

    def chunk(self, index: int) -> Float[Tensor, "frames ..."]:
        """Noise that chunk `index` (counted from 0) starts from."""
        return self._draw(index, 0)

    def step(self, index: int, step: int) -> Float[Tensor, "frames ..."]:
        """Noise that a sampler which re-noises adds to chunk `index` after its step `step` (both counted from 0).

        Independent of `chunk(index)` and of every other step. `base` and the shuffling act here in the same way, since
        in a few-step sampler these draws, not the first one, are most of the noise that a chunk sees.
        """
        if step < 0:
            raise ValueError(f"step is {step}; steps are counted from 0")
        return self._draw(index, step + 1)

    def _draw(self, index: int, draw: int) -> Float[Tensor, "frames ..."]:
        if index < 0:
            raise ValueError(f"index is {index}; chunks are counted from 0, and a stream has no last one")
        owner = 0 if self.base == "shared" else index + 1
        frames = normal(derive_key(self.seed, draw, owner, _BASE_NOISE), (self.frames_per_chunk, *self.frame_shape))
        assert self.window is not None  # __post_init__ resolves it
        root = draw_root(torch.Generator().manual_seed(self.seed))
        order = boundary_order(
            self.frames_per_chunk, self.window, key=(root, draw, index), prefix=index > 0, suffix=True
        )
        return frames[order].to(dtype=self.dtype, device=self.device)
