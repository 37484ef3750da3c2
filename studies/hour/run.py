"""Makes the video as `bdiff sample` does, and notes time, memory and disk of every chunk."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bdiff import defaults
from bdiff.files import write_whole
from bdiff.run import Progress, RunSpec, RunState, SampleConfig, load_run, make_spec, make_video
from bdiff_bench.harness import anonymous_bytes, describe_machine, long_storyboard, write_page
from studies.hour.page import hour_parts, summarise
from studies.hour.plots import draw, draw_moments


@dataclass(frozen=True, kw_only=True, slots=True)
class HourConfig:
    """One long video."""

    out: Path
    """Folder of the run and of figures.json; a stopped run goes on."""
    model: Path = defaults.WEIGHTS
    """Model folder."""
    num_chunks: int = 1440
    """Length of the video; the default is an hour of the shipped model."""
    policy: str | None = None
    """Memory, see `defaults.policy`; None: `defaults.POLICY`."""
    memory_limit: int = defaults.MEMORY_LIMIT
    """Bytes of past keys and values in memory."""
    settled: int = 100
    """The chunk from which on memory and time should no longer change."""

    def __post_init__(self) -> None:
        if self.num_chunks < 2 * self.settled + 2:
            raise ValueError(
                f"num_chunks is {self.num_chunks}; expected at least {2 * self.settled + 2}, twice settled and two more"
            )


def measure_hour(config: HourConfig) -> dict[str, Any]:
    """Make the video, or what is missing of it, and report what it took.

    Figures of every chunk go to ``chunks.jsonl`` as they come, the summary to ``figures.json``, a plot to
    ``endurance.png``, pictures from all over the video to ``moments.png``, and all of it to ``page.md``. Drift is not
    measured, because on so long a video it takes as long again.

    Raises:
        ValueError: If the folder holds another video, or the model has changed since it began.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    state, log = RunState(config.out), config.out / "chunks.jsonl"
    fresh = not (state.folder / "script.json").exists()
    if fresh:
        spec = make_spec(_sample_config(config))
        log.unlink(missing_ok=True)
    else:
        spec = state.spec()
        _check_video(spec, config)
    record = make_video(
        load_run(spec, config.out),
        fresh=fresh,
        memory_limit=config.memory_limit,
        on_chunk=_Notes(log).add,
        drift=False,
    )
    chunks = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    summary = summarise(chunks, settled=config.settled) | {
        "config": {name: str(value) for name, value in (asdict(config) | {"policy": spec.policy}).items()},
        "machine": describe_machine(),
        "video": record["video"],
        "video_bytes": (config.out / "video.mp4").stat().st_size,
        "state_bytes": sum(file.stat().st_size for file in state.folder.rglob("*") if file.is_file()),
        "threads": torch.get_num_threads(),
    }
    write_whole(config.out / "figures.json", json.dumps(summary, indent=2) + "\n")
    draw(chunks, config.out / "endurance.png")
    draw_moments(state, config.out / "moments.png")
    parts = hour_parts(summary, plot="endurance.png", moments="moments.png")
    write_page(config.out / "page.md", parts, title="A video of an hour")
    return summary


class _Notes:
    """Appends a line of figures to a file after every chunk."""

    def __init__(self, file: Path) -> None:
        self._file, self._last = file, time.perf_counter()

    def add(self, progress: Progress) -> None:
        figures = {
            "chunk": progress.done - 1,
            "seconds": time.perf_counter() - self._last,
            "anonymous_bytes": anonymous_bytes(),
            "memory_bytes": progress.memory_bytes,
        }
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        self._last = time.perf_counter()


def _sample_config(config: HourConfig) -> SampleConfig:
    board = long_storyboard(config.num_chunks)
    return SampleConfig(storyboard=board, out=config.out, model=config.model, policy=config.policy)


def _check_video(spec: RunSpec, config: HourConfig) -> None:
    """Check that the video that is gone on with is the one that is asked for."""
    there = {"model": spec.model, "policy": spec.policy, "num_chunks": len(spec.chunks)}
    asked = {
        "model": str(config.model.resolve()),
        "policy": config.policy or defaults.POLICY,
        "num_chunks": config.num_chunks,
    }
    if differ := [f"{name} {there[name]}, not {asked[name]}" for name in there if there[name] != asked[name]]:
        raise ValueError(f"{config.out} holds a video of {'; '.join(differ)}; take another --out")
    if problem := spec.missing():
        raise ValueError(f"{problem} since this video began; bring back that model, or take another --out")
