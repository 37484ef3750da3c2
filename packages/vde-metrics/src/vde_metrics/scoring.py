"""From features of frames to scores of chunks."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from vde_metrics.frames import FrameBatch, frame_batches
from vde_metrics.protocols import Given, Metric, Named
from vde_metrics.video import Frames, checked_frames, written_frames

BATCH_FRAMES = 8
"""Frames that are decoded, encoded and dropped together."""


@runtime_checkable
class ChunkScorer(Protocol):
    """Scores the chunks of one video in order from the features of their frames.

    It lives as long as its video, so it may carry what it learnt in the first chunk to the later ones.
    """

    def add(self, features: Float32[Tensor, "n k"]) -> None:
        """Take the next frames of the current chunk, one row a frame."""
        ...

    def close_chunk(self) -> float | None:
        """End the current chunk and give its score; None where there was nothing to measure."""
        ...


@runtime_checkable
class FrameMetric(Metric, Protocol):
    """A metric in two steps, features of frames and scores of chunks: streamed, batched and cached by `measure`.

    Features must depend on the frame and the two before it only, not on the chunks: the cache keeps them for any cut.
    """

    @property
    def lead(self) -> int:
        """How many frames a feature looks back: in every chunk so many frames at its start do not count."""
        ...

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t k"]:
        """One row a frame; NaN where a frame has nothing to measure."""
        ...

    def scorer(self) -> ChunkScorer:
        """A fresh scorer for one video."""
        ...


class MeanScorer:
    """Mean over a chunk's frames of one number a frame; frames of NaN do not count."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, features: Float32[Tensor, "n 1"]) -> None:
        """Take the next frames of the current chunk."""
        found: list[float] = features[~features.isnan()].tolist()
        self._count += len(found)
        for value in found:  # one by one, so that the sum does not depend on how frames come in batches
            self._total += value

    def close_chunk(self) -> float | None:
        """The mean; None without a frame that counts."""
        mean = self._total / self._count if self._count else None
        self._total, self._count = 0.0, 0
        return mean


def score_chunk(metric: FrameMetric, frames: Frames) -> float:
    """Score of frames that are one chunk of their own, the first: how frame metrics implement ``score``."""
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
    """Refuse a chunk in which no frame can count."""
    if num_frames <= metric.lead:
        raise ValueError(
            f"{metric.name}: {chunk} has {num_frames} frame{'s' * (num_frames != 1)} but needs at least "
            f"{metric.lead + 1}; take fewer or longer chunks"
        )


def models(metric: Metric) -> Mapping[str, str]:
    """What the metric looks through, by role: the fields of a dataclass that have a name."""
    return {role: value.name for role, value in (_fields(metric) or {}).items() if isinstance(value, Named)}


def settings(metric: Metric) -> str:
    """The metric's settings as reports show and compare them."""
    return _described(metric, _name_or_value)


def feature_key(metric: FrameMetric) -> str | None:
    """The settings with digests of what was given for one video; None where they cannot be known."""
    return None if _fields(metric) is None else _described(metric, _name_and_digest)


def _fields(metric: Any) -> dict[str, Any] | None:
    """Settings of a dataclass; None for other objects, whose settings are their own affair."""
    return {field.name: getattr(metric, field.name) for field in fields(metric)} if is_dataclass(metric) else None


def _described(metric: Metric, word: Callable[[Any], str]) -> str:
    name, found = type(metric).__qualname__, _fields(metric)
    return name if found is None else f"{name}({', '.join(f'{role}={word(value)}' for role, value in found.items())})"


def _name_or_value(value: Any) -> str:
    return value.name if isinstance(value, Named) else repr(value)


def _name_and_digest(value: Any) -> str:
    return f"{value.name} {value.digest}" if isinstance(value, Given) else _name_or_value(value)


def unit(vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Vectors of length 1; zeros stay zeros."""
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-12)
