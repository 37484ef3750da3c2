"""The bench itself: what the memory costs in time, in exactness and in memory."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bdiff import defaults
from bdiff.files.whole import write_whole
from bdiff.run.loading import Parts, SampleConfig, build
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.harness.processes import one_process
from bdiff_bench.speed import STORY
from bdiff_core import Storyboard
from storyworld import plan_story
from studies.memory_cost.exactness import measure_exactness
from studies.memory_cost.overhead import measure_overhead
from studies.memory_cost.page import kv_page
from studies.memory_cost.throughput import Shapes, measure_peak, measure_throughput
from studies.memory_cost.video import VideoConfig, check_videos, measure_videos

Part = Literal["overhead", "throughput", "peak", "exactness", "video"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True, slots=True)
class KVBenchConfig:
    """What is measured."""

    out: Path
    """Folder of figures.json and page.md; parts that are not measured now stay as they are there."""
    model: Path = defaults.WEIGHTS
    """Model folder."""
    parts: tuple[Part, ...] = PARTS
    """What to measure."""
    num_chunks: int = 25
    """Of the films that overhead and exactness are measured in."""
    settled: int = 4
    """The first chunk of them that counts: from here on a full past is shown."""
    repeats: int = 9
    """Times that speeds are measured."""
    steps: int | None = None
    """Denoising steps a chunk; None: as the model wants it."""
    num_stories: int = 4
    """That films are made of, to compare formats."""
    num_seeds: int = 3
    """Films of each story in each format."""
    workers: int = 2
    """Processes that make these films."""
    shapes: Shapes = field(default_factory=Shapes)
    """Of the model whose keys and values are moved."""

    def __post_init__(self) -> None:
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"parts are {self.parts}; expected some of {', '.join(PARTS)}")
        least = {"num_chunks": self.settled + 2, "repeats": 2, "num_stories": 1, "num_seeds": 2, "workers": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {number}")

    @property
    def videos(self) -> VideoConfig:
        """The films that compare formats."""
        return VideoConfig(
            file=self.out / "films.jsonl",
            model=self.model,
            num_chunks=self.num_chunks,
            num_stories=self.num_stories,
            num_seeds=self.num_seeds,
            steps=self.steps,
            workers=self.workers,
        )


def bench_kv(config: KVBenchConfig) -> dict[str, Any]:
    """Measure, and write ``figures.json`` and ``page.md``; returns what the former holds.

    Raises:
        ValueError: If the model is not valid, or the films that compare formats cannot be made, see `check_videos`.
        OSError: If a file cannot be read.
    """
    if "video" in config.parts:  # the last part: what is wrong with it is to be known before the others are measured
        check_videos(config.videos)
    config.out.mkdir(parents=True, exist_ok=True)
    file = config.out / "figures.json"
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    film = _film(config) if {"overhead", "exactness"} & set(config.parts) else None
    for part in config.parts:
        figures[part] = _measured(part, config, film) | {
            "machine": describe_machine(),
            "config": {name: str(value) for name, value in dataclasses.asdict(config).items()},
        }
        write_whole(file, json.dumps(figures, indent=2) + "\n")
        write_whole(config.out / "page.md", kv_page(figures))
    return figures


def _measured(part: Part, config: KVBenchConfig, film: Parts | None) -> dict[str, Any]:
    how = {"num_chunks": config.num_chunks, "settled": config.settled}
    match part:
        case "overhead":
            return measure_overhead(film, **how)
        case "throughput":
            return measure_throughput(config.shapes, repeats=config.repeats, folder=config.out)
        case "peak":  # of a process of its own: what another part left there is not to be counted
            with one_process() as process:
                return process.submit(measure_peak, config.shapes).result()
        case "exactness":  # larger queries: the sharper a model attends, the more of an error is seen
            return {"films": [measure_exactness(film, **how, query_scale=scale) for scale in (1.0, 3.0)]}
        case "video":
            return measure_videos(config.videos)


def _film(config: KVBenchConfig) -> Parts:
    captions = [chunk.caption for chunk in plan_story(STORY, config.num_chunks).chunks]
    board = Storyboard.from_prompts(captions)
    return build(SampleConfig(storyboard=board, out=config.out, model=config.model, steps=config.steps))
