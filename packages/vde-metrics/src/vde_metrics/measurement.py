"""Measuring the drift of a video, chunk by chunk."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from vde_metrics.clarity import Clarity
from vde_metrics.drift import Weights, chunk_weights, named_vde, slope, worst_chunk
from vde_metrics.motion import Motion
from vde_metrics.protocols import Meter, Metric, StreamingMetric
from vde_metrics.report import DriftReport, MetricDrift
from vde_metrics.stillness import StillMeter
from vde_metrics.video import VideoFile, checked_frames, written_frames

DEFAULT_CHUNKS = 10
"""As in the benchmark's released script."""


def measure(
    video: str | PathLike[str] | Iterable[Any],
    *,
    metrics: Iterable[Metric] | None = None,
    num_chunks: int = DEFAULT_CHUNKS,
    weights: Weights = "linear",
    chunk_frames: Sequence[int] | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    name: str | None = None,
) -> DriftReport:
    """Measure the drift of a video (Eqs. 16-21), reading it as a stream.

    Memory does not grow with the video's length as long as the metrics stream, as those of this package do; another
    metric (``name`` and ``score`` only) is shown one whole chunk at a time.

    Args:
        video: a path, or the frames: uint8 RGB of shape (height, width, 3), tensors or arrays, from any iterable; or
            the pixels of a generated video as one tensor [3 t h w] or [1 3 t h w] in [-1, 1].
        metrics: ``Clarity()`` and ``Motion()`` unless given.
        num_chunks: chunks of equal length; chunk i begins at frame round(i * F / N).
        weights: ``linear`` or ``log`` (Eq. 19).
        chunk_frames: boundaries instead of equal chunks: 0, the first frame of every later chunk, the number of frames.
        num_frames: length of an iterable that has no ``len``.
        fps: frames per second of an iterable, for the report.
        name: the video's name in the report; a file's own name unless given.
    """
    metrics = _checked_metrics(metrics)
    chunks = num_chunks if chunk_frames is None else len(chunk_frames) - 1
    if not any(chunk_weights(chunks, weights)) and chunks == 2:  # refuses wrong weights before an hour of decoding
        raise ValueError("log weights of 2 chunks are all 0; use weights='linear' or at least 3 chunks")
    source = _source(video, num_frames=num_frames, fps=fps)
    if chunk_frames is None:
        boundaries = chunk_boundaries(source.num_frames(), num_chunks)
    else:
        boundaries = _checked_boundaries(chunk_frames, num_chunks)
    meters: list[Meter] = [_meter(metric) for metric in metrics]
    still = StillMeter()
    rows, size = _score_chunks(checked_frames(source.frames()), boundaries, [*meters, still])
    scores = list(zip(*rows, strict=True))
    return DriftReport(
        video=name or source.name,
        fps=source.fps,
        height=size[0],
        width=size[1],
        chunk_frames=tuple(boundaries),
        weights=weights,
        metrics=tuple(_drift(metric, row, weights) for metric, row in zip(metrics, scores[:-1], strict=True)),
        still_pairs=scores[-1],
        source=source.notes,
        versions=_versions(),
    )


def chunk_boundaries(num_frames: int, num_chunks: int) -> list[int]:
    """Boundaries of chunks of equal length: round(i * F / N) for i = 0..N. Each chunk must get 2 frames or more."""
    if num_chunks < 2:
        raise ValueError(f"num_chunks is {num_chunks}; drift needs at least 2 chunks")
    if num_frames < 2 * num_chunks:
        fix = f"take num_chunks={num_frames // 2} or fewer" if num_frames >= 4 else "drift needs 4 frames or more"
        raise ValueError(f"{num_frames} frames are too few for {num_chunks} chunks of at least 2 frames; {fix}")
    return [round(i * num_frames / num_chunks) for i in range(num_chunks + 1)]


def _checked_boundaries(chunk_frames: Sequence[int], num_chunks: int) -> list[int]:
    boundaries = [int(boundary) for boundary in chunk_frames]
    shown = f"chunk_frames is {boundaries[:6]}{'...' if len(boundaries) > 6 else ''}"
    if len(boundaries) < 3 or boundaries[0] != 0:
        raise ValueError(
            f"{shown}; expected boundaries: 0, the first frame of each later chunk, the number of frames "
            "(chunks of 17, 20 and 20 frames are [0, 17, 37, 57])"
        )
    for index, (start, end) in enumerate(pairwise(boundaries)):
        if end - start < 2:
            raise ValueError(f"{shown}; chunk {index} goes from {start} to {end}, but a chunk needs at least 2 frames")
    if num_chunks not in (DEFAULT_CHUNKS, len(boundaries) - 1):
        raise ValueError(f"num_chunks is {num_chunks}, but chunk_frames has {len(boundaries) - 1} chunks; give one")
    return boundaries


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _FrameSource:
    """Frames handed over by the caller."""

    given: Iterable[Any]
    length: int | None
    fps: float | None
    name: str = "frames"

    @property
    def notes(self) -> dict[str, str]:
        return {}

    def num_frames(self) -> int:
        if self.length is not None:
            return self.length
        if not isinstance(self.given, Sized):
            raise ValueError(f"the length of a {type(self.given).__name__} is unknown; give num_frames or chunk_frames")
        return len(self.given)

    def frames(self) -> Iterable[Any]:
        return self.given


@dataclass(frozen=True, kw_only=True, slots=True)
class _FileSource:
    """A video file."""

    file: VideoFile

    @property
    def fps(self) -> float | None:
        return self.file.fps

    @property
    def name(self) -> str:
        return self.file.path.name

    @property
    def notes(self) -> dict[str, str]:
        return self.file.source

    def num_frames(self) -> int:
        count = self.file.count_frames()
        if not count:
            raise ValueError(f"{self.file.path}: has no frames")
        return count

    def frames(self) -> Iterator[UInt8[Tensor, "h w 3"]]:
        return self.file.frames()


def _source(video: Any, *, num_frames: int | None, fps: float | None) -> _FrameSource | _FileSource:
    if isinstance(video, str | PathLike):
        if num_frames is not None or fps is not None:
            raise ValueError("num_frames and fps describe an iterable of frames; a file has its own")
        return _FileSource(file=VideoFile.probe(Path(video)))
    if not isinstance(video, Iterable):
        raise TypeError(f"video is a {type(video).__name__}; expected a path or an iterable of frames")
    return _FrameSource(given=written_frames(video), length=num_frames, fps=fps)


class _BufferedMeter:
    """Runs a metric that knows only whole chunks."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._frames: list[Tensor] = []

    def add(self, frame: UInt8[Tensor, "h w 3"]) -> None:
        self._frames.append(frame)

    def close_chunk(self) -> float:
        frames, self._frames = torch.stack(self._frames), []
        return self._metric.score(frames)


def _meter(metric: Metric) -> Meter:
    return metric.meter() if isinstance(metric, StreamingMetric) else _BufferedMeter(metric)


def _score_chunks(
    frames: Iterable[UInt8[Tensor, "h w 3"]], boundaries: list[int], meters: Sequence[Meter]
) -> tuple[list[list[float]], tuple[int, int]]:
    """One row of scores per chunk, and the height and width of the frames."""
    rows: list[list[float]] = []
    size = (0, 0)
    count = 0
    for frame in frames:
        count += 1
        if count > boundaries[-1]:
            raise ValueError(f"the video has more frames than the {boundaries[-1]} announced")
        size = (frame.shape[0], frame.shape[1])
        for meter in meters:
            meter.add(frame)
        if count == boundaries[len(rows) + 1]:
            rows.append([float(meter.close_chunk()) for meter in meters])
    if count < boundaries[-1]:
        raise ValueError(f"the video has {count} frames, fewer than the {boundaries[-1]} announced")
    return rows, size


def _drift(metric: Metric, scores: Sequence[float], weights: Weights) -> MetricDrift:
    return MetricDrift(
        name=metric.name,
        settings=repr(metric) if is_dataclass(metric) else type(metric).__qualname__,
        scores=tuple(scores),
        vde=named_vde(scores, weights, normalize=False, name=metric.name),
        vde_normalized=named_vde(scores, weights, normalize=True, name=metric.name),
        slope=slope(scores),
        worst_chunk=worst_chunk(scores),
    )


def _versions() -> dict[str, str]:
    """Versions that influence the figures."""
    found = {}
    for package in ("vde-metrics", "torch", "av", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # another build of OpenCV serves as well
            found[package] = "unknown"
    return found
