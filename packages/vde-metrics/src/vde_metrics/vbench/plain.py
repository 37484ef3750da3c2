"""VBench's scores of whole videos."""

from collections.abc import Iterable
from os import PathLike
from typing import Any

from vde_metrics.measurement import checked_metrics, feature_store
from vde_metrics.protocols import Metric
from vde_metrics.scoring import BATCH_FRAMES
from vde_metrics.sources import open_source, with_count
from vde_metrics.tracks import Plan, chunk_scores


def plain_scores(
    video: str | PathLike[str] | Iterable[Any],
    *,
    metrics: Iterable[Metric],
    num_frames: int | None = None,
    fps: float | None = None,
    batch_frames: int = BATCH_FRAMES,
    cache: str | PathLike[str] | None = None,
) -> dict[str, float | None]:
    """What VBench says of the whole video: the score of each metric with all frames as one chunk.

    VBench averages these over a benchmark's videos; for subject and background it weighs videos by their frames.

    Args:
        video: a path or frames, as in `measure`.
        metrics: those of this module.
        num_frames: length of an iterable that has no ``len``.
        fps: frames per second of an iterable.
        batch_frames: frames that go through the metrics together.
        cache: folder of features, shared with `measure`: what the one computed, the other reads.

    Raises:
        FileNotFoundError: if there is no such file, or no such weights.
        ValueError: if the file is no readable video, or too short.
    """
    checked = checked_metrics(metrics, "released")
    source = open_source(video, num_frames=num_frames, fps=fps)
    store = feature_store(source, cache)

    def scores(count: int) -> dict[str, float | None]:
        plans = [Plan(metric=metric, boundaries=(0, count)) for metric in checked]
        found = chunk_scores(source, plans=plans, num_frames=count, batch_frames=batch_frames, cache=store)
        return {metric.name: row[0] for metric, row in zip(checked, found.scores, strict=True)}

    known = store.size() if store is not None else None
    return with_count(source, scores) if known is None else scores(known[0])
