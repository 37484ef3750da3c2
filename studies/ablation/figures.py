"""From the JSON of runs to figures: means with intervals over stories, alone and against each other."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdiff_bench.memory.figures import Tally, draw_stories, interval
from studies.ablation.cells import BASE, BASELINE, CELLS, OURS, SWEEP, TABLES, TRUTH
from studies.ablation.films import DRIFTS
from studies.ablation.questions import answers
from studies.ablation.tallies import Line, figure, tallied


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One column of the tables."""

    title: str
    values: Callable[[Line, int], Sequence[float | None]]
    """``values(line, window)``: what a film contributes; the mean is over all contributions."""
    less_is_better: bool = True


def _drift(metric: str) -> Measure:
    return Measure(title=f"VDE {metric}", values=lambda line, window: [line["drift"][metric]["vde"]])


def _away(name: str, field: str, *, beyond: bool) -> Callable[[Line, int], Sequence[float | None]]:
    return lambda line, window: [record[field] for record in line[name] if (record["gap"] > window) == beyond]


def _as_told(title: str, name: str) -> Measure:
    return Measure(title=title, values=lambda line, window: [line["captions"][name]], less_is_better=False)


MEASURES: dict[str, Measure] = {
    **{metric: _drift(metric) for metric in DRIFTS},
    "recall": Measure(title="recall error", values=_away("recall", "colour", beyond=True)),
    "recall_within": Measure(title="recall error within", values=_away("recall", "colour", beyond=False)),
    "palette": Measure(title="palette distance", values=_away("palette", "palette", beyond=True)),
    "visible": _as_told("protagonist seen", "visible"),
    "direction": _as_told("direction as told", "direction"),
    "place": _as_told("place as before", "place"),
}
"""What is measured, in the order of the tables."""

AGAINST = {OURS: "against_ours", BASE: "against_base"}
"""Cells that every other is compared with, and how a summary names the differences."""

FORMAT = 3
"""Of a summary; others have other figures."""

CLAIMED = ("subject", "background", "clarity", "recall")
"""Measures in which `OURS` is claimed to be below `BASELINE`, with intervals that do not meet."""


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The JSON of every run in a folder of an ablation.

    Raises:
        ValueError: If a file is not what the bench wrote.
    """
    return [read_run(file) for file in sorted((folder / "results").glob("*.json"))]


def read_run(file: Path) -> dict[str, Any]:
    """The JSON of one run.

    Raises:
        ValueError: If the file is not what the bench wrote.
    """
    try:
        run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        run["cell"]["label"], run["seed"], run["config"], run["commit"], run["machine"]
        [(film["story"], film["new_place"]) for film in run["films"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not a run of this version of studies.ablation ({error!r}); remove it") from None
    return run


def holds_stories(file: Path, stories: Sequence[int]) -> bool:
    """Whether the JSON of a run is there and has a film of each of these stories."""
    return file.exists() and {film["story"] for film in read_run(file)["films"]}.issuperset(stories)


def origins(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where runs were made: ``machines``, each once, and ``commits``, those of trainings too."""
    machines = {json.dumps(run["machine"], sort_keys=True): run["machine"] for run in runs}
    commits = {facts["commit"] for run in runs for facts in (run, run["training"]) if facts}
    return {"machines": [machines[key] for key in sorted(machines)], "commits": sorted(commits - {None})}


def check_format(summary: Mapping[str, Any], file: Path) -> None:
    """See that a summary is of this version.

    Raises:
        ValueError: If it is of an older one.
    """
    if {"cells", "claim"} <= set(summary) and summary.get("format") != FORMAT:
        raise ValueError(
            f"{file}: a summary of an older version; run `python -m studies.ablation` on its folder "
            f"({file.parent}) again"
        )


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
        wanted: Labels of the cells that were asked for.

    Returns:
        ``cells``, by label figures and curves; ``claim``, what became of it; ``forgetting``, what `forgetting` says of
        the true films, if they are there; ``questions``, see `answers`;
        ``missing``, by label the seeds that have not told every story yet, of the cells asked for and of those that
        have begun.
    """
    complete: dict[str, dict[int, list[Line]]] = {}
    facts: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        lines = {line["story"]: line for line in run["films"]}
        label, seed = run["cell"]["label"], run["seed"]
        if (seed in seeds or label == TRUTH) and all(story in lines for story in stories):
            complete.setdefault(label, {})[seed] = [lines[story] for story in stories]
            facts.setdefault(label, []).append(run)
    draws = draw_stories(len(stories))
    cells = {
        label: _cell(complete[label], facts[label], draws, window) for label in [*CELLS, TRUTH] if label in complete
    }
    for label, cell in cells.items():
        for other, name in AGAINST.items():
            if other in cells and label not in (other, TRUTH):
                cell[name] = _against(complete[label], complete[other], draws, window)
    missing = {label: [seed for seed in seeds if seed not in complete.get(label, {})] for label in wanted}
    missing |= {label: [seed for seed in seeds if seed not in complete[label]] for label in cells if label != TRUTH}
    return {
        "format": FORMAT,
        "stories": len(stories),
        "seeds": list(seeds),
        "window": window,
        "cells": cells,
        "questions": answers(
            {label: complete[label] for label in cells},
            {name: _values(name, window) for name in CLAIMED},
            draws,
            window,
        ),
        "claim": claim(complete, draws, window),
        "forgetting": forgetting(complete.get(TRUTH, {}), draws, window),
        "missing": {label: absent for label, absent in missing.items() if absent},
    }


def claim(
    complete: Mapping[str, Mapping[int, Sequence[Line]]], draws: NDArray[np.int64], window: int
) -> dict[str, Any]:
    """Whether `OURS` drifts less and recalls better than `BASELINE`, on the seeds that both have.

    Returns:
        ``seeds``; ``missing``, the cells without a run; ``measures``, by name both figures, their paired difference
        and ``verdict``: ``below`` and ``above`` if the intervals do not meet, ``overlap``, or ``unmeasured``;
        ``holds``, None where cells are missing.
    """
    seeds = sorted(set(complete.get(OURS, ())) & set(complete.get(BASELINE, ())))
    if not seeds:
        absent = [label for label in (OURS, BASELINE) if not complete.get(label)]
        return {"seeds": [], "missing": absent, "measures": {}, "holds": None}
    found = {}
    for name in CLAIMED:
        ours, theirs = (tally([complete[label][s] for s in seeds], name, window) for label in (OURS, BASELINE))
        one, other = figure(ours, draws), figure(theirs, draws)
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


def forgetting(true: Mapping[int, Sequence[Line]], draws: NDArray[np.int64], window: int) -> dict[str, dict[str, Any]]:
    """What each measure sees of forgetting alone: true films against themselves with every return elsewhere.

    Returns:
        By name of a measure both figures (``true``, ``forgetful``) and their paired ``difference``; empty if the lines
        of the true films are of a version that has no forgetful ones.
    """
    films = list(true.values())
    if not films or not all("forgetful" in line for lines in films for line in lines):
        return {}
    forgetful = [[line["forgetful"] for line in lines] for lines in films]
    found = {}
    for name in MEASURES:
        one, other = tally(films, name, window), tally(forgetful, name, window)
        difference = interval(np.subtract, other, one, draws=draws)
        found[name] = {"true": figure(one, draws), "forgetful": figure(other, draws), "difference": difference}
    return found


def verdict(ours: Mapping[str, float] | None, theirs: Mapping[str, float] | None) -> str:
    """How two intervals lie; one story, whose interval is a point, decides nothing."""
    if ours is None or theirs is None or min(ours["stories"], theirs["stories"]) < 2:
        return "unmeasured"
    if ours["high"] < theirs["low"]:
        return "below"
    return "above" if theirs["high"] < ours["low"] else "overlap"


def tally(films_of_seeds: Sequence[Sequence[Line]], name: str, window: int) -> Tally:
    """A measure of a cell: sums and counts of each story, seeds together.

    Args:
        films_of_seeds: For each seed the films, story by story.
        name: Key of `MEASURES`.
        window: Chunks that a rolling window holds.
    """
    return tallied(films_of_seeds, _values(name, window))


def _values(name: str, window: int) -> Callable[[Line], Sequence[float | None]]:
    return lambda line: MEASURES[name].values(line, window)


def _cell(
    films: Mapping[int, Sequence[Line]], runs: Sequence[Mapping[str, Any]], draws: NDArray[np.int64], window: int
) -> dict[str, Any]:
    seeds = sorted(films)
    lines = [line for seed in seeds for line in films[seed]]
    measures = {}
    for name in MEASURES:
        found = figure(tally([films[seed] for seed in seeds], name, window), draws)
        if found is not None:
            alone = [figure(tally([films[seed]], name, window), draws) for seed in seeds]
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
        "tokens": _mean([line["tokens"] for line in lines]),
        "kept": _means([line["kept"] for line in lines if line["kept"] is not None]) or None,
        "held_out_loss": _mean([facts["held_out_loss"] for facts in trained]),
        "training_seconds": _mean([facts["seconds"] for facts in trained]),
        "film_seconds": _mean([one["free"] + one["given"] + one["measuring"] for one in seconds]),
    }


def _against(
    one: Mapping[int, Sequence[Line]], other: Mapping[int, Sequence[Line]], draws: NDArray[np.int64], window: int
) -> dict[str, Any]:
    """Paired differences, on the seeds that both have."""
    seeds = sorted(set(one) & set(other))
    if not seeds:
        return {}
    tallies = {name: [tally([films[s] for s in seeds], name, window) for films in (one, other)] for name in MEASURES}
    return {name: interval(np.subtract, *pair, draws=draws) for name, pair in tallies.items()}


def _means(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [_mean(column) for column in zip(*rows, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def tables_of(summary: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Tables of a page and their cells: 5 and 6 always, the sweep if any of it was asked for or is there."""
    known = {*summary["cells"], *summary["missing"]}
    return {
        "5": TABLES["5"],
        "6": TABLES["6"],
        **({"sweep": (OURS, *SWEEP)} if known & set(SWEEP) else {}),
    }
