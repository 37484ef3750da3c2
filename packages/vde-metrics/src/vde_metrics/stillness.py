"""Freeze check: a frozen video has no drift and no merit."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from vde_metrics.luminance import luminance
from vde_metrics.protocols import Mean

STILL_TOLERANCE = 0.25
"""Mean luminance change, of 255, up to which two neighbouring frames are the same picture (-60 dB)."""

FROZEN_SHARE = 0.95
"""Share of still pairs from which a chunk or video is called frozen."""


class StillMeter:
    """Share of a chunk's neighbouring frames that show the same picture."""

    def __init__(self) -> None:
        self._previous: Tensor | None = None
        self._still = Mean()

    def add(self, frame: UInt8[Tensor, "h w 3"]) -> None:
        """Compare a frame with the one before it in the same chunk."""
        picture = luminance(frame)
        if self._previous is not None:
            change = torch.mean(torch.abs(picture - self._previous)).item()
            self._still.add(float(change <= STILL_TOLERANCE))
        self._previous = picture

    def close_chunk(self) -> float:
        """Share of still pairs, 0 to 1."""
        self._previous = None
        return self._still.take(missing="the freeze check needs at least 2 frames a chunk")
