"""From the JSON of runs to figures: means with intervals over stories, alone and against each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bdiff_bench.harness import Draws, StorySums, draw_with_replacement, interval, mean_of_known
from studies.ablation.configurations import BASE, BASELINE, CONFIGURATIONS, OURS, SWEEP, TABLES, TRUTH
from studies.ablation.reader_questions import Line, answers, sums_by_story
from studies.ablation.run_files import FORMAT
from studies.ablation.videos import DRIFTS


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One column of the tables."""

    title: str
    """Its name on pages."""
    values: Callable[[Line, int], Sequence[float | None]]
    """``values(line, window)`` gives the values of a video; the mean is over the values of all videos."""
    less_is_better: bool = True
    """Whether tables mark it with an arrow down."""


def _drift(metric: str) -> Measure:
    return Measure(title=f"VDE {metric}", values=lambda line, window: [line["drift"][metric]["vde"]])


def _away(name: str, field: str, *, beyond: bool) -> Callable[[Line, int], Sequence[float | None]]:
    return lambda line, window: [record[field] for record in line[name] if (record["gap"] > window) == beyond]


def _as_prompted(title: str, name: str) -> Measure:
    return Measure(title=title, values=lambda line, window: [line["captions"][name]], less_is_better=False)


MEASURES: dict[str, Measure] = {
    **{metric: _drift(metric) for metric in DRIFTS},
    "recall": Measure(title="recall error", values=_away("recall", "colour", beyond=True)),
    "recall_within": Measure(title="recall error within", values=_away("recall", "colour", beyond=False)),
    "palette": Measure(title="palette distance", values=_away("palette", "palette", beyond=True)),
    "visible": _as_prompted("protagonist seen", "visible"),
    "direction": _as_prompted("direction as prompted", "direction"),
    "place": _as_prompted("place as before", "place"),
}
"""Measures in the order of the tables."""

AGAINST = {OURS: "against_ours", BASE: "against_base"}
"""Configurations that every other is compared with, and how a summary names the differences."""

CLAIMED = ("subject", "background", "clarity", "recall")
"""Measures in which `OURS` is claimed to be below `BASELINE`, with intervals that do not overlap."""


def summarise(
    runs: Sequence[Mapping[str, Any]],
    *,
    stories: Sequence[int],
    seeds: Sequence[int],
    window: int,
    wanted: Sequence[str],
) -> dict[str, Any]:
    """All figures of an ablation.

    Args:
        runs: What `read_runs` gives.
        stories: Seeds of the stories that count.
        seeds: Seeds of post-training that count.
        window: Chunks that a rolling window holds.
        wanted: Labels of the configurations that were asked for.

    Returns:
        ``cells``, figures and curves by label; ``claim``, see `claim`; ``forgetting``, see `forgetting`, if the true
        videos are there; ``questions``, see `answers`; ``missing``, by label the seeds that have not sampled every
        story yet, for configurations that were asked for or have begun.
    """
    complete, facts = _complete_runs(runs, stories, seeds)
    draws = draw_with_replacement(len(stories))
    configurations = {
        label: _configuration(complete[label], facts[label], draws, window)
        for label in [*CONFIGURATIONS, TRUTH]
        if label in complete
    }
    for label, configuration in configurations.items():
        for other, name in AGAINST.items():
            if other in configurations and label not in (other, TRUTH):
                configuration[name] = _against(complete[label], complete[other], draws, window)
    begun = [label for label in configurations if label != TRUTH]
    missing = {label: [seed for seed in seeds if seed not in complete.get(label, {})] for label in (*wanted, *begun)}
    return {
        "format": FORMAT,
        "stories": len(stories),
        "seeds": list(seeds),
        "window": window,
        "cells": configurations,
        "questions": answers(
            {label: complete[label] for label in configurations},
            {name: _values(name, window) for name in CLAIMED},
            draws,
            window,
        ),
        "claim": claim(complete, draws, window),
        "forgetting": forgetting(complete.get(TRUTH, {}), draws, window),
        "missing": {label: absent for label, absent in missing.items() if absent},
    }


def _complete_runs(
    runs: Sequence[Mapping[str, Any]], stories: Sequence[int], seeds: Sequence[int]
) -> tuple[dict[str, dict[int, list[Line]]], dict[str, list[Mapping[str, Any]]]]:
    """The runs that have sampled every story: lines by label and seed, story by story; and the runs by label."""
    complete: dict[str, dict[int, list[Line]]] = {}
    facts: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        lines = {line["story"]: line for line in run["films"]}
        label, seed = run["cell"]["label"], run["seed"]
        if (seed in seeds or label == TRUTH) and all(story in lines for story in stories):
            complete.setdefault(label, {})[seed] = [lines[story] for story in stories]
            facts.setdefault(label, []).append(run)
    return complete, facts


def claim(complete: Mapping[str, Mapping[int, Sequence[Line]]], draws: Draws, window: int) -> dict[str, Any]:
    """Whether `OURS` drifts less and recalls better than `BASELINE`, on the seeds that both have.

    Returns:
        ``seeds``; ``missing``, the configurations without a run; ``measures``, by name both figures, their paired
        difference and the ``verdict``, see `verdict`; ``holds``, None where configurations are missing.
    """
    seeds = sorted(set(complete.get(OURS, ())) & set(complete.get(BASELINE, ())))
    if not seeds:
        absent = [label for label in (OURS, BASELINE) if not complete.get(label)]
        return {"seeds": [], "missing": absent, "measures": {}, "holds": None}
    found = {}
    for name in CLAIMED:
        ours, theirs = (sums_of([complete[label][s] for s in seeds], name, window) for label in (OURS, BASELINE))
        one, other = ours.figure(draws), theirs.figure(draws)
        found[name] = {
            "ours": one,
            "baseline": other,
            "difference": interval(np.subtract, ours, theirs, draws=draws),
            "verdict": verdict(one, other),
        }
    return {
        "seeds": seeds,
        "missing": [],
        "measures": found,
        "holds": all(row["verdict"] == "below" for row in found.values()),
    }


def forgetting(true: Mapping[int, Sequence[Line]], draws: Draws, window: int) -> dict[str, dict[str, Any]]:
    """How much each measure changes by forgetting alone: true videos against true videos with wrong places on returns.

    Returns:
        By name of a measure both figures (``true``, ``forgetful``) and their paired ``difference``; empty if the lines
        were written by a version that did not have forgetful videos.
    """
    videos = list(true.values())
    if not videos or not all("forgetful" in line for lines in videos for line in lines):
        return {}
    forgetful = [[line["forgetful"] for line in lines] for lines in videos]
    found = {}
    for name in MEASURES:
        one, other = sums_of(videos, name, window), sums_of(forgetful, name, window)
        difference = interval(np.subtract, other, one, draws=draws)
        found[name] = {"true": one.figure(draws), "forgetful": other.figure(draws), "difference": difference}
    return found


def verdict(ours: Mapping[str, float] | None, theirs: Mapping[str, float] | None) -> str:
    """``below`` or ``above`` if two intervals do not overlap, else ``overlap``.

    ``unmeasured`` if a figure is missing or has one story, whose interval is a point.
    """
    if ours is None or theirs is None or min(ours["stories"], theirs["stories"]) < 2:
        return "unmeasured"
    if ours["high"] < theirs["low"]:
        return "below"
    return "above" if theirs["high"] < ours["low"] else "overlap"


def sums_of(videos_of_seeds: Sequence[Sequence[Line]], name: str, window: int) -> StorySums:
    """A measure of a configuration: sums and counts of each story, seeds together.

    Args:
        videos_of_seeds: For each seed the lines, story by story.
        name: Key of `MEASURES`.
        window: Chunks that a rolling window holds.
    """
    return sums_by_story(videos_of_seeds, _values(name, window))


def _values(name: str, window: int) -> Callable[[Line], Sequence[float | None]]:
    return lambda line: MEASURES[name].values(line, window)


def _configuration(
    videos: Mapping[int, Sequence[Line]], runs: Sequence[Mapping[str, Any]], draws: Draws, window: int
) -> dict[str, Any]:
    seeds = sorted(videos)
    lines = [line for seed in seeds for line in videos[seed]]
    measures = {}
    for name in MEASURES:
        found = sums_of([videos[seed] for seed in seeds], name, window).figure(draws)
        if found is not None:
            alone = [sums_of([videos[seed]], name, window).figure(draws) for seed in seeds]
            measures[name] = found | {"by_seed": [None if one is None else one["mean"] for one in alone]}
    seconds = [line["seconds"] for line in lines]
    trained = [run["training"] for run in runs if run["training"]]
    return {
        "seeds": seeds,
        "measures": measures,
        "curves": {metric: _means([line["drift"][metric]["changes"] for line in lines]) for metric in DRIFTS},
        "visible_by_chunk": _means([line["captions"]["visible_by_chunk"] for line in lines]),
        "infinite": {metric: sum(line["drift"][metric]["vde"] is None for line in lines) for metric in DRIFTS},
        "frozen": sum(line["frozen"] for line in lines),
        "tokens": mean_of_known([line["tokens"] for line in lines]),
        "kept": _means([line["kept"] for line in lines if line["kept"] is not None]) or None,
        "held_out_loss": mean_of_known([facts["held_out_loss"] for facts in trained]),
        "training_seconds": mean_of_known([facts["seconds"] for facts in trained]),
        "film_seconds": mean_of_known([one["free"] + one["given"] + one["measuring"] for one in seconds]),
    }


def _against(
    one: Mapping[int, Sequence[Line]], other: Mapping[int, Sequence[Line]], draws: Draws, window: int
) -> dict[str, Any]:
    """Paired differences, on the seeds that both have."""
    seeds = sorted(set(one) & set(other))
    if not seeds:
        return {}
    sums = {name: [sums_of([videos[s] for s in seeds], name, window) for videos in (one, other)] for name in MEASURES}
    return {name: interval(np.subtract, *pair, draws=draws) for name, pair in sums.items()}


def _means(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [mean_of_known(column) for column in zip(*rows, strict=True)]


def tables_of(summary: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Tables of a page and their configurations: 5 and 6, and the sweep if any of it was asked for or is there."""
    known = {*summary["cells"], *summary["missing"]}
    return {
        "5": TABLES["5"],
        "6": TABLES["6"],
        **({"sweep": (OURS, *SWEEP)} if known & set(SWEEP) else {}),
    }
