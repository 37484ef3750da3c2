"""Aesthetic quality by LAION's linear predictor."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import MeanScorer, score_chunk
from vde_metrics.metrics.aesthetic import predicted
from vde_metrics.protocols import Predictor
from vde_metrics.video.frames import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class AestheticQuality:
    """VBench's aesthetic quality: the score of each frame by LAION's linear predictor, divided by 10, averaged.

    VBench uses ``LaionAesthetic("sa_0_4_vit_l_14_linear.pth", encoder=vbench.CLIP(vbench.CLIP_L14))``.
    """

    predictor: Predictor
    """Scores frames, on a scale of about 1 to 10."""

    protocol: ClassVar[str] = "released"
    name: ClassVar[str] = "aesthetic_quality"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """The predictor's score of each frame, divided by 10."""
        return predicted(self.predictor, batch)[:, None] / 10

    def scorer(self) -> MeanScorer:
        """A new scorer: the mean over the chunk's frames."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Quality of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)
