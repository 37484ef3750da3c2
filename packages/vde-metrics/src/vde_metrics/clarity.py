"""Sharpness by Laplacian variance (Eq. 20)."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.luminance import luminance
from vde_metrics.protocols import Mean, score_chunk
from vde_metrics.video import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Clarity:
    """Sharpness: the variance of the luminance's Laplacian, averaged over the chunk's frames (Eq. 20).

    The Laplacian has four neighbours, the luminance is 0 to 255, and the picture is mirrored at its border without
    repeating the edge, as OpenCV does.
    """

    @property
    def name(self) -> str:
        """``clarity``."""
        return "clarity"

    def meter(self) -> "ClarityMeter":
        """A fresh meter for one video."""
        return ClarityMeter()

    def score(self, frames: Frames) -> float:
        """Clarity of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self.meter(), frames)


class ClarityMeter:
    """Accumulates Laplacian variance frame by frame."""

    def __init__(self) -> None:
        self._variances = Mean()

    def add(self, frame: UInt8[Tensor, "h w 3"]) -> None:
        """Measure one frame."""
        self._variances.add(laplacian(luminance(frame)).var(correction=0).item())

    def close_chunk(self) -> float:
        """Mean over the chunk's frames."""
        return self._variances.take(missing="clarity: the chunk has no frames; it needs at least 1")


def laplacian(picture: Float32[Tensor, "h w"]) -> Float32[Tensor, "h w"]:
    """Sum of the four neighbours minus four times the pixel."""
    height, width = picture.shape
    if min(height, width) < 2:
        raise ValueError(f"a picture of {height}x{width} has no Laplacian; it needs at least 2x2 pixels")
    padded = F.pad(picture[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * picture
