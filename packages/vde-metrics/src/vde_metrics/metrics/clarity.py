"""Sharpness by Laplacian variance (Eq. 20)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import MeanScorer, score_chunk
from vde_metrics.video.frames import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Clarity:
    """Sharpness: the variance of the Laplacian of the luminance, averaged over the chunk's frames (Eq. 20).

    The luminance is 0 to 255, and the Laplacian has four neighbours. At its border the picture is mirrored without
    repeating the edge, as in OpenCV.
    """

    protocol: ClassVar[str] = "paper"
    name: ClassVar[str] = "clarity"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """Variance of the Laplacian of each frame."""
        pictures = batch.luminance()[len(batch.before) :]
        return torch.stack([laplacian(picture).var(correction=0) for picture in pictures]).cpu()[:, None]

    def scorer(self) -> MeanScorer:
        """A new scorer: the mean over the chunk's frames."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Clarity of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)


def laplacian(picture: Float32[Tensor, "h w"]) -> Float32[Tensor, "h w"]:
    """Sum of the four neighbours minus four times the pixel."""
    height, width = picture.shape
    if min(height, width) < 2:
        raise ValueError(f"a picture of {height}x{width} has no Laplacian; it needs at least 2x2 pixels")
    padded = F.pad(picture[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * picture
