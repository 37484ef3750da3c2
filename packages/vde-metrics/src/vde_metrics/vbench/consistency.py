"""Subject and background consistency: how similar frames are to the previous frame and to the first frame."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import score_chunk
from vde_metrics.models.embeddings import unit
from vde_metrics.protocols import Encoder
from vde_metrics.vbench.encoders import CLIP, DINO
from vde_metrics.video.frames import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectConsistency:
    """VBench's subject consistency, from DINO features of whole frames. It lies in [0, 1].

    Every frame but the first has two cosines: with the previous frame and with the first frame. Negative ones count as
    0. The score is the mean over the frames of the mean of both.
    """

    encoder: Encoder = field(default_factory=DINO)
    """DINO ViT-B/16 with VBench's preparation of frames."""

    protocol: ClassVar[str] = "released"
    name: ClassVar[str] = "subject_consistency"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t d"]:
        """Features of the frames, scaled to length 1."""
        return unit(batch.embeddings(self.encoder))

    def scorer(self) -> "ConsistencyScorer":
        """A new scorer for one video."""
        return ConsistencyScorer(self.name)

    def score(self, frames: Frames) -> float:
        """Consistency of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundConsistency(SubjectConsistency):
    """VBench's background consistency: `SubjectConsistency` with CLIP features instead of DINO features."""

    encoder: Encoder = field(default_factory=CLIP)
    """CLIP ViT-B/32 with VBench's preparation of frames."""

    name: ClassVar[str] = "background_consistency"


class ConsistencyScorer:
    """Mean similarity to the previous frame and to the first frame of the chunk."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: Tensor | None = None
        self._former: Tensor | None = None
        self._total, self._count = 0.0, 0

    def add(self, features: Float32[Tensor, "n d"]) -> None:
        """Add the next frames of the current chunk."""
        for row in features:
            if self._first is None or self._former is None:
                self._first = row
            else:
                self._total += (_similarity(self._former, row) + _similarity(self._first, row)) / 2
            self._former = row
            self._count += 1

    def close_chunk(self) -> float:
        """End the chunk and return the mean over all frames but the first."""
        total, count = self._total, self._count
        self._first, self._former, self._total, self._count = None, None, 0.0, 0
        if count < 2:
            raise ValueError(f"{self._name}: a chunk has {count} frame, but needs at least 2; take fewer chunks")
        return total / (count - 1)


def _similarity(one: Float32[Tensor, " d"], other: Float32[Tensor, " d"]) -> float:
    return max(0.0, torch.cosine_similarity(one, other, dim=0).item())
