"""What a metric is to `measure`."""

from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from vde_metrics.video import Frames, checked_frames, written_frames


@runtime_checkable
class Metric(Protocol):
    """Scores one chunk of frames (Eq. 16).

    A metric with only these two members works everywhere; `measure` then holds the frames of one chunk at a time.
    """

    @property
    def name(self) -> str:
        """What the metric is called in reports; unique among the metrics of one measurement."""
        ...

    def score(self, frames: UInt8[Tensor, "t h w 3"]) -> float:
        """Score of one chunk. Frames are RGB, 0 to 255."""
        ...


@runtime_checkable
class Meter(Protocol):
    """Scores the chunks of one video in order, frame by frame, without keeping the frames.

    A meter lives as long as its video, so it may carry what it learnt in the first chunk to the later ones.
    """

    def add(self, frame: UInt8[Tensor, "h w 3"]) -> None:
        """Take the next frame of the current chunk."""
        ...

    def close_chunk(self) -> float:
        """End the current chunk and give its score; the next frame starts a new chunk."""
        ...


@runtime_checkable
class StreamingMetric(Metric, Protocol):
    """A metric that `measure` can run in memory independent of the length of a chunk."""

    def meter(self) -> Meter:
        """A fresh meter for one video."""
        ...


def score_chunk(meter: Meter, frames: Frames) -> float:
    """Score of a whole chunk by a fresh meter: how streaming metrics implement ``score``."""
    for frame in checked_frames(written_frames(frames)):
        meter.add(frame)
    return meter.close_chunk()


class Mean:
    """Running mean of what is measured per frame or pair; `take` gives it and starts again."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        """Count one more value."""
        self.total += value
        self.count += 1

    def take(self, *, missing: str) -> float:
        """The mean; ``missing`` is the error's text if there was nothing to measure."""
        if not self.count:
            raise ValueError(missing)
        mean = self.total / self.count
        self.total, self.count = 0.0, 0
        return mean
