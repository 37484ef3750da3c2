"""Motion energy and smoothness (Eq. 21)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from vde_metrics.flow import DISFlow
from vde_metrics.frames import FrameBatch
from vde_metrics.protocols import OpticalFlow
from vde_metrics.scoring import MeanScorer, score_chunk
from vde_metrics.video import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """Motion of a chunk by Eq. 21, whose two forms are named ``energy`` and ``smoothness``.

    *Energy* is the length of the optical flow in pixels per frame, averaged over the pixels and then over the pairs of
    neighbouring frames. *Smoothness* needs no flow: 1 minus the mean distance of a frame's luminance from the average
    of its two neighbours, as a share of 255. Pairs and triples lie inside a chunk, so a cut between chunks counts
    nowhere. The paper leaves the flow method and the smoothness score open; these are our choices.
    """

    form: Literal["energy", "smoothness"] = "energy"
    """Which of the two scores of Eq. 21."""
    flow: OpticalFlow | None = None
    """The optical flow of ``energy``: ``DISFlow()`` unless given. ``smoothness`` has none."""

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
        """1 for pairs of frames, 2 for triples."""
        return 1 if self.form == "energy" else 2

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """For each frame: flow energy from the frame before, or smoothness of the frame before."""
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
        """Mean over the chunk's pairs (|S_i| - 1 of them, as in Eq. 21), or over its frames with two neighbours."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Motion of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)
