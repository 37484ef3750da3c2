"""Imaging quality by MUSIQ."""

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import MeanScorer, score_chunk
from vde_metrics.models.digest import short_digest
from vde_metrics.protocols import Named
from vde_metrics.video.frames import Frames

LONGEST = 512
"""Largest side of a frame in pixels; larger frames are resized."""
MUSIQ_FILE = "musiq_spaq_ckpt-358bb6af.pth"


@runtime_checkable
class QualityScorer(Named, Protocol):
    """Scores the technical quality of pictures, as MUSIQ does."""

    def quality(self, pixels: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, " n"]:
        """One score per picture, 0 to 100. Pixels are RGB in [0, 1]."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagingQuality:
    """VBench's imaging quality: MUSIQ's score of each frame, divided by 100, averaged.

    If a side of a frame exceeds 512 pixels, the longer side is resized to 512, bilinearly without antialiasing.
    """

    model: QualityScorer
    """Scores pictures. VBench uses MUSIQ trained on SPAQ: `PyiqaMUSIQ`, or your own adapter."""

    protocol: ClassVar[str] = "released"
    name: ClassVar[str] = "imaging_quality"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """The score of each frame, divided by 100."""
        scores = [self.model.quality(longer_side(frame)).reshape(1) for frame in batch.frames]
        return torch.stack(scores).detach().float().cpu() / 100

    def scorer(self) -> MeanScorer:
        """A new scorer: the mean over the chunk's frames."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Quality of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)


def longer_side(picture: UInt8[Tensor, "h w 3"]) -> Float32[Tensor, "1 3 i j"]:
    """Pixels in [0, 1], resized to sides of at most 512. Sides are rounded down."""
    height, width = picture.shape[:2]
    pixels = picture.permute(2, 0, 1)[None].float()
    if max(height, width) > LONGEST:
        scale = LONGEST / max(height, width)
        size = (max(1, int(scale * height)), max(1, int(scale * width)))
        pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
    return pixels / 255.0


class PyiqaMUSIQ:
    """MUSIQ of the package pyiqa with the weights that VBench uses.

    pyiqa is not a dependency of this package. ``pip install pyiqa`` also installs torchvision.
    """

    def __init__(self, weights: str | PathLike[str] = MUSIQ_FILE, *, device: str | torch.device = "cpu") -> None:
        """Find the weights. They are read later.

        Args:
            weights: file of weights.
            device: where the network runs.

        Raises:
            FileNotFoundError: if the file is missing. The message says which file is needed, and where.
        """
        self.path = Path(weights)
        self._device = torch.device(device)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path}: no such file; put {MUSIQ_FILE} of the release v0.1-weights of "
                "github.com/chaofengc/IQA-PyTorch there, or give its path"
            )

    def __repr__(self) -> str:
        return f"PyiqaMUSIQ({str(self.path)!r})"

    @cached_property
    def name(self) -> str:
        """``musiq`` and the first digits of the sha256 of the weights."""
        return f"musiq {short_digest(self.path)}"

    @torch.no_grad()
    def quality(self, pixels: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, " n"]:
        """One score per picture, 0 to 100. Pixels are RGB in [0, 1]."""
        found: Tensor = self._model(pixels.to(self._device))
        return found.reshape(-1).float().cpu()

    @cached_property
    def _model(self) -> Any:
        try:
            from pyiqa.archs.musiq_arch import MUSIQ
        except ImportError as error:
            raise ImportError(
                f"{error.name} is not installed; imaging quality needs pyiqa, which brings torchvision: "
                "pip install pyiqa"
            ) from error
        return MUSIQ(pretrained_model_path=str(self.path)).eval().to(self._device)
