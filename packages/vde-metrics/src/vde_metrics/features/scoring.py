"""Scores of chunks from features of frames."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float32
from torch import Tensor

from vde_metrics.features.batches import FrameBatch, frame_batches
from vde_metrics.protocols import Given, Metric, Named
from vde_metrics.video.frames import Frames, checked_frames, written_frames

BATCH_FRAMES = 8
"""How many frames are decoded and encoded together."""


@runtime_checkable
class ChunkScorer(Protocol):
    """Scores the chunks of one video, in order, from the features of their frames.

    There is one scorer per video, so it may use what it has seen of earlier chunks.
    """

    def add(self, features: Float32[Tensor, "n k"]) -> None:
        """Add the next frames of the current chunk, one row per frame."""
        ...

    def close_chunk(self) -> float | None:
        """End the current chunk and return its score; None if there was nothing to measure."""
        ...


@runtime_checkable
class FrameMetric(Metric, Protocol):
    """A metric in two steps: features of frames, then scores of chunks. `measure` streams, batches and caches it.

    The features of a frame may depend on that frame and the two before it, but not on the chunks, because the cache
    keeps them for any chunks.
    """

    @property
    def lead(self) -> int:
        """How many earlier frames a feature depends on. That many frames at the start of a chunk are left out."""
        ...

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t k"]:
        """One row per frame; NaN where a frame has nothing to measure."""
        ...

    def scorer(self) -> ChunkScorer:
        """A new scorer for one video."""
        ...


class MeanScorer:
    """Mean over a chunk of one number per frame. Frames with NaN do not count."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, features: Float32[Tensor, "n 1"]) -> None:
        """Add the next frames of the current chunk."""
        found: list[float] = features[~features.isnan()].tolist()
        self._count += len(found)
        for value in found:  # one by one, so that the sum does not depend on the batches
            self._total += value

    def close_chunk(self) -> float | None:
        """End the chunk and return the mean; None if no frame counts."""
        mean = self._total / self._count if self._count else None
        self._total, self._count = 0.0, 0
        return mean


def score_chunk(metric: FrameMetric, frames: Frames) -> float:
    """Score of some frames as the first chunk of a video. Frame metrics use it to implement ``score``."""
    scorer, count = metric.scorer(), 0
    for batch in frame_batches(checked_frames(written_frames(frames)), BATCH_FRAMES):
        count += len(batch)
        scorer.add(metric.features(batch)[max(0, metric.lead - batch.start) :])
    check_length(metric, count, chunk="a chunk")
    score = scorer.close_chunk()
    if score is None:
        raise ValueError(f"{metric.name}: none of the {count} frames has anything to measure")
    return score


def check_length(metric: FrameMetric, num_frames: int, *, chunk: str) -> None:
    """Raise ValueError if a chunk is so short that no frame of it counts.

    Args:
        metric: gives the ``lead``.
        num_frames: length of the chunk.
        chunk: what the message calls the chunk.
    """
    if num_frames <= metric.lead:
        raise ValueError(
            f"{metric.name}: {chunk} has {num_frames} frame{'s' * (num_frames != 1)} but needs at least "
            f"{metric.lead + 1}; take fewer or longer chunks"
        )


def models(metric: Metric) -> Mapping[str, str]:
    """Names of the models behind a metric, by role: the dataclass fields whose values have a name."""
    return {role: value.name for role, value in (_fields(metric) or {}).items() if isinstance(value, Named)}


def settings(metric: Metric) -> str:
    """The metric's settings, as reports show and compare them."""
    return _described(metric, _name_or_value)


def feature_key(metric: FrameMetric) -> str | None:
    """The settings, with digests of what belongs to one video. The cache uses it.

    Returns:
        None if the metric is not a dataclass, because then its settings are unknown.
    """
    return None if _fields(metric) is None else _described(metric, _name_and_digest)


def _fields(metric: Any) -> dict[str, Any] | None:
    """The fields of a dataclass; None for any other object."""
    return {field.name: getattr(metric, field.name) for field in fields(metric)} if is_dataclass(metric) else None


def _described(metric: Metric, word: Callable[[Any], str]) -> str:
    name, found = type(metric).__qualname__, _fields(metric)
    return name if found is None else f"{name}({', '.join(f'{role}={word(value)}' for role, value in found.items())})"


def _name_or_value(value: Any) -> str:
    return value.name if isinstance(value, Named) else repr(value)


def _name_and_digest(value: Any) -> str:
    return f"{value.name} {value.digest}" if isinstance(value, Given) else _name_or_value(value)
