"""One pass over the frames for many metrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.cache import READ_FRAMES, FeatureCache, FeatureFile, FeatureWriter
from vde_metrics.frames import FrameBatch, frame_batches
from vde_metrics.protocols import Metric
from vde_metrics.scoring import FrameMetric, feature_key
from vde_metrics.sources import FileSource, FrameSource
from vde_metrics.thumbnails import thumbnail
from vde_metrics.video import checked_frames

Size = tuple[int, int]
"""Height and width of the frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A metric and its chunks."""

    metric: Metric
    """What scores."""
    boundaries: Sequence[int]
    """Where its chunks begin, and where the last one ends, at the end of the video or before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a pass over the frames found."""

    scores: list[list[float | None]]
    """Of every chunk, plan by plan."""
    size: Size
    """Height and width of the frames."""
    thumbnails: tuple[bytes, ...]
    """JPEGs of the frames that were asked for."""


def chunk_scores(
    source: FrameSource | FileSource,
    *,
    plans: Sequence[Plan],
    num_frames: int,
    batch_frames: int,
    cache: FeatureCache | None,
    pictures: Sequence[int] = (),
    on_frames: Callable[[int, int], None] | None = None,
) -> Found:
    """Scores of every metric and the size of the frames. What the cache has is not computed again.

    Args:
        source: the frames.
        plans: metrics and their chunks.
        num_frames: of the source; neither more nor fewer may come.
        batch_frames: frames that go through the metrics together.
        cache: features that were computed before.
        pictures: numbers of the frames to make thumbnails of, in order.
        on_frames: is told how many frames are done, and of how many.
    """
    tracks = [track(plan, num_frames, cache) for plan in plans]
    to_run: list[Track] = [one for one in tracks if not one.scores]
    strip = PictureTrack(pictures)
    if pictures:
        to_run.append(strip)
    known = None if cache is None else cache.size()
    if known is not None and not to_run:
        return Found(scores=[one.scores for one in tracks], size=known[1:], thumbnails=())
    complete = False
    try:
        size = _run(source, tracks=to_run, num_frames=num_frames, batch_frames=batch_frames, on_frames=on_frames)
        complete = True
    finally:
        for one in to_run:
            one.close(complete=complete)
    if cache is not None:
        cache.keep_size(num_frames, *size)
    return Found(scores=[one.scores for one in tracks], size=size, thumbnails=tuple(strip.made))


def track(plan: Plan, num_frames: int, cache: FeatureCache | None) -> "ChunkTrack | FrameTrack":
    """The track of a metric; it has its scores already if the cache holds the features."""
    metric, boundaries = plan.metric, plan.boundaries
    if not isinstance(metric, FrameMetric):
        return ChunkTrack(metric, boundaries)
    key = None if cache is None else feature_key(metric)
    if cache is None or key is None:
        return FrameTrack(metric, boundaries)
    path = cache.path(metric.name, key)
    if not path.is_file():
        return FrameTrack(metric, boundaries, writer=FeatureWriter(path, num_frames=num_frames))
    found = FrameTrack(metric, boundaries)
    found.take_file(FeatureFile(path, num_frames=num_frames))
    return found


class PictureTrack:
    """Makes thumbnails of some frames."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.made: list[bytes] = []
        self._numbers = numbers

    def take(self, batch: FrameBatch) -> None:
        """Shrink those of the frames that were asked for."""
        while len(self.made) < len(self._numbers):
            place = self._numbers[len(self.made)] - batch.start
            if place >= len(batch):
                return
            self.made.append(thumbnail(batch.frames[place]))

    def close(self, *, complete: bool) -> None:
        """There is nothing to keep."""


class ChunkTrack:
    """Runs a metric that knows only whole chunks."""

    def __init__(self, metric: Metric, boundaries: Sequence[int]) -> None:
        self.scores: list[float | None] = []
        self._metric, self._boundaries = metric, boundaries
        self._frames: list[Tensor] = []

    def take(self, batch: FrameBatch) -> None:
        """Hold the frames until their chunk is whole."""
        for frame in batch.frames:
            if len(self.scores) == len(self._boundaries) - 1:
                return  # what is left belongs to no chunk
            self._frames.append(frame)
            if len(self._frames) == self._boundaries[len(self.scores) + 1] - self._boundaries[len(self.scores)]:
                frames, self._frames = torch.stack(self._frames), []
                self.scores.append(float(self._metric.score(frames)))

    def close(self, *, complete: bool) -> None:
        """There is nothing to keep."""


class FrameTrack:
    """Runs a metric of frames; rows go to the cache as they come, or come from it."""

    def __init__(self, metric: FrameMetric, boundaries: Sequence[int], *, writer: FeatureWriter | None = None) -> None:
        self.scores: list[float | None] = []
        self._metric, self._boundaries = metric, boundaries
        self._scorer = metric.scorer()
        self._writer = writer

    def take(self, batch: FrameBatch) -> None:
        """Compute the features of the next frames."""
        rows = self._metric.features(batch)
        if len(rows) != len(batch):
            raise ValueError(f"{self._metric.name}: features gave {len(rows)} rows for {len(batch)} frames")
        if self._writer is not None:
            self._writer.append(rows)
        self._score(rows, batch.start)

    def take_file(self, features: FeatureFile) -> None:
        """Score features that were computed before: those of the whole video."""
        for start in range(0, len(features), READ_FRAMES):
            self._score(features.read(start), start)

    def close(self, *, complete: bool) -> None:
        """Keep the computed features if they are ``complete``."""
        if self._writer is not None:
            self._writer.close(complete=complete)

    def _score(self, rows: Float32[Tensor, "n k"], start: int) -> None:
        """Hand rows to the scorer chunk by chunk, without those that look back over a chunk's beginning."""
        while len(rows) and len(self.scores) < len(self._boundaries) - 1:  # what is left belongs to no chunk
            begin, end = self._boundaries[len(self.scores) : len(self.scores) + 2]
            here = rows[: end - start]
            self._scorer.add(here[max(0, begin + self._metric.lead - start) :])
            rows, start = rows[len(here) :], start + len(here)
            if start == end:
                self.scores.append(self._scorer.close_chunk())


Track = ChunkTrack | FrameTrack | PictureTrack


def _run(
    source: FrameSource | FileSource,
    *,
    tracks: Sequence[Track],
    num_frames: int,
    batch_frames: int,
    on_frames: Callable[[int, int], None] | None,
) -> Size:
    """One pass over the frames for all tracks; gives the height and width of the frames.

    Tracks work side by side, each in a thread of its own, while the next frames are decoded.
    """
    shape, count = (0, 0), 0
    working: list[Future[None]] = []
    with ThreadPoolExecutor(max_workers=max(1, len(tracks))) as pool:
        for batch in frame_batches(_at_most(checked_frames(source.frames()), num_frames), batch_frames):
            _finish(working, on_frames, count, num_frames)
            working = [pool.submit(_take, track, batch) for track in tracks]
            shape = (batch.frames.shape[1], batch.frames.shape[2])
            count += len(batch)
        _finish(working, on_frames, count, num_frames)
    if count < num_frames:
        raise ValueError(f"the video has {count} frames, fewer than the {num_frames} announced")
    return shape


@torch.no_grad()
def _take(track: Track, batch: FrameBatch) -> None:
    track.take(batch)


def _finish(
    working: Sequence[Future[None]], on_frames: Callable[[int, int], None] | None, count: int, num_frames: int
) -> None:
    for one in working:
        one.result()
    if working and on_frames is not None:
        on_frames(count, num_frames)


def _at_most(frames: Iterable[UInt8[Tensor, "h w 3"]], num_frames: int) -> Iterator[UInt8[Tensor, "h w 3"]]:
    for index, frame in enumerate(frames):
        if index == num_frames:
            raise ValueError(f"the video has more frames than the {num_frames} announced")
        yield frame
