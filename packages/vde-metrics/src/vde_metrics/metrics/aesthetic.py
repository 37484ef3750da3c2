"""Visual appeal by a learned predictor (Eq. 23)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import MeanScorer, score_chunk
from vde_metrics.models.laion import LaionAesthetic
from vde_metrics.protocols import Predictor
from vde_metrics.video.frames import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Aesthetic:
    """Visual appeal: the mean over the chunk's frames of a learned predictor's score (Eq. 23).

    The paper names no predictor, and none is small enough to be a dependency. Give one, such as `LaionAesthetic`.
    """

    predictor: Predictor
    """Scores frames."""

    protocol: ClassVar[str] = "paper"
    name: ClassVar[str] = "aesthetic"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """The predictor's score of each frame."""
        return predicted(self.predictor, batch)[:, None]

    def scorer(self) -> MeanScorer:
        """A new scorer: the mean over the chunk's frames."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Appeal of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)


def predicted(predictor: Predictor, batch: FrameBatch) -> Float32[Tensor, " t"]:
    """One score per frame. Embeddings are shared with other metrics that use the same encoder."""
    if isinstance(predictor, LaionAesthetic):
        return predictor.predict_from(batch.embeddings(predictor.encoder))
    scores = predictor.predict(batch.frames)
    if scores.shape != (len(batch),):
        raise ValueError(
            f"aesthetic: {predictor.name} gave scores of shape {tuple(scores.shape)} for {len(batch)} frames; "
            f"expected ({len(batch)},)"
        )
    return scores.detach().float().cpu()
