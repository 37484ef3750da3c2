"""What a chunk costs early and late in a long video: time, resident memory, and bytes held of the past.

The loop is that of `bdiff sample`, with decoding and without writing files.
"""

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bdiff import defaults
from bdiff.files import write_whole
from bdiff.run import SampleConfig, Source, build, generate_chunks, make_memory
from bdiff_bench.harness.machine import anonymous_bytes, describe_machine
from bdiff_bench.harness.processes import one_process
from bdiff_bench.harness.statistics import median_around, quartiles
from bdiff_bench.harness.storyboard import long_storyboard


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
    """A chunk to compare, by the median over its neighbours ..."""
    late: int = 200
    """... with a later one."""
    neighbours: int = 8
    """How many chunks around each count."""
    device: str = "cpu"
    """Device of the model."""

    def __post_init__(self) -> None:
        if not self.neighbours // 2 <= self.early < self.late < self.num_chunks - self.neighbours // 2:
            raise ValueError(
                f"early {self.early} and late {self.late} must lie in a video of {self.num_chunks} chunks, "
                f"{self.neighbours // 2} chunks from its ends"
            )


def bench_speed(config: SpeedBenchConfig) -> dict[str, Any]:
    """Time every memory in a process of its own, so that none holds what another left; write and return the figures.

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


def _measure_alone(config: SpeedBenchConfig, policy: str) -> dict[str, Any]:
    with one_process() as process:
        return process.submit(_measure, config, policy).result()


def _measure(config: SpeedBenchConfig, policy: str) -> dict[str, Any]:
    run = build(
        SampleConfig(
            storyboard=long_storyboard(config.num_chunks),
            out=config.out.parent,
            model=config.model,
            policy=policy,
            device=config.device,
        )
    )
    memory = make_memory(run.spec.make_policy(), run.model, seed=run.spec.seed)
    seconds, resident, held, num_frames = [], [], [], 0
    started = time.perf_counter()
    for chunk in generate_chunks(run, memory):
        now = time.perf_counter()
        seconds.append(now - started)
        resident.append(anonymous_bytes())
        held.append(memory.nbytes)
        num_frames += 0 if chunk.frames is None else chunk.frames.shape[2]
        started = time.perf_counter()
    early, late = (median_around(seconds, at, config.neighbours) for at in (config.early, config.late))
    spread = quartiles(seconds)
    return {
        "seconds_a_chunk": {"median": statistics.median(seconds), "quartiles": [spread["low"], spread["high"]]},
        "times_real_time": num_frames / run.sampling.fps / sum(seconds),
        "early_seconds": early,
        "late_seconds": late,
        "late_over_early": late / early,
        "resident_bytes": {"early": resident[config.early], "late": resident[config.late], "peak": max(resident)},
        "bank_bytes": {"early": held[config.early], "late": held[config.late]},
        "bank_bytes_a_chunk": (held[config.late] - held[config.early]) / (config.late - config.early),
    }
