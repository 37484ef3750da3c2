"""Subject and background consistency: how much frames look like their predecessor and like the first one."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.frames import FrameBatch
from vde_metrics.protocols import Encoder
from vde_metrics.scoring import score_chunk, unit
from vde_metrics.vbench.encoders import CLIP, DINO
from vde_metrics.video import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectConsistency:
    """VBench's subject consistency: DINO features of whole frames.

    For every frame but the first, the mean of its cosines with the frame before and with the first frame, each at
    least 0; averaged over the frames. In [0, 1].
    """

    encoder: Encoder = field(default_factory=DINO)
    """DINO ViT-B/16 with VBench's preparation."""

    protocol: ClassVar[str] = "released"
    name: ClassVar[str] = "subject_consistency"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t d"]:
        """Features of the frames, of length 1."""
        return unit(batch.embeddings(self.encoder))

    def scorer(self) -> "ConsistencyScorer":
        """A fresh scorer for one video."""
        return ConsistencyScorer(self.name)

    def score(self, frames: Frames) -> float:
        """Consistency of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundConsistency(SubjectConsistency):
    """VBench's background consistency: the same as `SubjectConsistency` with CLIP features of whole frames."""

    encoder: Encoder = field(default_factory=CLIP)
    """CLIP ViT-B/32 with VBench's preparation."""

    name: ClassVar[str] = "background_consistency"


class ConsistencyScorer:
    """Mean likeness to the frame before and to the chunk's first frame."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: Tensor | None = None
        self._former: Tensor | None = None
        self._total, self._count = 0.0, 0

    def add(self, features: Float32[Tensor, "n d"]) -> None:
        """Take the next frames of the current chunk."""
        for row in features:
            if self._first is None or self._former is None:
                self._first = row
            else:
                self._total += (_likeness(self._former, row) + _likeness(self._first, row)) / 2
            self._former = row
            self._count += 1

    def close_chunk(self) -> float:
        """The mean over all frames but the first."""
        total, count = self._total, self._count
        self._first, self._former, self._total, self._count = None, None, 0.0, 0
        if count < 2:
            raise ValueError(f"{self._name}: a chunk has {count} frame, but needs at least 2; take fewer chunks")
        return total / (count - 1)


def _likeness(one: Float32[Tensor, " d"], other: Float32[Tensor, " d"]) -> float:
    return max(0.0, torch.cosine_similarity(one, other, dim=0).item())
