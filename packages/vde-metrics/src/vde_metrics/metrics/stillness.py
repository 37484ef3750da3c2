"""The freeze check: a frozen video has no drift, but that does not make it good."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import score_chunk
from vde_metrics.video.frames import Frames

STILL_TOLERANCE = 0.25
"""Mean luminance change, out of 255, up to which two neighbouring frames show the same picture (-60 dB)."""

FROZEN_SHARE = 0.95
"""Share of still pairs from which on a chunk is frozen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stillness:
    """Share of a chunk's neighbouring frames that show the same picture, 0 to 1."""

    name: ClassVar[str] = "stillness"
    lead: ClassVar[int] = 0
    """Every frame counts; the scorer leaves out the pair that begins in the previous chunk."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """Mean luminance change of each frame from the previous one."""
        pictures = batch.luminance()[-(len(batch) + 1) :]
        changes = [(after - before).abs().mean() for before, after in pairwise(pictures)]
        return batch.by_pair(torch.stack(changes).cpu()[:, None] if changes else torch.zeros(0, 1))

    def scorer(self) -> "StillScorer":
        """A new scorer for one video."""
        return StillScorer()

    def score(self, frames: Frames) -> float:
        """Share of still pairs in one chunk."""
        return score_chunk(self, frames)


class StillScorer:
    """Counts still pairs. A chunk of one frame has no pair, so the pair with the frame before it counts."""

    def __init__(self) -> None:
        self._still, self._pairs = 0, 0
        self._leading: float | None = None

    def add(self, features: Float32[Tensor, "n 1"]) -> None:
        """Add the next frames of the current chunk."""
        changes: list[float] = features[:, 0].tolist()
        if changes and self._leading is None:
            self._leading = changes.pop(0)
        self._still += sum(change <= STILL_TOLERANCE for change in changes)
        self._pairs += len(changes)

    def close_chunk(self) -> float | None:
        """End the chunk and return the share of still pairs; None for a first chunk of one frame."""
        share = self._still / self._pairs if self._pairs else None
        if share is None and self._leading is not None and not math.isnan(self._leading):
            share = float(self._leading <= STILL_TOLERANCE)
        self._still, self._pairs, self._leading = 0, 0, None
        return share
