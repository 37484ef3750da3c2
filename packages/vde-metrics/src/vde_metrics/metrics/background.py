"""Staticness of the background (Eq. 24)."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import MeanScorer, score_chunk
from vde_metrics.metrics.camera import camera_flow, moving_subject
from vde_metrics.models.flow import DISFlow, flow_lengths
from vde_metrics.protocols import OpticalFlow, Segmenter
from vde_metrics.video.frames import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """Staticness: the share of background pixels whose optical flow is at most tau, averaged over the chunk (Eq. 24).

    1 means that the background stands still, 0 that it moves everywhere. The flow of frame t is the one from frame
    t - 1. Eq. 24 divides by the number of frames, so the pair of the last frame before a chunk and its first frame
    counts in that chunk. A background that changes between two chunks therefore lowers the score. Background are the
    pixels that no mask covers in either frame of the pair. Frames without background do not count.

    Without a segmenter the subject is estimated. It is the largest connected region that moves differently from the
    camera, if it covers at most half of the picture. The motion of the camera is an affine motion fitted to the flow. A
    subject that stands still counts as background.
    """

    subject: Segmenter | None = None
    """Finds the subject, which is not background: a segmenter or `GivenMasks`. None: the subject is estimated."""
    flow: OpticalFlow = field(default_factory=DISFlow)
    """The optical flow."""
    tolerance: float = 0.002
    """tau in Eq. 24, as a share of the picture's diagonal."""
    compensate_camera: bool = False
    """Subtract the motion of the camera from the flow, so that a steady pan counts as static. Not in the paper."""

    protocol: ClassVar[str] = "paper"
    name: ClassVar[str] = "background"
    lead: ClassVar[int] = 0
    """Every frame counts, with the pair that ends at it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance is {self.tolerance}; expected a share of the diagonal, such as 0.002")

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """Staticness phi_t of each frame; NaN if it has no background or no previous frame."""
        flows, lengths = batch.flow(self.flow).cpu(), batch.flow_lengths(self.flow)
        if not len(flows):
            return batch.by_pair(torch.zeros(0, 1))
        given = None if self.subject is None else self._given_background(batch, self.subject)
        rows = [
            self._staticness(flows[i], lengths[i], None if given is None else given[i].numpy())
            for i in range(len(flows))
        ]
        return batch.by_pair(torch.tensor(rows, dtype=torch.float32)[:, None])

    def scorer(self) -> MeanScorer:
        """A new scorer: the mean over the chunk's frames."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Staticness of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)

    def _given_background(self, batch: FrameBatch, subject: Segmenter) -> Bool[Tensor, "pairs h w"]:
        """Pixels that are background in both frames of a pair; where a subject covers one, the flow is meaningless."""
        frames = torch.cat([batch.before[-1:], batch.frames])
        masks = subject.masks(frames, start=batch.start - len(batch.before[-1:]))
        if masks.shape != frames.shape[:3]:
            raise ValueError(
                f"background: masks have shape {tuple(masks.shape)}; frames need {tuple(frames.shape[:3])}"
            )
        return ~(masks[:-1] | masks[1:]).cpu()

    def _staticness(
        self,
        flow: Float32[Tensor, "h w 2"],
        lengths: Float32[Tensor, "h w"],
        background: Bool[np.ndarray, "h w"] | None,
    ) -> float:
        """Share of the background whose flow is at most tau; NaN if there is no background."""
        tau = self.tolerance * math.hypot(*flow.shape[:2])
        if background is None or self.compensate_camera:
            residual = flow - torch.from_numpy(camera_flow(flow.numpy()))
            if background is None:
                background = ~moving_subject(residual.numpy(), tolerance=tau)
            lengths = flow_lengths(residual[None])[0] if self.compensate_camera else lengths
        count = np.count_nonzero(background)
        return np.count_nonzero((lengths.numpy() <= tau) & background) / count if count else math.nan
