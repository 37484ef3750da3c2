"""Scores of chunks from features of frames, which are computed once for any number of chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vde_metrics import (
    Background,
    Clarity,
    Encoder,
    FrameBatch,
    FrameMetric,
    GivenMasks,
    Motion,
    Subject,
    chunk_boundaries,
)

METRICS = ("clarity", "motion", "motion_smoothness", "background", "background_camera", "subject")
"""Metrics by name: those that need no download. ``background_camera`` subtracts the motion of the camera."""
SUBJECT_EVERY = 4
"""The subject is looked at in every so many frames, because its encoder takes most of the time."""

_BATCH, _LOOK_BACK = 8, 2

Features = Mapping[str, Float[Tensor, "t k"]]
"""Features of each frame by metric; NaN where a frame has nothing to measure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A metric and the frames that it looks at."""

    metric: FrameMetric
    """The metric."""
    every: int = 1
    """1: every frame."""


def metrics_of(subject: Bool[Tensor, "t h w"], encoder: Encoder | None) -> dict[str, Measured]:
    """The metrics by name, for a video whose subject is known.

    Args:
        subject: Where the subject is.
        encoder: Embeds the subject; None: the subject is not measured.
    """
    masks = GivenMasks(subject)
    found = {
        "clarity": Measured(metric=Clarity()),
        "motion": Measured(metric=Motion()),
        "motion_smoothness": Measured(metric=Motion(form="smoothness")),
        "background": Measured(metric=Background(subject=masks)),
        "background_camera": Measured(metric=Background(subject=masks, compensate_camera=True)),
    }
    if encoder is not None:
        seen = GivenMasks(subject[::SUBJECT_EVERY])
        found["subject"] = Measured(metric=Subject(encoder=encoder, crops=seen), every=SUBJECT_EVERY)
    return found


def frame_features(
    frames: UInt8[Tensor, "t h w 3"], metrics: Mapping[str, Measured], *, first: int = 0, known: Features | None = None
) -> Features:
    """Features of every frame by metric.

    Args:
        frames: The video.
        metrics: Metrics by name.
        first: The first frame that is not as in a video whose features are known.
        known: Its features.
    """
    found = {}
    for every in sorted({one.every for one in metrics.values()}):
        own = {name: one.metric for name, one in metrics.items() if one.every == every}
        begin = -(-first // every)
        rows = _rows(frames[::every], own, begin)
        for name, values in rows.items():
            full = torch.full((len(frames), values.shape[1]), float("nan")) if known is None else known[name].clone()
            full[begin * every :: every] = values
            found[name] = full
    return found


def chunk_scores(features: Features, metrics: Mapping[str, Measured], num_chunks: int) -> dict[str, list[float | None]]:
    """The score of each of some chunks of equal length by metric, as `vde_metrics.measure` gives it."""
    found = {}
    for name, rows in features.items():
        metric, scores = metrics[name].metric, []
        scorer = metric.scorer()
        for start, end in pairwise(chunk_boundaries(len(rows), num_chunks)):
            scorer.add(rows[start + metric.lead : end])
            scores.append(scorer.close_chunk())
        found[name] = scores
    return found


def _rows(frames: Tensor, metrics: Mapping[str, FrameMetric], begin: int) -> dict[str, Tensor]:
    """Features from a frame on, batch by batch, so that metrics share optical flow and luminance."""
    parts: dict[str, list[Tensor]] = {name: [] for name in metrics}
    for start in range(begin, len(frames), _BATCH):
        before = frames[max(0, start - _LOOK_BACK) : start]
        batch = FrameBatch(frames[start : start + _BATCH], start=start, before=before)
        for name, metric in metrics.items():
            parts[name].append(metric.features(batch))
    return {name: torch.cat(rows) for name, rows in parts.items()}


def as_json(scores: Sequence[float | None]) -> list[float | None]:
    """Scores with six digits."""
    return [None if score is None else float(f"{score:.6g}") for score in scores]
