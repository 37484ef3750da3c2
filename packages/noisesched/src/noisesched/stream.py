"""The noise of a video of any length, with random access to its chunks."""

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

    The noise of a chunk is a pure function of (seed, index). The noise that is added after a step is a pure function of
    (seed, index, step). So chunk 500 is the same if it is asked for first, twice, or after a restart.

    The same noise comes from a stream with `window=0` and `shuffle_boundaries`, with a generator of the same seed. Only
    the end differs: a stream has no last chunk, so the last frames of every chunk are shuffled. The first frames of
    chunk 0 are not shuffled.

    Numbers are drawn on the CPU and then moved, so they are the same on every device.
    """

    frame_shape: tuple[int, ...]
    """Shape of one frame, such as (channels, height, width)."""
    frames_per_chunk: int
    """Frames in every chunk, at least 1; chunk 0 may have `first_frames` instead."""
    _: KW_ONLY
    seed: int
    """Seed of the stream, 0 to 2**64 - 1."""
    window: int | None = None
    """Number s of frames shuffled on each side of a boundary. None: min(4, frames_per_chunk // 2). 0: no shuffling."""
    base: Base = "shared"
    """`shared`: all chunks have the same frames before shuffling, as in the paper. `fresh`: each has its own."""
    first_frames: int | None = None
    """Frames in chunk 0, at least 1; None: as many as in the others. If they are fewer than `window`, all of them are
    shuffled."""
    overlap: bool = False
    """Allow 2 * window > frames_per_chunk. Then the last frames are shuffled first, and the first frames after them."""
    dtype: torch.dtype = torch.float32
    """Dtype of the noise. Numbers are drawn in float32 and rounded to it."""
    device: torch.device | str = "cpu"
    """Device of the noise."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_shape", tuple(self.frame_shape))
        if any(size < 1 for size in self.frame_shape):
            raise ValueError(f"frame_shape is {self.frame_shape}; every size must be at least 1")
        if self.frames_per_chunk < 1:
            raise ValueError(f"frames_per_chunk is {self.frames_per_chunk}; a chunk has at least 1 frame")
        if self.first_frames is not None and self.first_frames < 1:
            raise ValueError(f"first_frames is {self.first_frames}; a chunk has at least 1 frame")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; expected an integer from 0 to 2**64 - 1")
        if self.base not in get_args(Base):
            raise ValueError(f"base is {self.base!r}; choose one of {', '.join(get_args(Base))}")
        window = min(4, self.frames_per_chunk // 2) if self.window is None else self.window
        object.__setattr__(self, "window", window)
        check_window(window, frames=self.frames_per_chunk, overlap=self.overlap)

    def num_frames(self, index: int) -> int:
        """Frames in chunk `index`, counted from 0."""
        return self.frames_per_chunk if index or self.first_frames is None else self.first_frames

    def chunk(self, index: int) -> Float[Tensor, "frames ..."]:
        """Noise that chunk `index`, counted from 0, starts from."""
        return self._draw(index, 0)

    def step(self, index: int, step: int) -> Float[Tensor, "frames ..."]:
        """Noise that a re-noising sampler adds to chunk `index` after its step `step`; both are counted from 0.

        It is independent of `chunk(index)` and of every other step. `base` and the shuffling apply to it in the same
        way, because in a sampler with few steps it is most of the noise that a chunk gets.
        """
        if step < 0:
            raise ValueError(f"step is {step}; steps are counted from 0")
        return self._draw(index, step + 1)

    def _draw(self, index: int, draw: int) -> Float[Tensor, "frames ..."]:
        if index < 0:
            raise ValueError(f"index is {index}; chunks are counted from 0, and a stream has no last one")
        owner, num_frames = 0 if self.base == "shared" else index + 1, self.num_frames(index)
        frames = normal(derive_key(self.seed, draw, owner, _BASE_NOISE), (num_frames, *self.frame_shape))
        assert self.window is not None  # __post_init__ resolves it
        root, window = draw_root(torch.Generator().manual_seed(self.seed)), min(self.window, num_frames)
        order = boundary_order(num_frames, window, key=(root, draw, index), prefix=index > 0, suffix=True)
        return frames[order].to(dtype=self.dtype, device=self.device)
