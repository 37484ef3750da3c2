"""The study itself: measures true videos and planted drift, one line of figures for each."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness import append_lines, commit, describe_machine, read_lines, run_jobs, write_page
from storyworld import TAKES
from studies.takes.faults import RATES, with_fault
from studies.takes.figures import takes_figures
from studies.takes.measuring import Features, as_json, chunk_scores, frame_features, metrics_of
from studies.takes.page import takes_parts
from studies.takes.plots import draw_drift, draw_faults, draw_kinds
from studies.takes.videos import FIRST_SEED, Length, Take, donor_seed, load_take, world_digest

LINES = "videos.jsonl"
"""File of the lines."""
PACKAGES = ("storyworld", "vde-metrics", "opencv-python-headless")
"""Packages whose versions are noted."""
CHUNK_FRAMES = 32
"""Frames of a chunk of 4 s. A first chunk has 3 fewer, as autoencoders that shorten time by 4 need it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakesConfig:
    """What to measure."""

    out: Path
    """Folder of the lines, the summary, the page and its pictures."""
    num_seeds: int = 16
    """Held-out videos of each kind."""
    num_planted: int = 4
    """How many of these get faults, too."""
    size: int = 256
    """Height and width of the frames in pixels."""
    small_size: int = 64
    """Height and width of the small videos, for the cheap metrics."""
    num_chunks: int = 15
    """Chunks of every video, and of the drift error."""
    fewer_chunks: int = 10
    """Another number of chunks of the drift error."""
    chunk_frames: int = CHUNK_FRAMES
    """Frames of a chunk."""
    workers: int = 1
    """Processes."""

    def __post_init__(self) -> None:
        if self.num_planted > self.num_seeds:
            raise ValueError(
                f"num_planted is {self.num_planted}; expected at most num_seeds, which is {self.num_seeds}"
            )

    @property
    def length(self) -> Length:
        """Length of every video."""
        return Length(
            num_chunks=self.num_chunks, first_chunk_frames=self.chunk_frames - 3, chunk_frames=self.chunk_frames
        )

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of chunks of the drift error."""
        return self.num_chunks, self.fewer_chunks

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for lines to belong together."""
        names = ("size", "small_size", "num_chunks", "fewer_chunks", "chunk_frames")
        return {name: getattr(self, name) for name in names} | {"world": world_digest()}


@dataclass(frozen=True, kw_only=True, slots=True)
class TakesJob:
    """One video: as it is, small, or with a fault."""

    kind: str
    """story, place or walk."""
    seed: int
    """Seed of the video."""
    change: str
    """``true``, ``small``, or a fault."""
    rate: float
    """Rate of the fault; 0 without one."""


def tiny_config(config: TakesConfig) -> TakesConfig:
    """The same with sizes that take seconds; the figures say nothing."""
    return replace(
        config, num_seeds=1, num_planted=1, size=64, small_size=32, num_chunks=3, fewer_chunks=2, chunk_frames=8
    )


def measure_takes(config: TakesConfig, *, on_job: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Measure what is not measured yet, then write the summary, the pictures and the page; returns the summary.

    Raises:
        ValueError: If the folder holds figures of other settings.
    """
    path = config.out / LINES
    lines = read_lines(path)
    for line in lines:
        if line["identity"] != config.identity:
            raise ValueError(f"{config.out} holds figures of other settings ({line['identity']}); take another folder")
    jobs = planned(config)
    done = {_key(line) for line in lines}
    left = [job for job in jobs if _key(asdict(job)) not in done]
    results = run_jobs(left, config, load=_same, work=_work, workers=config.workers)
    for number, line in enumerate(append_lines(path, results), 1):
        lines.append(line)
        if on_job is not None:
            on_job(len(jobs) - len(left) + number, len(jobs))
    wanted = {_key(asdict(job)) for job in jobs}
    kept = sorted((line for line in lines if _key(line) in wanted), key=_key)
    summary = {
        "config": {name: value for name, value in asdict(config).items() if name != "out"},
        "seeds": _seeds(config),
        "world": world_digest(),
        "machine": describe_machine() | {name: version(name) for name in PACKAGES} | {"commit": commit()},
        **takes_figures(kept, counts=config.counts),
    }
    write_whole(config.out / "figures.json", json.dumps(summary, indent=1) + "\n")
    write_takes_page(config.out / "page.md", summary, pictures=config.out)
    return summary


def write_takes_page(page: Path, summary: dict[str, Any], *, pictures: Path) -> None:
    """Write the page and its pictures from the figures alone; the frames of the pictures are rendered again.

    Args:
        page: The page.
        summary: What `measure_takes` returned.
        pictures: Folder of the pictures: that of the page, or one in it.
    """
    config = TakesConfig(**summary["config"], out=pictures)
    seed = summary["seeds"][0]
    takes = {kind: _take(kind, seed, config.size, config.length) for kind in TAKES}
    small = {kind: load_take(kind, seed, size=config.small_size, length=config.length) for kind in TAKES}
    draw_kinds(takes, small, pictures / "kinds.png")
    take = takes["place"]
    donor = _donor("place", seed, config.size, config.length)
    faulty = {
        fault: with_fault(take, fault, rates[-1], num_chunks=config.num_chunks, donor=donor).frames
        for fault, rates in RATES.items()
    }
    draw_faults(take.frames, faulty, pictures / "faults.png")
    draw_drift(summary, pictures / "drift.png")
    links = {
        name: (pictures / f"{name}.png").relative_to(page.parent).as_posix() for name in ("kinds", "faults", "drift")
    }
    write_page(
        page, takes_parts(summary, pictures=links), title="Do true single takes drift, and is planted drift seen?"
    )


def planned(config: TakesConfig) -> list[TakesJob]:
    """Every video as it is and small, and some with every fault at every rate; those with faults come last."""
    jobs = []
    for number, seed in reversed([*enumerate(_seeds(config))]):
        changes = [("true", 0.0), ("small", 0.0)]
        if number < config.num_planted:
            changes += [(fault, rate) for fault, rates in RATES.items() for rate in rates]
        jobs += [TakesJob(kind=kind, seed=seed, change=change, rate=rate) for kind in TAKES for change, rate in changes]
    return jobs


def _seeds(config: TakesConfig) -> list[int]:
    return [FIRST_SEED + number for number in range(config.num_seeds)]


def _key(line: dict[str, Any]) -> tuple[str, int, str, float]:
    return line["kind"], line["seed"], line["change"], line["rate"]


def _same(config: TakesConfig) -> TakesConfig:
    return config


@lru_cache(maxsize=3)  # jobs come video by video, and the page shows one of each kind
def _take(kind: str, seed: int, size: int, length: Length) -> Take:
    return load_take(kind, seed, size=size, length=length)


@lru_cache(maxsize=1)
def _donor(kind: str, seed: int, size: int, length: Length) -> Take:
    return load_take(kind, donor_seed(kind, seed), size=size, length=length)


@lru_cache(maxsize=1)
def _encoder() -> Any:
    from vde_metrics import EfficientNetLite0

    return EfficientNetLite0()


@lru_cache(maxsize=1)
def _features(kind: str, seed: int, size: int, length: Length) -> Features:
    """Features of a true video."""
    take = _take(kind, seed, size, length)
    return frame_features(take.frames, metrics_of(take.truth.subject, _encoder()))


def _work(config: TakesConfig, job: TakesJob) -> dict[str, Any]:
    if job.change == "small":
        take = load_take(job.kind, job.seed, size=config.small_size, length=config.length)
        metrics = metrics_of(take.truth.subject, None)
        features = frame_features(take.frames, metrics)
    else:
        what = job.kind, job.seed, config.size, config.length
        take, features = _take(*what), _features(*what)
        metrics = metrics_of(take.truth.subject, _encoder())
    if job.change in RATES:
        donor = _donor(*what) if job.change == "swap" else None
        faulty = with_fault(take, job.change, job.rate, num_chunks=config.num_chunks, donor=donor)
        metrics = metrics_of(faulty.subject, _encoder())
        features = frame_features(faulty.frames, metrics, first=faulty.first, known=features)
    scores = {
        str(count): {name: as_json(own) for name, own in chunk_scores(features, metrics, count).items()}
        for count in config.counts
    }
    return {**asdict(job), "identity": config.identity, "scores": scores}
