"""Frames in memory: what is accepted, and as what."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Frames = UInt8[Tensor, "t h w 3"] | UInt8[np.ndarray, "t h w 3"] | Float[Tensor, "*one 3 t h w"]
"""RGB frames, 0 to 255; or the pixels of a generated video in [-1, 1], which are rounded as for a file."""


def written_frames(video: Any) -> Any:
    """Pixels [3 t h w] or [1 3 t h w] in [-1, 1] as uint8 frames [t h w 3]; anything else unchanged."""
    if not isinstance(video, Tensor) or not video.is_floating_point():
        return video
    pixels = video[0] if video.ndim == 5 and video.shape[0] == 1 else video
    if pixels.ndim != 4 or pixels.shape[0] != 3:
        return video  # `checked_frames` refuses it
    return ((pixels.detach().float() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0)


def checked_frames(frames: Iterable[Any]) -> Iterator[UInt8[Tensor, "h w 3"]]:
    """Frames as uint8 tensors of one size. Numpy arrays are accepted too.

    Raises:
        TypeError: If a frame is not a uint8 tensor or array.
        ValueError: If a frame has another shape than (height, width, 3), or than the frames before it.
    """
    size: tuple[int, ...] | None = None
    for index, given in enumerate(frames):
        frame = _as_tensor(given, index)
        if size is None:
            size = tuple(frame.shape)
        elif tuple(frame.shape) != size:
            raise ValueError(f"frame {index} has shape {tuple(frame.shape)}; the frames before it have {size}")
        yield frame


def _as_tensor(given: Any, index: int) -> Tensor:
    if isinstance(given, np.ndarray):
        # torch needs memory that is writable and has no negative strides
        given = torch.from_numpy(np.require(given, requirements=["C", "W"]))
    if not isinstance(given, Tensor):
        raise TypeError(f"frame {index} is a {type(given).__name__}; expected a torch tensor or a numpy array")
    if given.dtype != torch.uint8:
        raise TypeError(
            f"frame {index} is {given.dtype}; expected uint8 RGB, 0 to 255. "
            "From pixels x in [-1, 1]: ((x + 1) * 127.5).round().clamp(0, 255).byte()"
        )
    if given.ndim != 3 or given.shape[-1] != 3:
        raise ValueError(f"frame {index} has shape {tuple(given.shape)}; expected (height, width, 3)")
    return given
