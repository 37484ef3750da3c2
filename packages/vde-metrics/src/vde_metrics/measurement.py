"""Measuring the drift of a video, chunk by chunk."""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

from vde_metrics.cache import FeatureCache
from vde_metrics.chunks import Cut, check_chunks, check_weights
from vde_metrics.clarity import Clarity
from vde_metrics.drift import Protocol, Weights, named_vde, slope, worst_chunk
from vde_metrics.motion import Motion
from vde_metrics.protocols import Metric, ProtocolMetric, ThinnedMetric
from vde_metrics.report import DriftReport, MetricDrift
from vde_metrics.scoring import BATCH_FRAMES, models, settings
from vde_metrics.sources import FileSource, FrameSource, open_source, with_count
from vde_metrics.stillness import Stillness
from vde_metrics.tracks import Plan, chunk_scores


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
    """Measure the drift of a video (Eqs. 16-25) with many metrics in one pass, reading it as a stream.

    Memory does not grow with the video's length as long as the metrics are `FrameMetric`, as those of this package
    are; another metric (``name`` and ``score`` only) is shown one whole chunk at a time.

    Args:
        video: a path, or the frames: uint8 RGB of shape (height, width, 3), tensors or arrays, from any iterable; or
            the pixels of a generated video as one tensor [3 t h w] or [1 3 t h w] in [-1, 1].
        metrics: ``Clarity()`` and ``Motion()`` unless given.
        num_chunks: chunks of equal length, 10 unless given; chunk i begins at frame round(i * F / N).
        chunk_seconds: chunks of so many seconds instead; a rest of less than half a chunk belongs to the last one.
        chunk_frames: boundaries instead: 0, the first frame of every later chunk, the number of frames.
        weights: ``linear`` or ``log`` (Eq. 19).
        protocol: ``paper``, or ``released`` with the metrics of `vde_metrics.vbench`: the chunks are those of the
            benchmark's script, all of the same length, and up to N - 1 frames at the end belong to none.
        num_frames: length of an iterable that has no ``len``.
        fps: frames per second of an iterable, for ``chunk_seconds`` and the report.
        name: the video's name in the report; a file's own name unless given.
        batch_frames: frames that go through the metrics, and their encoders, together.
        cache: folder for the features of frames of a file, by the sha256 of the file and the metric's configuration.
            Another number of chunks or other weights then cost nothing.
        thumbnails: keep a small picture of the middle of every chunk for the HTML page.
        on_frames: is told the number of frames done and of all frames, batch by batch.

    Raises:
        FileNotFoundError: if there is no such file, or no such weights.
        ValueError: if the file is no readable video, is too short for the chunks or too small for a metric, or the
            arguments contradict each other.
    """
    cut = Cut(num_chunks=num_chunks, chunk_seconds=chunk_seconds, chunk_frames=chunk_frames, protocol=protocol)
    checked = checked_metrics(metrics, protocol)
    if batch_frames < 1:
        raise ValueError(f"batch_frames is {batch_frames}; expected 1 or more")
    check_weights(cut.announced, weights)  # before an hour of decoding
    source = open_source(video, num_frames=num_frames, fps=fps)
    store = feature_store(source, cache)

    def report(count: int) -> DriftReport:
        boundaries, plans = _planned(checked, cut, count=count, fps=source.fps, weights=weights)
        found = chunk_scores(
            source,
            plans=[*plans, Plan(metric=Stillness(), boundaries=boundaries)],
            num_frames=count,
            batch_frames=batch_frames,
            cache=store,
            pictures=_middles(boundaries) if thumbnails else (),
            on_frames=on_frames,
        )
        rows = zip(checked, found.scores[:-1], strict=True)
        return DriftReport(
            video=name or source.name,
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

    known = _known_count(cut, store)
    return with_count(source, report) if known is None else report(known)


def _known_count(cut: Cut, store: FeatureCache | None) -> int | None:
    """Number of frames as the caller's boundaries or the cache say; None if the source must be asked."""
    known = store.size() if store is not None else None
    if known is None or cut.num_frames is None:
        return cut.num_frames if known is None else known[0]
    if known[0] != cut.num_frames:
        relation = "more" if known[0] > cut.num_frames else "fewer"
        raise ValueError(f"the video has {known[0]} frames, {relation} frames than the {cut.num_frames} announced")
    return cut.num_frames


def _planned(
    metrics: Sequence[Metric], cut: Cut, *, count: int, fps: float | None, weights: Weights
) -> tuple[list[int], list[Plan]]:
    """The video's chunks, and every metric with its own: the released protocol cuts what is left after thinning."""
    boundaries = cut.boundaries(count, fps=fps)
    check_weights(len(boundaries) - 1, weights)
    plans = []
    for metric in metrics:
        interval = metric.interval if cut.protocol == "released" and isinstance(metric, ThinnedMetric) else 1
        own = boundaries if interval == 1 else cut.boundaries(count, fps=None, interval=interval)
        plans.append(Plan(metric=metric, boundaries=own))
    check_chunks([(plan.metric, plan.boundaries) for plan in plans])
    return boundaries, plans


def _middles(boundaries: Sequence[int]) -> tuple[int, ...]:
    return tuple((start + end) // 2 for start, end in pairwise(boundaries))


def feature_store(source: FrameSource | FileSource, cache: str | PathLike[str] | None) -> FeatureCache | None:
    """The cache of a file's features; None without a folder. Raises ValueError for frames in memory."""
    if cache is None:
        return None
    if not isinstance(source, FileSource):
        raise ValueError("cache keeps the features of files; frames that are handed over have no content to go by")
    return FeatureCache(Path(cache), source.file.path, versions=package_versions())


def checked_metrics(metrics: Iterable[Metric] | None, protocol: Protocol) -> Sequence[Metric]:
    """The metrics, or the default ones; raises what `measure` raises for wrong ones."""
    if metrics is None and protocol == "released":
        raise ValueError("the released protocol has no metrics without weights; give those of vde_metrics.vbench")
    metrics = (Clarity(), Motion()) if metrics is None else tuple(metrics)
    if not metrics:
        raise ValueError("metrics is empty; give at least one, or None for clarity and motion")
    for metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise TypeError(f"{metric!r} is no metric: expected an object with a name and score(frames)")
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
    """Versions that influence the figures."""
    found = {}
    for package in ("vde-metrics", "torch", "av", "opencv-python-headless", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # transformers is optional, and another build of OpenCV serves as well
            if package != "transformers":
                found[package] = "unknown"
    return found
