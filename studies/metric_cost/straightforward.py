"""The straightforward way to the five metrics: decode the whole video for each, go through its chunks, frame by frame.

The script that the benchmark's authors released does the same. Models and definitions are those of `vde_metrics`, so
the scores of both ways agree.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vde_metrics import DISFlow, Encoder, camera_flow, chunk_boundaries, moving_subject

Frames = UInt8[np.ndarray, "t h w 3"]
TOLERANCE = 0.002


def plain_scores(
    video: Path, *, num_chunks: int, encoder: Encoder, head: Float[np.ndarray, " d"]
) -> tuple[int, dict[str, list[float]]]:
    """The number of frames, and the score of every chunk by every metric.

    Args:
        video: A file.
        num_chunks: Chunks of equal length.
        encoder: Embeds frames for the subject and the aesthetic score.
        head: A linear layer on normalised embeddings, which gives the aesthetic score.
    """

    def subjects(frames: Frames, cuts: Sequence[int]) -> list[float]:
        chunks = [embedded(frames[start:end], encoder) for start, end in pairwise(cuts)]
        reference = chunks[0].mean(0) / np.linalg.norm(chunks[0].mean(0))
        return [float(np.mean(one @ reference / np.linalg.norm(one, axis=1))) for one in chunks]

    def aesthetic(chunk: Frames) -> float:
        found = embedded(chunk, encoder)
        return float(np.mean(found @ head / np.linalg.norm(found, axis=1)))

    metrics: dict[str, Callable[[Frames, Sequence[int]], list[float]]] = {
        "clarity": _chunk_by_chunk(clarity),
        "motion": _chunk_by_chunk(motion),
        "background": _chunk_by_chunk(background, lead=1),
        "subject": subjects,
        "aesthetic": _chunk_by_chunk(aesthetic),
    }
    found, count = {}, 0
    for name, metric in metrics.items():
        frames = decoded(video)
        count = len(frames)
        found[name] = metric(frames, chunk_boundaries(count, num_chunks))
        del frames
    return count, found


def decoded(video: Path) -> Frames:
    """All frames."""
    import av

    with video.open("rb") as file, av.open(file, "r") as container:
        container.streams.video[0].thread_type = "AUTO"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def clarity(chunk: Frames) -> float:
    """Mean variance of the Laplacian."""
    import cv2

    return float(np.mean([cv2.Laplacian(grey, cv2.CV_32F).var(dtype=np.float64) for grey in _greys(chunk)]))


def motion(chunk: Frames) -> float:
    """Mean length of the optical flow."""
    return float(np.mean([np.linalg.norm(flow, axis=-1).mean() for flow in _flows(chunk)]))


def background(chunk: Frames) -> float:
    """Mean share of still pixels outside of moving subjects; the first frame is the one before the chunk."""
    tau = TOLERANCE * math.hypot(*chunk.shape[1:3])
    shares = []
    for flow in _flows(chunk):
        moving = moving_subject(flow - camera_flow(flow), tolerance=tau)
        shares.append((np.linalg.norm(flow, axis=-1)[~moving] <= tau).mean())
    return float(np.mean(shares))


def embedded(chunk: Frames, encoder: Encoder) -> Float[np.ndarray, "t d"]:
    """Embedding of every frame, one after the other."""
    return np.concatenate([encoder.encode([torch.from_numpy(frame)]).numpy() for frame in chunk]).astype(np.float64)


def _chunk_by_chunk(
    score: Callable[[Frames], float], *, lead: int = 0
) -> Callable[[Frames, Sequence[int]], list[float]]:
    """Make a metric of all chunks from a score of one, which also gets ``lead`` frames before the chunk."""
    return lambda frames, cuts: [score(frames[max(0, start - lead) : end]) for start, end in pairwise(cuts)]


def _greys(chunk: Frames) -> list[Any]:
    import cv2

    return [cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY) for frame in chunk]


def _flows(chunk: Frames) -> Any:
    return DISFlow().flow(torch.from_numpy(chunk)).numpy()
