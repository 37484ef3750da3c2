"""Motion smoothness by frame interpolation."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import score_chunk
from vde_metrics.protocols import Named
from vde_metrics.video.frames import Frames

MULTIPLE = 16
"""Frames are padded to sides that are multiples of this."""


@runtime_checkable
class Interpolator(Named, Protocol):
    """Makes the frame between two others, as AMT-S does."""

    def between(
        self, before: Float32[Tensor, "n 3 h w"], after: Float32[Tensor, "n 3 h w"]
    ) -> Float32[Tensor, "n 3 h w"]:
        """The frame half-way between two frames. Pixels are RGB in [0, 1]. Sides are multiples of 16."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionSmoothness:
    """VBench's motion smoothness: how well every second frame can be interpolated from its neighbours.

    Frames 1, 3, 5, ... of a chunk, counted from 0, are interpolated from the frames before and after them and compared
    with the real frames. The score is 1 minus the mean absolute difference divided by 255. Values of interpolated
    frames are rounded down. Frames are padded by repeating their border and not resized. VBench does the same on a CPU,
    and on a GPU if it has enough memory.

    Which frames are interpolated depends on the chunk. The cache needs features for any chunks, so every frame is
    interpolated.
    """

    interpolator: Interpolator
    """Makes the frames between. VBench uses AMT-S."""

    protocol: ClassVar[str] = "released"
    name: ClassVar[str] = "motion_smoothness_vfi"
    """The name differs from that of the paper's smoothness."""
    lead: ClassVar[int] = 2
    """A feature compares the previous frame, interpolated from this frame and the one two before it."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """For each frame: the mean absolute difference, 0 to 255, at the previous frame."""
        seen = torch.cat([batch.before, batch.frames])
        rows = [self._miss(*seen[i - 2 : i + 1]) for i in range(max(2, len(batch.before)), len(seen))]
        return batch.by_pair(torch.tensor(rows, dtype=torch.float32)[:, None] if rows else torch.zeros(0, 1))

    def scorer(self) -> "SecondScorer":
        """A new scorer for one video."""
        return SecondScorer()

    def score(self, frames: Frames) -> float:
        """Smoothness of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)

    def _miss(
        self, before: UInt8[Tensor, "h w 3"], middle: UInt8[Tensor, "h w 3"], after: UInt8[Tensor, "h w 3"]
    ) -> float:
        """Mean absolute difference, 0 to 255, of the interpolated frame from the real one."""
        height, width = middle.shape[:2]
        pads = border(height, width, MULTIPLE)
        left, right = (
            F.pad(frame.permute(2, 0, 1)[None].float() / 255.0, pads, mode="replicate") for frame in (before, after)
        )
        guess = self.interpolator.between(left, right)[0, :, pads[2] : pads[2] + height, pads[0] : pads[0] + width]
        shown = (guess.detach().float().cpu() * 255.0).clamp(0, 255).byte().permute(1, 2, 0)  # rounds down
        return (shown.int() - middle.cpu().int()).abs().double().mean().item()


class SecondScorer:
    """1 minus the mean of every second difference divided by 255."""

    def __init__(self) -> None:
        self._total, self._seen = 0.0, 0

    def add(self, features: Float32[Tensor, "n 1"]) -> None:
        """Add the next frames of the current chunk."""
        for value in features[:, 0].tolist():
            self._total += 0.0 if self._seen % 2 else value
            self._seen += 1

    def close_chunk(self) -> float | None:
        """End the chunk and return the score; None if no frame has two neighbours."""
        total, count = self._total, (self._seen + 1) // 2
        self._total, self._seen = 0.0, 0
        return 1 - total / count / 255 if count else None


def border(height: int, width: int, multiple: int) -> tuple[int, int, int, int]:
    """Padding at the left, right, top and bottom that makes both sides multiples. An odd pixel goes right or below."""
    down, right = -height % multiple, -width % multiple
    return right // 2, right - right // 2, down // 2, down - down // 2
