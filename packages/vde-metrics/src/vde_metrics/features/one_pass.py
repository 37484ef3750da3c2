"""One pass over the frames for many metrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.features.batches import FrameBatch, frame_batches
from vde_metrics.features.cache import READ_FRAMES, FeatureCache, FeatureFile, FeatureWriter
from vde_metrics.features.scoring import FrameMetric, feature_key
from vde_metrics.protocols import Metric
from vde_metrics.video.frames import checked_frames
from vde_metrics.video.sources import FileSource, FrameSource
from vde_metrics.video.thumbnails import thumbnail

Size = tuple[int, int]
"""Height and width of the frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A metric and its chunks."""

    metric: Metric
    """The metric."""
    boundaries: Sequence[int]
    """First frame of every chunk, and the end of the last one. The last chunk may end before the video does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassResult:
    """The result of a pass over the frames."""

    scores: list[list[float | None]]
    """For each plan, the score of every chunk."""
    size: Size
    """Height and width of the frames."""
    thumbnails: tuple[bytes, ...]
    """JPEGs of the frames in ``pictures``."""


def chunk_scores(
    source: FrameSource | FileSource,
    *,
    plans: Sequence[Plan],
    num_frames: int,
    batch_frames: int,
    cache: FeatureCache | None,
    pictures: Sequence[int] = (),
    on_frames: Callable[[int, int], None] | None = None,
) -> PassResult:
    """Scores of every metric, and the size of the frames. Features in the cache are not computed again.

    Args:
        source: the frames.
        plans: metrics and their chunks.
        num_frames: number of frames in the source. Another number raises ValueError.
        batch_frames: how many frames go through the metrics together.
        cache: features that were computed before.
        pictures: indexes of the frames to make thumbnails of, in ascending order.
        on_frames: called with the number of frames done and the number of all frames.
    """
    workers = [make_worker(plan, num_frames, cache) for plan in plans]
    to_run: list[Worker] = [worker for worker in workers if not worker.scores]
    thumbnails = ThumbnailWorker(pictures)
    if pictures:
        to_run.append(thumbnails)
    known = None if cache is None else cache.size()
    if known is not None and not to_run:
        return PassResult(scores=[worker.scores for worker in workers], size=known[1:], thumbnails=())
    complete = False
    try:
        size = _run(source, workers=to_run, num_frames=num_frames, batch_frames=batch_frames, on_frames=on_frames)
        complete = True
    finally:
        for worker in to_run:
            worker.close(complete=complete)
    if cache is not None:
        cache.keep_size(num_frames, *size)
    return PassResult(scores=[worker.scores for worker in workers], size=size, thumbnails=tuple(thumbnails.made))


def make_worker(plan: Plan, num_frames: int, cache: FeatureCache | None) -> "ChunkWorker | FrameWorker":
    """The worker of a metric. It has its scores at once if the cache holds the features."""
    metric, boundaries = plan.metric, plan.boundaries
    if not isinstance(metric, FrameMetric):
        return ChunkWorker(metric, boundaries)
    key = None if cache is None else feature_key(metric)
    if cache is None or key is None:
        return FrameWorker(metric, boundaries)
    path = cache.path(metric.name, key)
    if not path.is_file():
        return FrameWorker(metric, boundaries, writer=FeatureWriter(path, num_frames=num_frames))
    worker = FrameWorker(metric, boundaries)
    worker.take_file(FeatureFile(path, num_frames=num_frames))
    return worker


class ThumbnailWorker:
    """Makes thumbnails of some frames."""

    def __init__(self, indexes: Sequence[int]) -> None:
        self.made: list[bytes] = []
        self._indexes = indexes

    def take(self, batch: FrameBatch) -> None:
        """Make the thumbnails that lie in this batch."""
        while len(self.made) < len(self._indexes):
            place = self._indexes[len(self.made)] - batch.start
            if place >= len(batch):
                return
            self.made.append(thumbnail(batch.frames[place]))

    def close(self, *, complete: bool) -> None:
        """Do nothing: no file is open."""


class ChunkWorker:
    """Runs a metric that scores whole chunks."""

    def __init__(self, metric: Metric, boundaries: Sequence[int]) -> None:
        self.scores: list[float | None] = []
        self._metric, self._boundaries = metric, boundaries
        self._frames: list[Tensor] = []

    def take(self, batch: FrameBatch) -> None:
        """Keep the frames until their chunk is complete, then score it."""
        for frame in batch.frames:
            if len(self.scores) == len(self._boundaries) - 1:
                return  # the frames that are left belong to no chunk
            self._frames.append(frame)
            if len(self._frames) == self._boundaries[len(self.scores) + 1] - self._boundaries[len(self.scores)]:
                frames, self._frames = torch.stack(self._frames), []
                self.scores.append(float(self._metric.score(frames)))

    def close(self, *, complete: bool) -> None:
        """Do nothing: no file is open."""


class FrameWorker:
    """Runs a metric of frames. Its features are written to the cache, or read from it."""

    def __init__(self, metric: FrameMetric, boundaries: Sequence[int], *, writer: FeatureWriter | None = None) -> None:
        self.scores: list[float | None] = []
        self._metric, self._boundaries = metric, boundaries
        self._scorer = metric.scorer()
        self._writer = writer

    def take(self, batch: FrameBatch) -> None:
        """Compute the features of the next frames and score them."""
        rows = self._metric.features(batch)
        if len(rows) != len(batch):
            raise ValueError(
                f"{self._metric.name}: features gave {len(rows)} rows for {len(batch)} frames; expected a row per frame"
            )
        if self._writer is not None:
            self._writer.append(rows)
        self._score(rows, batch.start)

    def take_file(self, features: FeatureFile) -> None:
        """Score features that were computed before, for the whole video."""
        for start in range(0, len(features), READ_FRAMES):
            self._score(features.read(start), start)

    def close(self, *, complete: bool) -> None:
        """Keep the computed features if they are ``complete``."""
        if self._writer is not None:
            self._writer.close(complete=complete)

    def _score(self, rows: Float32[Tensor, "n k"], start: int) -> None:
        """Pass rows to the scorer chunk by chunk, without those that depend on frames before their chunk."""
        while len(rows) and len(self.scores) < len(self._boundaries) - 1:  # later frames belong to no chunk
            begin, end = self._boundaries[len(self.scores) : len(self.scores) + 2]
            here = rows[: end - start]
            self._scorer.add(here[max(0, begin + self._metric.lead - start) :])
            rows, start = rows[len(here) :], start + len(here)
            if start == end:
                self.scores.append(self._scorer.close_chunk())


Worker = ChunkWorker | FrameWorker | ThumbnailWorker


def _run(
    source: FrameSource | FileSource,
    *,
    workers: Sequence[Worker],
    num_frames: int,
    batch_frames: int,
    on_frames: Callable[[int, int], None] | None,
) -> Size:
    """Pass all frames to all workers; returns the height and width of the frames.

    Each worker has a thread of its own. The next frames are decoded while the workers are busy.
    """
    shape, count = (0, 0), 0
    working: list[Future[None]] = []
    with ThreadPoolExecutor(max_workers=max(1, len(workers))) as pool:
        for batch in frame_batches(_at_most(checked_frames(source.frames()), num_frames), batch_frames):
            _finish(working, on_frames, count, num_frames)
            working = [pool.submit(_take, worker, batch) for worker in workers]
            shape = (batch.frames.shape[1], batch.frames.shape[2])
            count += len(batch)
        _finish(working, on_frames, count, num_frames)
    if count < num_frames:
        raise ValueError(f"the video has {count} frames, fewer than the {num_frames} announced")
    return shape


@torch.no_grad()
def _take(worker: Worker, batch: FrameBatch) -> None:
    worker.take(batch)


def _finish(
    working: Sequence[Future[None]], on_frames: Callable[[int, int], None] | None, count: int, num_frames: int
) -> None:
    """Wait for the workers, then report progress."""
    for one in working:
        one.result()
    if working and on_frames is not None:
        on_frames(count, num_frames)


def _at_most(frames: Iterable[UInt8[Tensor, "h w 3"]], num_frames: int) -> Iterator[UInt8[Tensor, "h w 3"]]:
    for index, frame in enumerate(frames):
        if index == num_frames:
            raise ValueError(f"the video has more frames than the {num_frames} announced")
        yield frame
