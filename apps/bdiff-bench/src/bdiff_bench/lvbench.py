"""LV-Bench: the drift of a benchmark's videos as several models made them, in the form of the paper's Tables 2 and 3.

The folder of videos holds a folder per model; in each, videos lie as the manifest names them. Every video is a line of
``videos.jsonl``, so that a stopped bench goes on. A video that could not be measured is tried again then; its newest
line counts. ``summary.json`` and ``page.md`` are written from the lines.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bdiff.files.whole import write_whole
from bdiff_bench.harness.jobs import append_lines, read_lines
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.lvbench_page import lvbench_parts
from vde_metrics.named_metrics import check_models, check_names

SplitName = Literal["evaluation", "train", "all"]
RATE = 24.0
"""Frames per second that metrics are made with where none of them asks."""
ONLY_MODEL = "."
"""The label where the folder of videos is itself the model's."""

DEFAULT_METRICS = {
    "paper": ("clarity", "motion", "background", "subject"),
    "released": ("subject-consistency", "background-consistency"),
}
"""What is measured if nothing is asked for: under the paper's protocol, what needs no weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LVBenchConfig:
    """What to measure."""

    manifest: Path
    """The benchmark's videos, as `lvbench.Manifest` reads them."""
    videos: Path
    """A folder per model, or the videos of one model."""
    out: Path
    """Folder of the lines, the summary and the page."""
    protocol: Literal["paper", "released"] = "paper"
    """Which definition of drift; a folder holds one."""
    metrics: tuple[str, ...] = ()
    """Metrics of VDE, by the names that `vde` knows; none: those of `DEFAULT_METRICS`."""
    plain: tuple[str, ...] = ()
    """VBench's metrics of whole videos, by the names that `vde` knows."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Weights by role."""
    num_chunks: int = 10
    """Chunks of equal length; the errors grow with their number, so tables compare at the same one."""
    split: SplitName = "evaluation"
    """Which part of the manifest."""
    seed: int = 0
    """Of the split."""
    device: str = "cpu"
    """Where models run."""

    def __post_init__(self) -> None:
        if not self.metrics:
            object.__setattr__(self, "metrics", DEFAULT_METRICS[self.protocol])
        check_names(self.metrics, self.protocol)
        check_names(self.plain, "released")
        check_models(self.models, (*self.metrics, *self.plain))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for lines to belong together."""
        found = {key: getattr(self, key) for key in ("protocol", "metrics", "plain", "num_chunks")}
        return json.loads(json.dumps(found | {"models": dict(self.models), "videos": str(self.videos.resolve())}))


def bench_lvbench(config: LVBenchConfig, *, on_video: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Measure what is not measured yet, then write the summary and the page; returns the summary.

    Raises:
        FileNotFoundError: if the manifest or a model's weights are missing.
        ValueError: if the manifest is wrong, no video is there, the folder holds lines of other settings, or torch
            cannot use the device.
    """
    jobs, missing = find_videos(config)
    meter = _Meter(config)
    path = config.out / "videos.jsonl"
    lines = {(line["method"], line["video"]): line for line in _checked_lines(read_lines(path), config)}  # the newest
    done = {key for key, line in lines.items() if line["problem"] is None}  # a damaged file may have been replaced
    left = [job for job in jobs if (job.method, job.video) not in done]
    for number, line in enumerate(append_lines(path, _measured(left, meter)), 1):
        lines[line["method"], line["video"]] = line
        if on_video is not None:
            on_video(len(jobs) - len(left) + number, len(jobs))
    summary = summarise([lines[job.method, job.video] for job in jobs], config, missing)
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(config.out / "page.md", "\n\n".join(lvbench_parts(summary)) + "\n")
    return summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One video of one model."""

    method: str
    """The model's folder."""
    video: str
    """As the manifest names it."""
    path: Path
    """Where it lies."""


def find_videos(config: LVBenchConfig) -> tuple[list[Job], dict[str, list[str]]]:
    """The videos that are there, and by model the ones that are not."""
    from lvbench import Manifest

    manifest = Manifest.load(config.manifest)
    split = manifest.split(config.seed)
    entries = {"evaluation": split.evaluation, "train": split.train, "all": manifest.entries}[config.split]
    if not entries:
        raise ValueError(
            f"{config.manifest}: of {len(manifest.entries)} videos none is left for the split {config.split}; take "
            "--split all"
        )
    if not config.videos.is_dir():
        raise FileNotFoundError(f"{config.videos}: no such folder; expected a folder of videos for each model")
    folders = {ONLY_MODEL: config.videos}
    if not any((config.videos / entry.video).is_file() for entry in manifest.entries):
        folders = {one.name: one for one in sorted(config.videos.iterdir()) if one.is_dir()}
    jobs, missing = [], {}
    for method, folder in folders.items():
        found = {entry.video: folder / entry.video for entry in entries}
        there = [entry for entry in entries if found[entry.video].is_file()]
        jobs += [Job(method=method, video=entry.video, path=found[entry.video]) for entry in there]
        if there:
            missing[method] = [entry.video for entry in entries if entry not in there]
    if not jobs:
        raise ValueError(
            f"{config.videos}: holds none of the {len(entries)} videos of the split {config.split}; expected "
            f"<model>/{entries[0].video} and others"
        )
    return jobs, missing


def _checked_lines(lines: list[dict[str, Any]], config: LVBenchConfig) -> list[dict[str, Any]]:
    for line in lines:
        differ = [name for name, value in config.identity.items() if line["identity"].get(name) != value]
        if differ:
            raise ValueError(
                f"{config.out} holds figures of other settings (different: {', '.join(differ)}); take another --out"
            )
    return lines


def _measured(jobs: Sequence[Job], meter: "_Meter") -> Iterator[dict[str, Any]]:
    for job in jobs:
        try:
            found = {**meter.measure(job), "problem": None}
        except ValueError as error:  # of this video; the others are measured
            found = {"report": None, "plain": {}, "problem": str(error)}
        yield {"method": job.method, "video": job.video, "identity": meter.config.identity, **found}


class _Meter:
    """Measures videos one after the other; models are loaded once."""

    def __init__(self, config: LVBenchConfig) -> None:
        self.config = config
        self._made: dict[tuple[Any, ...], list[Any]] = {}
        for names in (config.metrics, config.plain):
            self._named(names, fps=RATE)  # what is wrong with weights or device is wrong for every video

    def measure(self, job: Job) -> dict[str, Any]:
        """The drift report and VBench's plain scores of a video."""
        from vde_metrics import measure
        from vde_metrics.vbench import plain_scores

        config = self.config
        cache = config.out / "features" if config.plain else None  # what both look at is computed once
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # infinite errors are in the figures
            report = measure(
                job.path,
                metrics=self._metrics(config.metrics, job),
                protocol=config.protocol,
                num_chunks=config.num_chunks,
                cache=cache,
                name=job.video,
            )
        plain = plain_scores(job.path, metrics=self._metrics(config.plain, job), cache=cache) if config.plain else {}
        return {"report": report.to_dict(), "plain": plain}

    def _metrics(self, names: tuple[str, ...], job: Job) -> list[Any]:
        from vde_metrics.video import VideoFile

        return self._named(names, fps=VideoFile.probe(job.path).fps if "dynamic-degree" in names else RATE)

    def _named(self, names: tuple[str, ...], *, fps: float | None) -> list[Any]:
        from vde_metrics import make_metric

        if (names, fps) not in self._made:
            config = self.config
            made = [make_metric(name, config.models, fps=fps, device=config.device) for name in names]
            self._made[names, fps] = made
        return self._made[names, fps]


def summarise(
    lines: Sequence[Mapping[str, Any]], config: LVBenchConfig, missing: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Means over videos with bootstrap intervals, by model."""
    methods = {}
    for method in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == method]
        good = [line for line in own if line["report"] is not None]
        methods[method] = {
            "videos": len(good),
            "missing": list(missing.get(method, [])),
            "problems": {line["video"]: line["problem"] for line in own if line["problem"] is not None},
            "frozen": sum(line["report"]["is_frozen"] for line in good),
            "vde": {
                name: _mean([line["report"]["metrics"][name]["vde"] for line in good])
                for name in (good[0]["report"]["metrics"] if good else ())
            },
            "plain": {
                name: _mean([line["plain"][name] for line in good if line["plain"][name] is not None])
                for name in (good[0]["plain"] if good else ())
            },
        }
    settings = {**asdict(config), "models": dict(config.models)}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    looked = {
        name: values["models"]
        for line in lines
        if line["report"] is not None
        for name, values in line["report"]["metrics"].items()
    }
    return {"config": plain, "machine": describe_machine(), "looked_through": looked, "methods": methods}


def _mean(values: Sequence[Any]) -> dict[str, Any]:
    from vde_metrics.comparison import bootstrap_mean

    given = [float(value) for value in values]
    if not given or not all(map(math.isfinite, given)):
        return {"mean": "inf" if given else None, "low": None, "high": None}
    found = bootstrap_mean(given)
    return {"mean": found.mean, "low": found.low, "high": found.high}
