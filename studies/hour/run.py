"""How a film of an hour goes: time of every chunk, memory, disk, written to disk as any run is."""

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bdiff import defaults
from bdiff.files.whole import write_whole
from bdiff.output.markdown import markdown_table
from bdiff.run.loading import SampleConfig, load_parts, write_script
from bdiff.run.sample import Progress, sample
from bdiff.run.spec import Script
from bdiff.run.state import RunState
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.speed import STORY, anonymous_bytes
from bdiff_core import Storyboard
from bdiff_core.whole_file import whole_file
from storyworld import plan_story

_MOMENTS = 16
"""Pictures of the film on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnduranceConfig:
    """One long film."""

    out: Path
    """Folder of the run and of figures.json; a stopped run goes on."""
    model: Path = defaults.WEIGHTS
    """Model folder."""
    num_chunks: int = 1440
    """An hour of the shipped model's film."""
    policy: str | None = None
    """Memory, see `defaults.policy`; None: `defaults.POLICY`."""
    memory_limit: int = defaults.MEMORY_LIMIT
    """Bytes of past keys and values in memory."""
    settled: int = 100
    """The chunk from which on memory and time are to stay as they are."""

    def __post_init__(self) -> None:
        if self.num_chunks < 2 * self.settled + 2:
            raise ValueError(
                f"num_chunks is {self.num_chunks}; expected at least {2 * self.settled + 2}, twice settled and two more"
            )


def bench_endurance(config: EnduranceConfig) -> dict[str, Any]:
    """Make the film, or what is missing of it, and say what it took.

    Figures of every chunk go to ``chunks.jsonl`` as they come, the summary to ``figures.json``, a plot to
    ``endurance.png``, pictures from all over the film to ``moments.png``, and all of it to ``page.md``. Drift is not
    measured: a film this long takes as long again.

    Raises:
        ValueError: If the folder holds another film, or the model has changed since it began.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    state, log = RunState(config.out), config.out / "chunks.jsonl"
    fresh = not (state.folder / "script.json").exists()
    if fresh:
        captions = [chunk.caption for chunk in plan_story(STORY, config.num_chunks).chunks]
        board = Storyboard.from_prompts(captions)
        script = write_script(SampleConfig(storyboard=board, out=config.out, model=config.model, policy=config.policy))
        log.unlink(missing_ok=True)
    else:
        script = state.script()
        _check_film(script, config)
    parts = load_parts(script, config.out)
    last = time.perf_counter()

    def note(progress: Progress) -> None:
        nonlocal last
        now = time.perf_counter()
        figures = {
            "chunk": progress.done - 1,
            "seconds": now - last,
            "anonymous_bytes": anonymous_bytes(),
            "memory_bytes": progress.memory_bytes,
        }
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        last = time.perf_counter()

    record = sample(parts, fresh=fresh, memory_limit=config.memory_limit, on_chunk=note, drift=False)
    chunks = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    summary = summarize(chunks, settled=config.settled) | {
        "config": {name: str(value) for name, value in asdict(config).items()},
        "machine": describe_machine(),
        "video": record["video"],
        "video_bytes": (config.out / "video.mp4").stat().st_size,
        "state_bytes": sum(file.stat().st_size for file in state.folder.rglob("*") if file.is_file()),
        "threads": torch.get_num_threads(),
    }
    write_whole(config.out / "figures.json", json.dumps(summary, indent=2) + "\n")
    draw(chunks, config.out / "endurance.png")
    draw_moments(state, config.out / "moments.png")
    write_whole(config.out / "page.md", endurance_page(summary, plot="endurance.png", moments="moments.png"))
    return summary


def _check_film(script: Script, config: EnduranceConfig) -> None:
    """Whether a film that is gone on with is the one that is asked for: figures would be told of another one."""
    there = {"model": script.model, "policy": script.policy, "num_chunks": len(script.takes)}
    asked = {
        "model": str(config.model.resolve()),
        "policy": config.policy or defaults.POLICY,
        "num_chunks": config.num_chunks,
    }
    if differ := [f"{name} {there[name]}, not {asked[name]}" for name in there if there[name] != asked[name]]:
        raise ValueError(f"{config.out} holds a film of {'; '.join(differ)}; take another --out")
    if problem := script.missing():
        raise ValueError(f"{problem} since this film began; bring back that model, or take another --out")


def summarize(chunks: list[dict[str, Any]], *, settled: int) -> dict[str, Any]:
    """The last chunks' time and memory over those of as many chunks once the film is settled: medians."""
    seconds = [chunk["seconds"] for chunk in chunks]
    resident = [chunk["anonymous_bytes"] for chunk in chunks]
    early, late = (statistics.median(part) for part in (seconds[settled : 2 * settled], seconds[-settled:]))
    little, much = (statistics.median(part) for part in (resident[settled : 2 * settled], resident[-settled:]))
    return {
        "chunks": len(chunks),
        "seconds_a_chunk": statistics.median(seconds),
        "early_seconds": early,
        "late_seconds": late,
        "late_over_early": late / early,
        "anonymous_bytes": {"early": little, "late": much, "most": max(resident[settled:])},
        "anonymous_growth": much / max(1, little) - 1,
        "memory_bytes": chunks[-1]["memory_bytes"],
    }


def endurance_page(summary: dict[str, Any], *, plot: str, moments: str) -> str:
    """The figures as Markdown.

    Args:
        summary: What `bench_endurance` returns.
        plot: Link to what `draw` drew.
        moments: Link to what `draw_moments` drew.
    """
    config, machine, video = summary["config"], summary["machine"], summary["video"]
    resident, settled = summary["anonymous_bytes"], int(config["settled"])
    rows = {
        "seconds a chunk, median": f"{summary['seconds_a_chunk']:.3f}",
        f"the same over chunks {settled} to {2 * settled - 1}": f"{summary['early_seconds']:.3f}",
        f"the same over the last {settled}": f"{summary['late_seconds']:.3f}",
        "late over early": f"**{summary['late_over_early']:.3f}**",
        f"anonymous memory, median over chunks {settled} to {2 * settled - 1}": f"{resident['early'] / 1e6:.0f} MB",
        f"the same over the last {settled} chunks": f"{resident['late'] / 1e6:.0f} MB",
        "growth": f"**{100 * summary['anonymous_growth']:.1f}%**",
        "anonymous memory at most": f"{resident['most'] / 1e6:.0f} MB",
        "keys and values of the past at the end": f"{summary['memory_bytes'] / 1e6:.0f} MB",
        "state of the run on disk": f"{summary['state_bytes'] / 1e6:.0f} MB",
        "video": f"{video['seconds'] / 60:.1f} minutes, {video['frames']} frames",
        "its file": f"{summary['video_bytes'] / 1e6:.0f} MB",
    }
    setting = (
        f"A film of {summary['chunks']} chunks by `python -m studies.hour`: memory `{config['policy']}`, of whose past "
        f"{int(config['memory_limit']) / 1e6:.0f} MB are held in memory. {machine['processor']}, {summary['threads']} "
        f"threads, torch {machine['torch']}, bdiff {machine['bdiff']}. One film of one seed; drift was not measured."
    )
    pictures = [
        f"![Seconds of every chunk, and memory, over the chunks of the film]({plot})",
        f"{_MOMENTS} moments, evenly over the film, first to last:",
        f"![The film from its first chunk to its last]({moments})",
    ]
    return "\n\n".join(["# A film of an hour", setting, markdown_table(["", ""], rows.items()), *pictures]) + "\n"


def draw(chunks: list[dict[str, Any]], file: Path) -> None:
    """Seconds and memory over the chunks of the film."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    numbers = [chunk["chunk"] for chunk in chunks]
    figure, (times, memory) = pyplot.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    times.plot(numbers, [chunk["seconds"] for chunk in chunks], ".", markersize=2, color="#1971c2")
    times.set_ylabel("seconds a chunk")
    times.set_ylim(0, 2.5 * statistics.median(chunk["seconds"] for chunk in chunks))
    for name, label, colour in (
        ("anonymous_bytes", "process (anonymous)", "#d9480f"),
        ("memory_bytes", "keys and values of the past, on disk and in memory", "#7a7d85"),
    ):
        memory.plot(numbers, [chunk[name] / 1e6 for chunk in chunks], color=colour, label=label)
    memory.set_ylabel("MB")
    memory.set_xlabel("chunk")
    memory.set_ylim(bottom=0)
    memory.legend(frameon=False)
    for axes in (times, memory):
        axes.spines[["top", "right"]].set_visible(False)
    with whole_file(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
    pyplot.close(figure)


def draw_moments(state: RunState, file: Path) -> None:
    """Middle frames of evenly chosen chunks, row after row."""
    from PIL import Image

    last, side = state.num_chunks - 1, 128
    sheet = Image.new("RGB", (side * _MOMENTS // 2, side * 2))
    for place in range(_MOMENTS):
        picture = state.chunk(round(place * last / (_MOMENTS - 1))).thumbnail
        row, column = divmod(place, _MOMENTS // 2)
        sheet.paste(Image.fromarray(picture.numpy()).resize((side, side)), (side * column, side * row))
    with whole_file(file) as partial:
        sheet.save(partial, format="png")
