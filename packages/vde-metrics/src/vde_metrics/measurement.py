"""Measuring the drift of a video, chunk by chunk."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

from vde_metrics.chunks import Chunking, check_chunks, check_weights
from vde_metrics.drift import Protocol, Weights, named_vde, slope, worst_chunk
from vde_metrics.features.cache import FeatureCache
from vde_metrics.features.one_pass import Plan, chunk_scores
from vde_metrics.features.scoring import BATCH_FRAMES, models, settings
from vde_metrics.metrics.clarity import Clarity
from vde_metrics.metrics.motion import Motion
from vde_metrics.metrics.stillness import Stillness
from vde_metrics.protocols import Metric, ProtocolMetric, ThinnedMetric
from vde_metrics.reports.report import DriftReport, MetricDrift
from vde_metrics.video.sources import FileSource, FrameSource, open_source, with_count


def measure(
    video: str | PathLike[str] | Iterable[Any],
    *,
    metrics: Iterable[Metric] | None = None,
    num_chunks: int | None = None,
    chunk_seconds: float | None = None,
    chunk_frames: Sequence[int] | None = None,
    weights: Weights = "linear",
    protocol: Protocol = "paper",
    num_frames: int | None = None,
    fps: float | None = None,
    name: str | None = None,
    batch_frames: int = BATCH_FRAMES,
    cache: str | PathLike[str] | None = None,
    thumbnails: bool = False,
    on_frames: Callable[[int, int], None] | None = None,
) -> DriftReport:
    """Measure the drift of a video (Eqs. 16-25) with many metrics in one pass.

    The video is read as a stream. The metrics of this package are `FrameMetric`, so memory does not grow with the
    video's length. A metric that has only ``name`` and ``score`` gets one whole chunk at a time.

    Args:
        video: a path; or an iterable of frames, tensors or arrays of uint8 RGB (height, width, 3); or the pixels of a
            generated video as one tensor [3 t h w] or [1 3 t h w] in [-1, 1].
        metrics: ``Clarity()`` and ``Motion()`` unless given.
        num_chunks: number N of chunks of equal length, 10 unless given. Chunk i of F frames begins at round(i * F / N).
        chunk_seconds: length of a chunk in seconds, instead. A rest of less than half a chunk belongs to the last one.
        chunk_frames: boundaries, instead: 0, the first frame of every later chunk, the number of frames.
        weights: ``linear`` or ``log`` (Eq. 19).
        protocol: ``paper``, or ``released`` with the metrics of `vde_metrics.vbench`. Then the chunks are those of the
            benchmark's script: all of the same length, and up to N - 1 frames at the end belong to none.
        num_frames: number of frames of an iterable that has no ``len``.
        fps: frames per second of an iterable, for ``chunk_seconds`` and the report.
        name: the video's name in the report. A file has its own name unless given.
        batch_frames: how many frames go through the metrics and their encoders together.
        cache: folder for the features of a file. They are found again by the sha256 of the file and the settings of the
            metric, so another number of chunks or other weights need no new computation.
        thumbnails: keep a small picture of the middle of every chunk, for the HTML page.
        on_frames: called after every batch with the number of frames done and the number of all frames.

    Raises:
        FileNotFoundError: if the file or the weights of a model are missing.
        ValueError: if the file is not a video that can be read, if it is too short for the chunks or too small for a
            metric, or if arguments contradict each other.
    """
    chunking = Chunking(
        num_chunks=num_chunks, chunk_seconds=chunk_seconds, chunk_frames=chunk_frames, protocol=protocol
    )
    checked = checked_metrics(metrics, protocol)
    if batch_frames < 1:
        raise ValueError(f"batch_frames is {batch_frames}; expected 1 or more")
    check_weights(chunking.announced, weights)  # before the video is decoded, which may take an hour
    source = open_source(video, num_frames=num_frames, fps=fps)
    store = feature_store(source, cache)
    measurement = _Measurement(
        source=source,
        metrics=checked,
        chunking=chunking,
        weights=weights,
        name=name or source.name,
        batch_frames=batch_frames,
        cache=store,
        thumbnails=thumbnails,
        on_frames=on_frames,
    )
    known = _known_count(chunking, store)
    return with_count(source, measurement.report) if known is None else measurement.report(known)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measurement:
    """The checked arguments of `measure`."""

    source: FrameSource | FileSource
    metrics: Sequence[Metric]
    chunking: Chunking
    weights: Weights
    name: str
    batch_frames: int
    cache: FeatureCache | None
    thumbnails: bool
    on_frames: Callable[[int, int], None] | None

    def report(self, count: int) -> DriftReport:
        """Measure a video of this many frames. Raises ValueError if it has another number of frames."""
        source, weights, protocol = self.source, self.weights, self.chunking.protocol
        boundaries, plans = _planned(self.metrics, self.chunking, count=count, fps=source.fps, weights=weights)
        found = chunk_scores(
            source,
            plans=[*plans, Plan(metric=Stillness(), boundaries=boundaries)],
            num_frames=count,
            batch_frames=self.batch_frames,
            cache=self.cache,
            pictures=_middles(boundaries) if self.thumbnails else (),
            on_frames=self.on_frames,
        )
        rows = zip(self.metrics, found.scores[:-1], strict=True)
        return DriftReport(
            video=self.name,
            fps=source.fps,
            height=found.size[0],
            width=found.size[1],
            chunk_frames=tuple(boundaries),
            weights=weights,
            metrics=tuple(_drift(metric, row, weights, protocol) for metric, row in rows),
            still_pairs=tuple(found.scores[-1]),
            protocol=protocol,
            source=source.notes,
            versions=package_versions(),
            thumbnails=found.thumbnails,
        )


def _known_count(chunking: Chunking, store: FeatureCache | None) -> int | None:
    """Number of frames by the caller's boundaries or the cache; None if the frames must be counted."""
    known, announced = store.size() if store is not None else None, chunking.num_frames
    if known is None or announced is None:
        return announced if known is None else known[0]
    if known[0] != announced:
        relation = "more" if known[0] > announced else "fewer"
        raise ValueError(f"the video has {known[0]} frames, {relation} frames than the {announced} announced")
    return announced


def _planned(
    metrics: Sequence[Metric], chunking: Chunking, *, count: int, fps: float | None, weights: Weights
) -> tuple[list[int], list[Plan]]:
    """Boundaries of the video's chunks, and every metric with its boundaries.

    With the released protocol, a metric that uses every n-th frame has chunks with equal numbers of these frames.
    """
    boundaries = chunking.boundaries(count, fps=fps)
    check_weights(len(boundaries) - 1, weights)
    plans = []
    for metric in metrics:
        interval = metric.interval if chunking.protocol == "released" and isinstance(metric, ThinnedMetric) else 1
        own = boundaries if interval == 1 else chunking.boundaries(count, fps=None, interval=interval)
        plans.append(Plan(metric=metric, boundaries=own))
    check_chunks([(plan.metric, plan.boundaries) for plan in plans])
    return boundaries, plans


def _middles(boundaries: Sequence[int]) -> tuple[int, ...]:
    return tuple((start + end) // 2 for start, end in pairwise(boundaries))


def feature_store(source: FrameSource | FileSource, cache: str | PathLike[str] | None) -> FeatureCache | None:
    """The cache of a file's features; None if no folder is given. Raises ValueError for frames in memory."""
    if cache is None:
        return None
    if not isinstance(source, FileSource):
        raise ValueError(
            "cache keeps the features of files, but the video is frames in memory; leave cache out, or give a file"
        )
    return FeatureCache(Path(cache), source.file.path, versions=package_versions())


def checked_metrics(metrics: Iterable[Metric] | None, protocol: Protocol) -> Sequence[Metric]:
    """The metrics, or the default ones. Raises TypeError or ValueError if one does not fit."""
    if metrics is None and protocol == "released":
        raise ValueError("the released protocol has no metrics without weights; give those of vde_metrics.vbench")
    metrics = (Clarity(), Motion()) if metrics is None else tuple(metrics)
    if not metrics:
        raise ValueError("metrics is empty; give at least one, or None for clarity and motion")
    for metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise TypeError(f"{metric!r} is not a metric; expected an object with a name and score(frames)")
        if isinstance(metric, ProtocolMetric) and metric.protocol != protocol:
            raise ValueError(
                f"{metric.name} is defined by the protocol {metric.protocol}, but protocol is {protocol!r}; measure "
                "each protocol on its own"
            )
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f"two metrics have the same name among {names}; each needs its own")
    return metrics


def _drift(metric: Metric, scores: Sequence[float | None], weights: Weights, protocol: Protocol) -> MetricDrift:
    return MetricDrift(
        name=metric.name,
        settings=settings(metric),
        models=models(metric),
        scores=tuple(scores),
        vde=named_vde(scores, weights, normalize=False, name=metric.name, protocol=protocol),
        vde_normalized=named_vde(scores, weights, normalize=True, name=metric.name, protocol=protocol),
        slope=slope(scores),
        worst_chunk=worst_chunk(scores),
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that influence the scores."""
    found = {}
    for package in ("vde-metrics", "torch", "av", "opencv-python-headless", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # transformers is optional, and OpenCV may be another build of it
            if package != "transformers":
                found[package] = "unknown"
    return found
