"""Masks and boxes of the subject that the caller gives."""

import hashlib
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor


class GivenMasks:
    """A `Segmenter` with known masks: one mask of the subject for each frame of the video.

    A memory-mapped array (``numpy.load(..., mmap_mode="r")``) stays on disk. Only the masks of the current frames are
    read.
    """

    def __init__(self, masks: Any) -> None:
        """Keep the masks.

        Args:
            masks: tensor or array (frames, height, width). The subject is where it is not 0 or False.
        """
        if not isinstance(masks, Tensor | np.ndarray):
            raise TypeError(f"masks is a {type(masks).__name__}; expected a tensor or an array (frames, height, width)")
        if masks.ndim != 3:
            raise ValueError(f"masks has shape {tuple(masks.shape)}; expected (frames, height, width)")
        self._masks = masks

    name: ClassVar[str] = "given masks"

    @cached_property
    def digest(self) -> str:
        """sha256 of the masks, for the cache."""
        digest = hashlib.sha256(str(tuple(self._masks.shape)).encode())
        for i in range(len(self._masks)):
            digest.update(np.packbits(self._some(i, i + 1).numpy()).tobytes())
        return digest.hexdigest()

    def masks(self, frames: UInt8[Tensor, "t h w 3"], *, start: int) -> Bool[Tensor, "t h w"]:
        """The masks with the indexes ``start``, ``start + 1``, ..., one per frame."""
        end = start + len(frames)
        if end > len(self._masks) or tuple(self._masks.shape[1:]) != tuple(frames.shape[1:3]):
            raise ValueError(
                f"{len(self._masks)} masks of {tuple(self._masks.shape[1:])} were given, but frame {end - 1} has "
                f"{tuple(frames.shape[1:3])}; expected a mask of the picture's size for every frame"
            )
        return self._some(start, end)

    def _some(self, start: int, end: int) -> Bool[Tensor, "n h w"]:
        part = self._masks[start:end]
        return (part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))).cpu() != 0


class GivenBoxes:
    """A `Detector` with known boxes: one box of the subject for each frame of the video."""

    def __init__(self, boxes: Any) -> None:
        """Keep the boxes.

        Args:
            boxes: (frames, 4): left, top, right, bottom in pixels. A row of NaN means that there is no subject.
        """
        found = torch.as_tensor(boxes, dtype=torch.float64)
        if found.ndim != 2 or found.shape[1] != 4:
            raise ValueError(f"boxes has shape {tuple(found.shape)}; expected (frames, 4)")
        empty = (found[:, 2:] <= found[:, :2]).any(1)
        if empty.any():
            first = int(empty.nonzero()[0])
            raise ValueError(
                f"the box of frame {first} is {found[first].tolist()}; expected left < right and top < bottom, or NaN "
                "where there is no subject"
            )
        self._boxes = found.cpu()

    name: ClassVar[str] = "given boxes"

    @property
    def digest(self) -> str:
        """sha256 of the boxes, for the cache."""
        return hashlib.sha256(self._boxes.numpy().tobytes()).hexdigest()

    def boxes(self, frames: UInt8[Tensor, "t h w 3"], *, start: int) -> Float64[Tensor, "t 4"]:
        """The boxes with the indexes ``start``, ``start + 1``, ..., one per frame."""
        end = start + len(frames)
        if end > len(self._boxes):
            raise ValueError(
                f"{len(self._boxes)} boxes were given, but the video has a frame {end - 1}; expected a box for every "
                "frame"
            )
        return self._boxes[start:end]
