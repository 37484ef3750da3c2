"""The study itself: what the memory costs in time, in exactness and in memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from bdiff import defaults
from bdiff.files import write_whole
from bdiff.run import LoadedRun, SampleConfig, build
from bdiff_bench.harness import describe_machine, long_storyboard, one_process, write_page
from studies.memory_cost.exactness import measure_exactness
from studies.memory_cost.overhead import measure_overhead
from studies.memory_cost.packed_videos import PackedVideosConfig, check_packed_videos, measure_packed_videos
from studies.memory_cost.page import memory_cost_parts
from studies.memory_cost.throughput import KVShape, measure_peak, measure_throughput

Part = Literal["overhead", "throughput", "peak", "exactness", "video"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCostConfig:
    """What is measured."""

    out: Path
    """Folder of figures.json and page.md; parts that are not measured now stay as they are there."""
    model: Path = defaults.WEIGHTS
    """Model folder."""
    parts: tuple[Part, ...] = PARTS
    """What to measure."""
    num_chunks: int = 25
    """Chunks of the videos that are measured."""
    settled: int = 4
    """The first chunk that counts; from here on a full past is shown."""
    repeats: int = 9
    """How often speeds are measured."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name; None is as not given."""
    num_stories: int = 4
    """Stories of the videos that compare formats."""
    num_seeds: int = 3
    """Videos of each story in each format."""
    workers: int = 2
    """Processes that make these videos."""
    shapes: KVShape = field(default_factory=KVShape)
    """Sizes of the keys and values that throughput and peak are measured with."""

    def __post_init__(self) -> None:
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"parts are {self.parts}; expected some of {', '.join(PARTS)}")
        least = {"num_chunks": self.settled + 2, "repeats": 2, "num_stories": 1, "num_seeds": 2, "workers": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {number}")

    @property
    def videos(self) -> PackedVideosConfig:
        """The videos that compare formats."""
        return PackedVideosConfig(
            file=self.out / "films.jsonl",
            model=self.model,
            num_chunks=self.num_chunks,
            num_stories=self.num_stories,
            num_seeds=self.num_seeds,
            settings=self.settings,
            workers=self.workers,
        )


def tiny_config(config: MemoryCostConfig) -> MemoryCostConfig:
    """The same with sizes that take seconds; the figures say nothing."""
    shapes = KVShape(num_layers=2, num_heads=2, head_width=16, num_tokens=64, num_chunks=2)
    return replace(
        config,
        num_chunks=8,
        repeats=2,
        num_stories=1,
        num_seeds=2,
        workers=1,
        shapes=shapes,
        settings={**config.settings, "steps": 1},
    )


def measure_memory_cost(config: MemoryCostConfig) -> dict[str, Any]:
    """Measure, and write ``figures.json`` and ``page.md``; returns what ``figures.json`` holds.

    Raises:
        ValueError: If the model is not valid, or `check_packed_videos` refuses the videos that compare formats.
        OSError: If a file cannot be read.
    """
    if "video" in config.parts:  # the last part; what is wrong with it should not be found out last
        check_packed_videos(config.videos)
    config.out.mkdir(parents=True, exist_ok=True)
    file = config.out / "figures.json"
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    described = {"machine": describe_machine(), "config": _described(config)}
    run = _load(config) if {"overhead", "exactness"} & set(config.parts) else None
    for part in config.parts:
        figures[part] = _measured(part, config, run) | described
        write_whole(file, json.dumps(figures, indent=2) + "\n")
        write_page(config.out / "page.md", memory_cost_parts(figures), title="What the memory costs")
    return figures


def _described(config: MemoryCostConfig) -> dict[str, str]:
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    return {name: str(value) for name, value in (values | {"steps": config.settings.get("steps")}).items()}


def _measured(part: Part, config: MemoryCostConfig, run: LoadedRun | None) -> dict[str, Any]:
    match part:
        case "overhead":
            assert run is not None
            return measure_overhead(run, num_chunks=config.num_chunks, settled=config.settled)
        case "throughput":
            return measure_throughput(config.shapes, repeats=config.repeats, folder=config.out)
        case "peak":  # in a fresh process, so that memory left by another part does not count
            with one_process() as process:
                return process.submit(measure_peak, config.shapes).result()
        case "exactness":  # also with larger queries: the sharper the attention, the more of an error is seen
            assert run is not None
            how = {"num_chunks": config.num_chunks, "settled": config.settled}
            return {"films": [measure_exactness(run, **how, query_scale=scale) for scale in (1.0, 3.0)]}
        case "video":
            return measure_packed_videos(config.videos)


def _load(config: MemoryCostConfig) -> LoadedRun:
    board = long_storyboard(config.num_chunks)
    return build(SampleConfig(storyboard=board, out=config.out, model=config.model, settings=config.settings))
