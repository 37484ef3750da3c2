"""Motion energy and smoothness (Eq. 21)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import MeanScorer, score_chunk
from vde_metrics.models.flow import DISFlow
from vde_metrics.protocols import OpticalFlow
from vde_metrics.video.frames import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """Motion of a chunk (Eq. 21), in one of two forms: ``energy`` or ``smoothness``.

    *Energy* is the length of the optical flow in pixels per frame, averaged over the pixels and then over the pairs of
    neighbouring frames. *Smoothness* needs no optical flow. It is 1 minus the mean distance of a frame's luminance from
    the average of its two neighbours, divided by 255. Pairs and triples of frames lie inside a chunk, so the change
    between two chunks does not count. The paper does not define the flow method or the smoothness; both are our choice.
    """

    form: Literal["energy", "smoothness"] = "energy"
    """``energy`` or ``smoothness``."""
    flow: OpticalFlow | None = None
    """Optical flow for ``energy``: ``DISFlow()`` unless given. ``smoothness`` takes none."""

    protocol: ClassVar[str] = "paper"

    def __post_init__(self) -> None:
        if self.form not in ("energy", "smoothness"):
            raise ValueError(f"form is {self.form!r}; expected 'energy' or 'smoothness'")
        if self.form == "smoothness" and self.flow is not None:
            raise ValueError("flow is a setting of form='energy'; smoothness computes no optical flow")
        if self.form == "energy" and self.flow is None:
            object.__setattr__(self, "flow", DISFlow())

    @property
    def name(self) -> str:
        """``motion`` or ``motion_smoothness``."""
        return "motion" if self.form == "energy" else "motion_smoothness"

    @property
    def lead(self) -> int:
        """How many earlier frames a feature depends on: 1 for ``energy``, 2 for ``smoothness``."""
        return 1 if self.form == "energy" else 2

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """For each frame: the mean flow from the previous frame, or the smoothness at the previous frame."""
        if self.flow is not None:
            return batch.by_pair(batch.flow_lengths(self.flow).mean((1, 2), dtype=torch.float64).float()[:, None])
        pictures = batch.luminance()
        smooth = [
            1 - (middle - (before + after) / 2).abs().mean() / 255
            for before, middle, after in zip(pictures, pictures[1:], pictures[2:], strict=False)
        ]
        rows = torch.stack(smooth).cpu()[:, None] if smooth else torch.zeros(0, 1)
        return batch.by_pair(rows[-len(batch) :])

    def scorer(self) -> MeanScorer:
        """A new scorer: the mean over the chunk's pairs (|S_i| - 1 of them in Eq. 21), or over its triples."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Motion of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)
