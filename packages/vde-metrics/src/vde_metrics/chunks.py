"""Where chunks begin and end."""

from collections.abc import Sequence
from itertools import pairwise

from vde_metrics.protocols import Metric
from vde_metrics.scoring import FrameMetric, check_length

DEFAULT_CHUNKS = 10
"""As in the benchmark's released script."""


def chunk_boundaries(num_frames: int, num_chunks: int) -> list[int]:
    """Boundaries of chunks of equal length: round(i * F / N) for i = 0..N. Each chunk must get a frame."""
    if num_chunks < 2:
        raise ValueError(f"num_chunks is {num_chunks}; drift needs at least 2 chunks")
    if num_frames < num_chunks:
        fix = f"take num_chunks={num_frames} or fewer" if num_frames >= 2 else "drift needs 2 frames or more"
        raise ValueError(f"{num_frames} frames are too few for {num_chunks} chunks; {fix}")
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


def check_chunks(boundaries: Sequence[int], metrics: Sequence[Metric]) -> None:
    """Refuse chunks that are too short for a metric, before any frame is decoded."""
    for index, (start, end) in enumerate(pairwise(boundaries)):
        for metric in metrics:
            if isinstance(metric, FrameMetric):
                check_length(metric, end - start, chunk=f"chunk {index}")
