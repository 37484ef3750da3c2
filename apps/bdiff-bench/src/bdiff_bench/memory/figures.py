"""From records of chunks to figures: means over chunks with intervals over stories, alone and compared."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bdiff_bench.harness.statistics import Draws, StorySums, Trend, draw_with_replacement, interval
from bdiff_bench.memory.arms import RANDOM_PLACE, YARDSTICKS
from bdiff_bench.memory.measures import MEASURES, MODES, Mode

BEYOND, WITHIN, HELD, ALL = "beyond", "within", "held", "all"
"""Groups of chunks by whether a rolling window of the same budget still holds the place.

*Held* are the chunks within whose place was never beyond before. The window then holds the first visit, or chunks that
were made from it.
"""

GROWN = ("palette", "subject")
"""Measures whose growth over a video is reported: errors that are inherited add up."""

GROWTH_FROM = 5
"""The chunk that growth is counted from: before it, few places have been visited twice."""

Record = Mapping[str, Any]
Inside = Callable[[Record], bool]


def trend(records: Iterable[Sequence[Record]], measure: str) -> Trend:
    """The line of a measure over the number of the chunk, from chunk `GROWTH_FROM` on.

    Args:
        records: The records of each story; those without the measure do not count.
        measure: Its name.
    """
    return Trend.of(
        [(r["chunk"], r[measure]) for r in story if r["chunk"] >= GROWTH_FROM and r[measure] is not None]
        for story in records
    )


def growth_distance(num_chunks: int) -> int:
    """Chunks from `GROWTH_FROM` to the last of a video."""
    return num_chunks - 1 - GROWTH_FROM


def summarise(
    lines: Iterable[Record], *, labels: Sequence[str], against: str | None, window: int, num_chunks: int
) -> dict[str, Any]:
    """All figures of a bench.

    Args:
        lines: One for each arm or yardstick, story, seed and mode.
        labels: Arms and yardsticks in the order in which they are shown.
        against: The arm that others are compared with; None compares nothing.
        window: Chunks that a rolling window of the same budget holds.
        num_chunks: Chunks of a video.

    Returns:
        For each mode with lines: ``stories``; ``groups``, by group, measure and label, each a mean with its interval,
        chunks and stories; ``comparisons``, by label; and ``growth`` of the `GROWN` measures, by measure and label.
    """
    kept = list(lines)
    return {
        mode: _mode_figures(of_mode, mode, labels, against, window, num_chunks)
        for mode in MODES
        if (of_mode := [line for line in kept if line["mode"] == mode])
    }


def gap_groups(window: int) -> dict[str, Inside]:
    """Groups of chunks by their gap, shortest first; the first three are within a window.

    Chunks whose previous chunk shows the same place are two groups, by how long the place was away when the visit
    began, because errors made on arrival last for the visit.
    """
    groups: dict[str, Inside] = {
        f"1, after 2-{window}": lambda record: record["gap"] == 1 and record["away"] <= window,
        f"1, after {window + 1}+": lambda record: record["gap"] == 1 and record["away"] > window,
        f"2-{window}": _between("gap", 2, window),
    }
    last = window
    for size in (2, 2, 4):
        groups[f"{last + 1}-{last + size}"] = _between("gap", last + 1, last + size)
        last += size
    return groups | {f"{last + 1}+": _between("gap", last + 1)}


def _mode_figures(
    lines: Sequence[Record], mode: Mode, labels: Sequence[str], against: str | None, window: int, num_chunks: int
) -> dict[str, Any]:
    stories = sorted({line["story"] for line in lines})
    draws = draw_with_replacement(len(stories))
    records = {label: _by_story(lines, label, stories) for label in labels}
    sums = {
        group: {
            measure: {label: _sums(records[label], measure, inside) for label in labels} for measure in MEASURES[mode]
        }
        for group, inside in _groups(window).items()
    }
    compared = {group: measures[MEASURES[mode][0]] for group, measures in sums.items()}
    return {
        "stories": len(stories),
        "groups": {
            group: {measure: _figures(by_label, draws) for measure, by_label in measures.items()}
            for group, measures in sums.items()
        },
        "comparisons": {label: _compare(compared, label, against, draws) for label in labels if label != RANDOM_PLACE},
        "growth": {name: _growth(records, name, num_chunks, draws) for name in MEASURES[mode] if name in GROWN},
    }


def _sums(records: Sequence[Sequence[Record]], measure: str, inside: Inside) -> StorySums:
    return StorySums.of([record[measure] for record in story if inside(record)] for story in records)


def _figures(by_label: Mapping[str, StorySums], draws: Draws) -> dict[str, dict[str, Any]]:
    """The mean of each label that has chunks in a group, with its interval and how many there are."""
    return {
        label: {name: figure[name] for name in ("mean", "low", "high")}
        | {"chunks": int(sums.count.sum()), "stories": figure["stories"]}
        for label, sums in by_label.items()
        if (figure := sums.figure(draws)) is not None
    }


def _growth(
    records: Mapping[str, Sequence[Sequence[Record]]], measure: str, num_chunks: int, draws: Draws
) -> dict[str, Any]:
    """How much a measure rises over a video, by label, where there are chunks to measure it by."""
    return {
        label: figure
        for label, of_label in records.items()
        if label != RANDOM_PLACE
        and (figure := trend(of_label, measure).figure(growth_distance(num_chunks), draws)) is not None
    }


def _by_story(lines: Sequence[Record], label: str, stories: Sequence[int]) -> list[list[Record]]:
    found: dict[int, list[Record]] = {story: [] for story in stories}
    for line in lines:
        if line["arm"] == label:
            found[line["story"]] += _with_longest(line["chunks"])
    return list(found.values())


def _with_longest(video: Sequence[Record]) -> list[Record]:
    """The records of a video, each with the longest gap of its place so far."""
    longest: dict[int, int] = {}
    records: list[Record] = []
    for record in video:
        place = record["place"]
        longest[place] = max(longest.get(place, 0), record["gap"])
        records.append({**record, "longest": longest[place]})
    return records


def _groups(window: int) -> dict[str, Inside]:
    named = {
        BEYOND: _between("gap", window + 1),
        WITHIN: _between("gap", 1, window),
        HELD: _between("longest", 1, window),
        ALL: _between("gap", 1),
    }
    return named | {f"gap {name}": inside for name, inside in gap_groups(window).items()}


def _between(name: str, first: int, last: int | None = None) -> Inside:
    return lambda record: first <= record[name] and (last is None or record[name] <= last)


def _compare(
    sums: Mapping[str, Mapping[str, StorySums]], label: str, against: str | None, draws: Draws
) -> dict[str, Any]:
    """An arm against a random place and against the arm it is compared with, in the mode's first measure."""

    def paired(function: Callable[..., Any], group: str, other: str) -> dict[str, float] | None:
        return interval(function, sums[group][label], sums[group][other], draws=draws)

    found: dict[str, Any] = {
        f"{group}_to_random_place": paired(np.divide, group, RANDOM_PLACE) for group in (BEYOND, WITHIN)
    }
    if against is None or label in (against, *YARDSTICKS):
        return found
    own, its = (sums[BEYOND][name].figure(draws) for name in (label, against))
    disjoint = None
    if own is not None and its is not None and own["stories"] > 1:  # the interval of one story is a point
        disjoint = bool(own["high"] < its["low"] or its["high"] < own["low"])
    return found | {
        "beyond_ratio": paired(np.divide, BEYOND, against),
        "beyond_difference": paired(np.subtract, BEYOND, against),
        "beyond_disjoint": disjoint,
        "within_relative_difference": paired(lambda one, other: one / other - 1, WITHIN, against),
        "within_difference": paired(np.subtract, WITHIN, against),
    }
