"""Identity of the subject (Eq. 25)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from vde_metrics.features.batches import FrameBatch
from vde_metrics.features.scoring import score_chunk
from vde_metrics.models.efficientnet import EfficientNetLite0
from vde_metrics.models.embeddings import unit
from vde_metrics.protocols import Detector, Encoder, Segmenter
from vde_metrics.video.frames import Frames

GREY = 127
MIN_SIDE = 4
"""Smallest side of a subject in pixels. A narrower one counts as no subject."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Identity: the mean cosine of the subject's embedding in each frame with that of the first chunk (Eq. 25).

    The reference is the mean embedding over the crops of the first chunk that shows the subject. Frames without the
    subject do not count. A chunk without it has no score, and the report says so. Crops are squares around the subject,
    so that its proportions stay.
    """

    encoder: Encoder = field(default_factory=EfficientNetLite0)
    """Embeds the crops: `EfficientNetLite0`, which needs no download, or a `PretrainedEncoder`, or your own."""
    crops: Segmenter | Detector | None = None
    """Finds the subject: a segmenter, a detector, `GivenMasks` or `GivenBoxes`. None: whole frames are embedded."""
    margin: float = 0.1
    """Space around the subject on each side, as a share of the longer side of its box."""
    isolate: bool = True
    """Paint pixels outside of the mask grey, so that the background does not count. With boxes it has no effect."""

    protocol: ClassVar[str] = "paper"
    name: ClassVar[str] = "subject"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin is {self.margin}; expected a share of the box, 0 or more")

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t d"]:
        """Embedding of the subject in each frame; NaN if there is none."""
        if self.crops is None:
            return batch.embeddings(self.encoder)
        crops = self._crops(batch, self.crops)
        shown = [i for i, crop in enumerate(crops) if crop is not None]
        rows = torch.full((len(crops), self.encoder.dim), float("nan"))
        if shown:
            rows[shown] = self.encoder.encode([crop for crop in crops if crop is not None]).detach().float().cpu()
        return rows

    def scorer(self) -> "IdentityScorer":
        """A new scorer for one video."""
        return IdentityScorer()

    def score(self, frames: Frames) -> float:
        """Similarity of one chunk to itself: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)

    def _crops(self, batch: FrameBatch, finder: Segmenter | Detector) -> Sequence[UInt8[Tensor, "_ _ 3"] | None]:
        frames = batch.frames
        if isinstance(finder, Segmenter):
            masks = finder.masks(frames, start=batch.start)
            _check_shape("masks", masks, tuple(frames.shape[:3]))
            if self.isolate:
                frames = torch.where(masks.to(frames.device)[..., None], frames, GREY)
            boxes = torch.stack([mask_box(mask) for mask in masks])
        else:
            boxes = finder.boxes(frames, start=batch.start)
            _check_shape("boxes", boxes, (len(frames), 4))
        return [square_crop(frame, box, margin=self.margin) for frame, box in zip(frames, boxes, strict=True)]


class IdentityScorer:
    """Mean cosine with the mean embedding of the first chunk, in constant memory.

    The mean cosine with one vector is the dot product of that vector and the mean of the others, all at length 1. So it
    is enough to keep sums.
    """

    def __init__(self) -> None:
        self._reference: Tensor | None = None
        self._sum: Tensor | None = None
        self._unit_sum: Tensor | None = None
        self._count = 0

    def add(self, features: Float32[Tensor, "n d"]) -> None:
        """Add the next frames of the current chunk."""
        shown = features[~features.isnan().any(1)].double()
        self._count += len(shown)
        for row in shown:  # one by one, so that the sums do not depend on the batches
            one = unit(row)
            self._sum = row if self._sum is None else self._sum + row
            self._unit_sum = one if self._unit_sum is None else self._unit_sum + one

    def close_chunk(self) -> float | None:
        """End the chunk and return the mean cosine; None if no frame shows the subject."""
        total, units, count = self._sum, self._unit_sum, self._count
        self._sum, self._unit_sum, self._count = None, None, 0
        if not count or total is None or units is None:
            return None
        if self._reference is None:
            self._reference = unit(total / count)
        return (units / count @ self._reference).item()


def mask_box(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "4"]:
    """Box (left, top, right, bottom) of the mask; NaN if the mask is empty."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    if not len(rows):
        return torch.full((4,), float("nan"), dtype=torch.float64)
    edges = [columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1]
    return torch.tensor(edges, dtype=torch.float64)


def square_crop(
    frame: UInt8[Tensor, "h w 3"], box: Float[Tensor, "4"], *, margin: float
) -> UInt8[Tensor, "s s 3"] | None:
    """The square around a box, grey outside of the picture; None if the picture shows less than 4 pixels of it."""
    height, width, _ = frame.shape
    left, top, right, bottom = box.tolist()
    inside = (min(right, width) - max(left, 0), min(bottom, height) - max(top, 0))
    if not min(inside) >= MIN_SIDE:  # also if it is NaN
        return None
    side = max(round(max(right - left, bottom - top) * (1 + 2 * margin)), MIN_SIDE)
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    crop = frame.new_full((side, side, 3), GREY)
    crop[max(-y, 0) : height - y, max(-x, 0) : width - x] = frame[max(y, 0) : y + side, max(x, 0) : x + side]
    return crop


def _check_shape(what: str, found: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(found.shape) != expected:
        raise ValueError(f"subject: {what} have shape {tuple(found.shape)}; expected {expected}")
