"""Where chunks begin and end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vde_metrics.drift import Protocol, Weights, check_protocol, chunk_weights
from vde_metrics.protocols import Metric
from vde_metrics.scoring import FrameMetric, check_length

DEFAULT_CHUNKS = 10
"""As in the benchmark's released script."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """How a video is cut into chunks: at most one of the first three is given."""

    num_chunks: int | None
    """Chunks of equal length; ten if nothing is given."""
    chunk_seconds: float | None
    """Chunks of so many seconds."""
    chunk_frames: Sequence[int] | None
    """Boundaries as the caller says."""
    protocol: Protocol = "paper"
    """``released`` leaves out the frames that are too many for chunks of equal length."""

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        choices = {key: getattr(self, key) for key in ("num_chunks", "chunk_seconds", "chunk_frames")}
        names = [key for key, value in choices.items() if value is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} were given; give one of them")
        if self.protocol == "released" and names not in ([], ["num_chunks"]):
            raise ValueError(f"{names[0]} was given, but the released protocol has chunks of equal length: num_chunks")

    @property
    def announced(self) -> int:
        """The number of chunks as far as it is known before the video is read; ten if it is not."""
        if self.chunk_frames is not None:
            return len(self.chunk_frames) - 1
        return DEFAULT_CHUNKS if self.num_chunks is None else self.num_chunks

    @property
    def num_frames(self) -> int | None:
        """The number of frames, where the caller's boundaries say it."""
        return None if self.chunk_frames is None else given_boundaries(self.chunk_frames)[-1]

    def boundaries(self, num_frames: int, *, fps: float | None, interval: int = 1) -> list[int]:
        """Where chunks begin, and where the last one ends.

        Args:
            num_frames: length of the video.
            fps: its frame rate, for chunks of so many seconds.
            interval: of the frames that a metric looks at; the released protocol makes chunks of equally many of them.
        """
        if self.chunk_frames is not None:
            return given_boundaries(self.chunk_frames)
        if self.chunk_seconds is not None:
            return second_boundaries(num_frames, self.chunk_seconds, fps=fps)
        count = DEFAULT_CHUNKS if self.num_chunks is None else self.num_chunks
        if self.protocol == "released":
            return released_boundaries(num_frames, count, interval=interval)
        return chunk_boundaries(num_frames, count)


def check_weights(num_chunks: int, weights: Weights) -> None:
    """Refuse unknown weights, and those that are all 0."""
    chunk_weights(2, weights)  # of unknown ones it says what there is
    if num_chunks == 2 and weights == "log":
        raise ValueError("log weights of 2 chunks are all 0; use weights='linear' or at least 3 chunks")


def released_boundaries(num_frames: int, num_chunks: int = DEFAULT_CHUNKS, *, interval: int = 1) -> list[int]:
    """Boundaries as in the benchmark's released script: the same whole number of frames in every chunk.

    Frames beyond the last boundary belong to no chunk. With an ``interval``, the script first takes every so many-th
    frame and cuts what is left.
    """
    if interval < 1:
        raise ValueError(f"interval is {interval}; expected 1 or more")
    kept = -(-num_frames // interval)
    chunk_boundaries(kept, num_chunks)  # refuses too few
    return [min(i * (kept // num_chunks) * interval, num_frames) for i in range(num_chunks + 1)]


def chunk_boundaries(num_frames: int, num_chunks: int) -> list[int]:
    """Boundaries of chunks of equal length: round(i * F / N) for i = 0..N. Each chunk must get a frame."""
    if num_chunks < 2:
        raise ValueError(f"num_chunks is {num_chunks}; drift needs at least 2 chunks")
    if num_frames < num_chunks:
        fix = f"take num_chunks={num_frames} or fewer" if num_frames >= 2 else "drift needs 2 frames or more"
        frames = "1 frame is" if num_frames == 1 else f"{num_frames} frames are"
        raise ValueError(f"{frames} too few for {num_chunks} chunks; {fix}")
    return [round(i * num_frames / num_chunks) for i in range(num_chunks + 1)]


def second_boundaries(num_frames: int, seconds: float, *, fps: float | None) -> list[int]:
    """Boundaries of chunks of so many seconds; a rest of less than half a chunk belongs to the last one."""
    if not fps:
        raise ValueError("chunk_seconds needs the frame rate, which is unknown; give fps, or num_chunks instead")
    length = seconds * fps
    if not length >= 1:
        raise ValueError(f"chunk_seconds is {seconds}; at {fps:.4g} fps a chunk needs at least {1 / fps:.4g} seconds")
    count = max(1, int(num_frames / length + 0.5))
    if count < 2:
        raise ValueError(
            f"the video lasts {num_frames / fps:.4g} seconds, less than 2 chunks of {seconds:.4g}; "
            "take a smaller chunk_seconds"
        )
    return [*(round(i * length) for i in range(count)), num_frames]


def given_boundaries(chunk_frames: Sequence[int]) -> list[int]:
    """Boundaries that the caller gave, checked."""
    boundaries = [int(boundary) for boundary in chunk_frames]
    shown = f"chunk_frames is {boundaries[:6]}{'...' if len(boundaries) > 6 else ''}"
    if len(boundaries) < 3 or boundaries[0] != 0:
        raise ValueError(
            f"{shown}; expected boundaries: 0, the first frame of each later chunk, the number of frames "
            "(chunks of 17, 20 and 20 frames are [0, 17, 37, 57])"
        )
    for index, (start, end) in enumerate(pairwise(boundaries)):
        if end <= start:
            raise ValueError(f"{shown}; chunk {index} goes from {start} to {end}, but a chunk needs at least 1 frame")
    return boundaries


def check_chunks(plans: Iterable[tuple[Metric, Sequence[int]]]) -> None:
    """Refuse chunks that are too short for a metric, before any frame is decoded."""
    for metric, boundaries in plans:
        if isinstance(metric, FrameMetric):
            for index, (start, end) in enumerate(pairwise(boundaries)):
                check_length(metric, end - start, chunk=f"chunk {index}")
