"""How a video is cut into chunks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vde_metrics.drift import Protocol, Weights, check_protocol, chunk_weights
from vde_metrics.features.scoring import FrameMetric, check_length
from vde_metrics.protocols import Metric

DEFAULT_CHUNKS = 10
"""Number of chunks unless given: that of the benchmark's released script."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunking:
    """How a video is cut into chunks. At most one of the first three fields is given."""

    num_chunks: int | None
    """Number of chunks of equal length; 10 if nothing is given."""
    chunk_seconds: float | None
    """Length of a chunk in seconds."""
    chunk_frames: Sequence[int] | None
    """Boundaries: 0, the first frame of every later chunk, the number of frames."""
    protocol: Protocol = "paper"
    """With ``released``, all chunks have the same length, and frames that are left over belong to none."""

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        choices = {key: getattr(self, key) for key in ("num_chunks", "chunk_seconds", "chunk_frames")}
        names = [key for key, value in choices.items() if value is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} were given; give one of them")
        if self.protocol == "released" and names not in ([], ["num_chunks"]):
            raise ValueError(
                f"{names[0]} was given, but the released protocol has chunks of equal length; give num_chunks instead"
            )

    @property
    def announced(self) -> int:
        """Number of chunks, as far as it is known before the video is read; otherwise 10."""
        if self.chunk_frames is not None:
            return len(self.chunk_frames) - 1
        return DEFAULT_CHUNKS if self.num_chunks is None else self.num_chunks

    @property
    def num_frames(self) -> int | None:
        """Number of frames, if boundaries are given."""
        return None if self.chunk_frames is None else given_boundaries(self.chunk_frames)[-1]

    def boundaries(self, num_frames: int, *, fps: float | None, interval: int = 1) -> list[int]:
        """First frame of every chunk, and the end of the last one.

        Args:
            num_frames: number of frames of the video.
            fps: frames per second, needed for chunks of a number of seconds.
            interval: distance of the frames that a metric uses. With the released protocol, all chunks have the same
                number of them.
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
    """Raise ValueError if the weights are unknown, or all of them are 0."""
    chunk_weights(2, weights)  # raises if they are unknown
    if num_chunks == 2 and weights == "log":
        raise ValueError("log weights of 2 chunks are all 0; use weights='linear' or at least 3 chunks")


def released_boundaries(num_frames: int, num_chunks: int = DEFAULT_CHUNKS, *, interval: int = 1) -> list[int]:
    """Boundaries as in the benchmark's released script: every chunk has the same number of frames.

    Frames after the last boundary belong to no chunk. With an ``interval`` n, the script first takes every n-th frame
    and then cuts these frames into chunks.
    """
    if interval < 1:
        raise ValueError(f"interval is {interval}; expected 1 or more")
    kept = -(-num_frames // interval)
    chunk_boundaries(kept, num_chunks)  # raises if there are too few
    return [min(i * (kept // num_chunks) * interval, num_frames) for i in range(num_chunks + 1)]


def chunk_boundaries(num_frames: int, num_chunks: int) -> list[int]:
    """Boundaries of chunks of equal length: round(i * F / N) for i = 0..N.

    Args:
        num_frames: number of frames F.
        num_chunks: number of chunks N, at least 2.

    Raises:
        ValueError: if there are fewer than 2 chunks, or fewer frames than chunks.
    """
    if num_chunks < 2:
        raise ValueError(f"num_chunks is {num_chunks}; drift needs at least 2 chunks")
    if num_frames < num_chunks:
        fix = f"take num_chunks={num_frames} or fewer" if num_frames >= 2 else "drift needs 2 frames or more"
        frames = "1 frame is" if num_frames == 1 else f"{num_frames} frames are"
        raise ValueError(f"{frames} too few for {num_chunks} chunks; {fix}")
    return [round(i * num_frames / num_chunks) for i in range(num_chunks + 1)]


def second_boundaries(num_frames: int, seconds: float, *, fps: float | None) -> list[int]:
    """Boundaries of chunks of a number of seconds. A rest of less than half a chunk belongs to the last chunk."""
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
    """Boundaries of the caller, checked."""
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
    """Raise ValueError if a chunk is too short for its metric."""
    for metric, boundaries in plans:
        if isinstance(metric, FrameMetric):
            for index, (start, end) in enumerate(pairwise(boundaries)):
                check_length(metric, end - start, chunk=f"chunk {index}")
