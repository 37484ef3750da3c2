"""Motion energy and smoothness (Eq. 21)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.luminance import luminance
from vde_metrics.protocols import Mean, Meter, score_chunk
from vde_metrics.video import Frames

Preset = Literal["ultrafast", "fast", "medium"]

MIN_FLOW_SIDE = 12
"""The optical flow works on patches of 8 pixels and fails on smaller pictures than this."""


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
    preset: Preset = "fast"
    """Quality of OpenCV's DIS optical flow; ``medium`` takes about four times as long as ``fast``."""

    def __post_init__(self) -> None:
        if self.form not in ("energy", "smoothness"):
            raise ValueError(f"form is {self.form!r}; expected 'energy' or 'smoothness'")
        if self.preset not in ("ultrafast", "fast", "medium"):
            raise ValueError(f"preset is {self.preset!r}; expected 'ultrafast', 'fast' or 'medium'")
        if self.form == "smoothness" and self.preset != "fast":
            raise ValueError("preset is a setting of form='energy'; smoothness computes no optical flow")

    @property
    def name(self) -> str:
        """``motion`` or ``motion_smoothness``."""
        return "motion" if self.form == "energy" else "motion_smoothness"

    def meter(self) -> Meter:
        """A fresh meter for one video."""
        return EnergyMeter(self.preset) if self.form == "energy" else SmoothnessMeter()

    def score(self, frames: Frames) -> float:
        """Motion of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self.meter(), frames)


class EnergyMeter:
    """Accumulates the mean length of the optical flow, pair by pair."""

    def __init__(self, preset: Preset) -> None:
        self._flow = dis_flow(preset)
        self._previous: np.ndarray | None = None
        self._lengths = Mean()

    def add(self, frame: UInt8[Tensor, "h w 3"]) -> None:
        """Measure the flow from the frame before, if that lies in the same chunk."""
        height, width, _ = frame.shape
        if min(height, width) < MIN_FLOW_SIDE:
            raise ValueError(
                f"motion: frames are {height}x{width}; optical flow needs sides of at least {MIN_FLOW_SIDE} pixels"
            )
        grey = luminance(frame).round().byte().cpu().numpy()
        if height < 32 or width > 4 * height:
            # OpenCV chooses its pyramid by the width and crashes on wide strips; lengths survive a transposition.
            grey = np.ascontiguousarray(grey.T)
        if self._previous is not None:
            self._lengths.add(flow_energy(self._flow.calc(self._previous, grey, None)))
        self._previous = grey

    def close_chunk(self) -> float:
        """Mean over the chunk's pairs: |S_i| - 1 of them, as in Eq. 21."""
        self._previous = None
        return self._lengths.take(missing="motion: a chunk needs at least 2 frames; take fewer or longer chunks")


class SmoothnessMeter:
    """Accumulates how well each frame lies between its neighbours."""

    def __init__(self) -> None:
        self._recent: list[Tensor] = []
        self._smoothness = Mean()

    def add(self, frame: UInt8[Tensor, "h w 3"]) -> None:
        """Measure the middle one of the last three frames of the chunk."""
        self._recent = [*self._recent[-2:], luminance(frame)]
        if len(self._recent) == 3:
            before, middle, after = self._recent
            self._smoothness.add(1 - (middle - (before + after) / 2).abs().mean().item() / 255)

    def close_chunk(self) -> float:
        """Mean over the frames that have two neighbours in the chunk."""
        self._recent = []
        return self._smoothness.take(
            missing="motion_smoothness: a chunk needs at least 3 frames; take fewer or longer chunks"
        )


def flow_energy(flow: Float32[np.ndarray, "h w 2"]) -> float:
    """Mean over the pixels of the flow's length."""
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean(dtype=np.float64))


def dis_flow(preset: Preset) -> Any:
    """OpenCV's dense inverse search; imported here because loading OpenCV takes a while."""
    import cv2

    presets = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }
    return cv2.DISOpticalFlow.create(presets[preset])
