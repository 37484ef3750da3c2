"""Freeze check: a frozen video has no drift and no merit."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.frames import FrameBatch
from vde_metrics.scoring import score_chunk
from vde_metrics.video import Frames

STILL_TOLERANCE = 0.25
"""Mean luminance change, of 255, up to which two neighbouring frames are the same picture (-60 dB)."""

FROZEN_SHARE = 0.95
"""Share of still pairs from which a chunk or video is called frozen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stillness:
    """Share of a chunk's neighbouring frames that show the same picture, 0 to 1."""

    name: ClassVar[str] = "stillness"
    lead: ClassVar[int] = 0
    """The scorer itself leaves out the pair that leads into a chunk."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """Mean luminance change from the frame before."""
        pictures = batch.luminance()[-(len(batch) + 1) :]
        changes = [(after - before).abs().mean() for before, after in pairwise(pictures)]
        return batch.by_pair(torch.stack(changes).cpu()[:, None] if changes else torch.zeros(0, 1))

    def scorer(self) -> "StillScorer":
        """A fresh scorer for one video."""
        return StillScorer()

    def score(self, frames: Frames) -> float:
        """Share of one chunk."""
        return score_chunk(self, frames)


class StillScorer:
    """Counts still pairs. A chunk of one frame has no pair of its own and takes the one that leads into it."""

    def __init__(self) -> None:
        self._still, self._pairs = 0, 0
        self._leading: float | None = None

    def add(self, features: Float32[Tensor, "n 1"]) -> None:
        """Take the next frames of the current chunk."""
        changes: list[float] = features[:, 0].tolist()
        if changes and self._leading is None:
            self._leading = changes.pop(0)
        self._still += sum(change <= STILL_TOLERANCE for change in changes)
        self._pairs += len(changes)

    def close_chunk(self) -> float | None:
        """Share of still pairs; None for a first chunk of one frame."""
        share = self._still / self._pairs if self._pairs else None
        if share is None and self._leading is not None and not math.isnan(self._leading):
            share = float(self._leading <= STILL_TOLERANCE)
        self._still, self._pairs, self._leading = 0, 0, None
        return share
