"""Measuring the drift of a video, chunk by chunk."""

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

from vde_metrics.cache import FeatureCache
from vde_metrics.chunks import DEFAULT_CHUNKS, check_chunks, chunk_boundaries, given_boundaries, second_boundaries
from vde_metrics.clarity import Clarity
from vde_metrics.drift import Weights, chunk_weights, named_vde, slope, worst_chunk
from vde_metrics.motion import Motion
from vde_metrics.protocols import Metric
from vde_metrics.report import DriftReport, MetricDrift
from vde_metrics.scoring import BATCH_FRAMES, models, settings
from vde_metrics.sources import FileSource, FrameSource, open_source
from vde_metrics.stillness import Stillness
from vde_metrics.tracks import chunk_scores


def measure(
    video: str | PathLike[str] | Iterable[Any],
    *,
    metrics: Iterable[Metric] | None = None,
    num_chunks: int | None = None,
    chunk_seconds: float | None = None,
    chunk_frames: Sequence[int] | None = None,
    weights: Weights = "linear",
    num_frames: int | None = None,
    fps: float | None = None,
    name: str | None = None,
    batch_frames: int = BATCH_FRAMES,
    cache: str | PathLike[str] | None = None,
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
        num_frames: length of an iterable that has no ``len``.
        fps: frames per second of an iterable, for ``chunk_seconds`` and the report.
        name: the video's name in the report; a file's own name unless given.
        batch_frames: frames that go through the metrics, and their encoders, together.
        cache: folder for the features of frames of a file, by the sha256 of the file and the metric's configuration.
            Another number of chunks or other weights then cost nothing.
    """
    checked = _checked_metrics(metrics)
    _check_arguments(num_chunks=num_chunks, chunk_seconds=chunk_seconds, chunk_frames=chunk_frames)
    if batch_frames < 1:
        raise ValueError(f"batch_frames is {batch_frames}; expected 1 or more")
    chunks = DEFAULT_CHUNKS if num_chunks is None else num_chunks
    _check_weights(chunks if chunk_frames is None else len(chunk_frames) - 1, weights)  # before an hour of decoding
    source = open_source(video, num_frames=num_frames, fps=fps)
    versions = _versions()
    store = _store(source, cache, versions)
    if chunk_frames is not None:
        boundaries = given_boundaries(chunk_frames)
        _check_announced(boundaries[-1], store)
    else:
        known = store.size() if store is not None else None
        count = known[0] if known is not None else source.num_frames()
        if chunk_seconds is None:
            boundaries = chunk_boundaries(count, chunks)
        else:
            boundaries = second_boundaries(count, chunk_seconds, fps=source.fps)
            _check_weights(len(boundaries) - 1, weights)
    check_chunks(boundaries, checked)
    scores, size = chunk_scores(
        source, metrics=(*checked, Stillness()), boundaries=boundaries, batch_frames=batch_frames, cache=store
    )
    return DriftReport(
        video=name or source.name,
        fps=source.fps,
        height=size[0],
        width=size[1],
        chunk_frames=tuple(boundaries),
        weights=weights,
        metrics=tuple(_drift(metric, row, weights) for metric, row in zip(checked, scores[:-1], strict=True)),
        still_pairs=tuple(scores[-1]),
        source=source.notes,
        versions=versions,
    )


def _check_arguments(
    *, num_chunks: int | None, chunk_seconds: float | None, chunk_frames: Sequence[int] | None
) -> None:
    given = {"num_chunks": num_chunks, "chunk_seconds": chunk_seconds, "chunk_frames": chunk_frames}
    names = [key for key, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"{' and '.join(names)} were given; give one of them")


def _check_weights(num_chunks: int, weights: Weights) -> None:
    """Refuse unknown weights, and those that are all 0."""
    if not any(chunk_weights(num_chunks, weights)) and num_chunks == 2:
        raise ValueError("log weights of 2 chunks are all 0; use weights='linear' or at least 3 chunks")


def _store(
    source: FrameSource | FileSource, cache: str | PathLike[str] | None, versions: dict[str, str]
) -> FeatureCache | None:
    if cache is None:
        return None
    if not isinstance(source, FileSource):
        raise ValueError("cache keeps the features of files; frames that are handed over have no content to go by")
    return FeatureCache(Path(cache), source.file.path, versions=versions)


def _check_announced(num_frames: int, store: FeatureCache | None) -> None:
    known = store.size() if store is not None else None
    if known is not None and known[0] != num_frames:
        relation = "more" if known[0] > num_frames else "fewer"
        raise ValueError(f"the video has {known[0]} frames, {relation} frames than the {num_frames} announced")


def _checked_metrics(metrics: Iterable[Metric] | None) -> Sequence[Metric]:
    if metrics is None:
        return (Clarity(), Motion())
    metrics = tuple(metrics)
    if not metrics:
        raise ValueError("metrics is empty; give at least one, or None for clarity and motion")
    for metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise TypeError(f"{metric!r} is no metric: expected an object with a name and score(frames)")
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f"two metrics have the same name among {names}; each needs its own")
    return metrics


def _drift(metric: Metric, scores: Sequence[float | None], weights: Weights) -> MetricDrift:
    return MetricDrift(
        name=metric.name,
        settings=settings(metric),
        models=models(metric),
        scores=tuple(scores),
        vde=named_vde(scores, weights, normalize=False, name=metric.name),
        vde_normalized=named_vde(scores, weights, normalize=True, name=metric.name),
        slope=slope(scores),
        worst_chunk=worst_chunk(scores),
    )


def _versions() -> dict[str, str]:
    """Versions that influence the figures."""
    found = {}
    for package in ("vde-metrics", "torch", "av", "opencv-python-headless", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # transformers is optional, and another build of OpenCV serves as well
            if package != "transformers":
                found[package] = "unknown"
    return found
