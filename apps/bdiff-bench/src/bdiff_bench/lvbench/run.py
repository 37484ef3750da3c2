"""The bench itself: measure the videos of several models, one line of ``videos.jsonl`` for each video.

The folder of videos holds a folder per model, whose videos have the names of the manifest. A stopped bench goes on. It
tries again what could not be measured; the newest line of a video counts.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bdiff.files import write_whole
from bdiff_bench.harness.jobs import append_lines, read_lines
from bdiff_bench.harness.machine import describe_machine
from bdiff_bench.harness.result_page import write_page
from bdiff_bench.harness.statistics import mean_interval
from bdiff_bench.lvbench.config import LVBenchConfig
from bdiff_bench.lvbench.page import lvbench_parts

RATE = 24.0
"""Frames per second that metrics are made with if none of them depends on the rate."""
ONLY_MODEL = "."
"""Label of the model if the folder of videos is the model's own."""
NUM_DRAWS = 10_000
"""Bootstrap samples, as many as `vde` takes, so that both give the same intervals."""


def bench_lvbench(config: LVBenchConfig, *, on_video: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Measure what is not measured yet, then write the summary and the page; returns the summary.

    Raises:
        FileNotFoundError: if the manifest or a model's weights are missing.
        ValueError: if the manifest is wrong, no video is there, the folder holds lines of other settings, or torch
            cannot use the device.
    """
    jobs, missing = find_videos(config)
    measurer = _Measurer(config)
    path = config.out / "videos.jsonl"
    lines = {(line["method"], line["video"]): line for line in _checked_lines(read_lines(path), config)}  # the newest
    done = {key for key, line in lines.items() if line["problem"] is None}  # a damaged file may have been replaced
    left = [job for job in jobs if (job.method, job.video) not in done]
    for number, line in enumerate(append_lines(path, _measured(left, measurer)), 1):
        lines[line["method"], line["video"]] = line
        if on_video is not None:
            on_video(len(jobs) - len(left) + number, len(jobs))
    summary = summarise([lines[job.method, job.video] for job in jobs], config, missing)
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_page(config.out / "page.md", lvbench_parts(summary), title="LV-Bench")
    return summary


@dataclass(frozen=True, kw_only=True, slots=True)
class LVBenchVideo:
    """One video of one model."""

    method: str
    """The model's folder."""
    video: str
    """Its name in the manifest."""
    path: Path
    """Its file."""


def find_videos(config: LVBenchConfig) -> tuple[list[LVBenchVideo], dict[str, list[str]]]:
    """The videos that are there, and by model the names of missing ones."""
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
        jobs += [LVBenchVideo(method=method, video=entry.video, path=found[entry.video]) for entry in there]
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


def _measured(jobs: Sequence[LVBenchVideo], measurer: "_Measurer") -> Iterator[dict[str, Any]]:
    for job in jobs:
        try:
            found = {**measurer.measure(job), "problem": None}
        except ValueError as error:  # this video cannot be measured; the others can
            found = {"report": None, "plain": {}, "problem": str(error)}
        yield {"method": job.method, "video": job.video, "identity": measurer.config.identity, **found}


class _Measurer:
    """Measures videos one after the other, with models that are loaded once."""

    def __init__(self, config: LVBenchConfig) -> None:
        self.config = config
        self._made: dict[tuple[Any, ...], list[Any]] = {}
        for names in (config.metrics, config.plain):
            self._named(names, fps=RATE)  # so that bad weights or a bad device stop the bench before the first video

    def measure(self, job: LVBenchVideo) -> dict[str, Any]:
        """The drift report and VBench's plain scores of a video."""
        from vde_metrics import measure, vbench

        config = self.config
        cache = config.out / "features" if config.plain else None  # so that both share what they compute
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
        plain: Mapping[str, Any] = {}
        if config.plain:
            plain = vbench.plain_scores(job.path, metrics=self._metrics(config.plain, job), cache=cache)
        return {"report": report.to_dict(), "plain": plain}

    def _metrics(self, names: tuple[str, ...], job: LVBenchVideo) -> list[Any]:
        from vde_metrics import VideoFile

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
    """Means over videos with intervals, by model."""
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
    given = [float(value) for value in values]
    if not given or not all(map(math.isfinite, given)):
        return {"mean": "inf" if given else None, "low": None, "high": None}
    if len(given) == 1:  # a single video has no interval
        return {"mean": given[0], "low": None, "high": None}
    return {**mean_interval(given, num_draws=NUM_DRAWS)}
