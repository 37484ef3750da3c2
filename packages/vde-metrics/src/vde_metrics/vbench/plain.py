"""VBench's scores of whole videos."""

from collections.abc import Iterable
from os import PathLike
from typing import Any

from vde_metrics.features.one_pass import Plan, chunk_scores
from vde_metrics.features.scoring import BATCH_FRAMES
from vde_metrics.measurement import checked_metrics, feature_store
from vde_metrics.protocols import Metric
from vde_metrics.video.sources import open_source, with_count


def plain_scores(
    video: str | PathLike[str] | Iterable[Any],
    *,
    metrics: Iterable[Metric],
    num_frames: int | None = None,
    fps: float | None = None,
    batch_frames: int = BATCH_FRAMES,
    cache: str | PathLike[str] | None = None,
) -> dict[str, float | None]:
    """VBench's scores of a whole video, by metric: all frames are one chunk.

    VBench averages them over the videos of a benchmark. For subject and background consistency it weights each video by
    its number of frames.

    Args:
        video: a path or frames, as in `measure`.
        metrics: metrics of this module.
        num_frames: number of frames of an iterable that has no ``len``.
        fps: frames per second of an iterable.
        batch_frames: how many frames go through the metrics together.
        cache: folder for features. `measure` uses the same ones.

    Raises:
        FileNotFoundError: if the file or the weights of a model are missing.
        ValueError: if the file is not a video that can be read, or is too short.
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
