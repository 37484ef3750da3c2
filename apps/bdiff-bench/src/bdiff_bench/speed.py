"""What a chunk costs, early and late in a long video: time, resident memory, bytes held of the past.

The same loop as `bdiff sample`, over captions of a rendered world, with decoding and without writing files.
"""

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bdiff import defaults
from bdiff.files.whole import write_whole
from bdiff.run.loading import SampleConfig, build
from bdiff.run.models import Source
from bdiff.run.sample import generate_chunks
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.harness.processes import one_process
from bdiff_core import Storyboard
from storyworld import plan_story

STORY = 3_000_000
"""The story whose captions are told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedBenchConfig:
    """What is timed."""

    out: Path
    """File of the figures."""
    model: Path = defaults.WEIGHTS
    """Folder of the model."""
    policies: tuple[str, ...] = ("rolling", "semantic")
    """Memories, see `bdiff.defaults.policy`."""
    num_chunks: int = 210
    """Length of the video."""
    early: int = 20
    late: int = 200
    """The chunks that are compared, each as the median over its neighbours."""
    neighbours: int = 8
    """How many chunks around."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.neighbours // 2 <= self.early < self.late < self.num_chunks - self.neighbours // 2:
            raise ValueError(
                f"early {self.early} and late {self.late} must lie in a video of {self.num_chunks} chunks, "
                f"{self.neighbours // 2} chunks from its ends"
            )


def bench_speed(config: SpeedBenchConfig) -> dict[str, object]:
    """Time every memory, each in a process of its own: what one left resident is not the next one's.

    Write and return the figures.

    Raises:
        ValueError: If the model makes its videos without a memory.
    """
    mode = Source(folder=config.model, dtype=torch.float32, device="cpu").sampling().mode
    if mode != "cached":
        raise ValueError(f"{config.model} makes its videos in the {mode} mode, without a memory; there is none to time")
    figures = {
        "config": {name: str(value) for name, value in asdict(config).items()},
        "machine": describe_machine(),
        "policies": {name: _measure_alone(config, name) for name in config.policies},
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(config.out, json.dumps(figures, indent=2) + "\n")
    return figures


def _measure_alone(config: SpeedBenchConfig, policy: str) -> dict[str, object]:
    with one_process() as process:
        return process.submit(_measure, config, policy).result()


def _measure(config: SpeedBenchConfig, policy: str) -> dict[str, object]:
    captions = [chunk.caption for chunk in plan_story(STORY, config.num_chunks).chunks]
    parts = build(
        SampleConfig(
            storyboard=Storyboard.from_prompts(captions),
            out=config.out.parent,
            model=config.model,
            policy=policy,
            device=config.device,
        )
    )
    seconds, resident, held, video = [], [], [], 0.0
    started = time.perf_counter()
    for chunk in generate_chunks(parts):
        now = time.perf_counter()
        seconds.append(now - started)
        resident.append(anonymous_bytes())
        held.append(parts.bank.nbytes)
        video += chunk.frames.shape[2] / parts.sampling.fps
        started = time.perf_counter()
    early, late = (_around(seconds, at, config.neighbours) for at in (config.early, config.late))
    quartiles = statistics.quantiles(seconds, n=4)
    return {
        "seconds_a_chunk": {"median": statistics.median(seconds), "quartiles": [quartiles[0], quartiles[2]]},
        "times_real_time": video / sum(seconds),
        "early_seconds": early,
        "late_seconds": late,
        "late_over_early": late / early,
        "resident_bytes": {"early": resident[config.early], "late": resident[config.late], "peak": max(resident)},
        "bank_bytes": {"early": held[config.early], "late": held[config.late]},
        "bank_bytes_a_chunk": (held[config.late] - held[config.early]) / (config.late - config.early),
    }


def _around(values: list[float], at: int, neighbours: int) -> float:
    return statistics.median(values[at - neighbours // 2 : at + neighbours // 2 + 1])


def anonymous_bytes(process: int | str = "self") -> int:
    """Anonymous resident memory of a process, of this one by default; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
