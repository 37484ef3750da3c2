"""From records of chunks to figures: means over chunks with intervals over stories, alone and against each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdiff_bench.memory.arms import RANDOM_PLACE, YARDSTICKS
from bdiff_bench.memory.measures import MEASURES, MODES, Mode

NUM_DRAWS = 4000
"""Bootstrap samples."""

BEYOND, WITHIN, HELD, ALL = "beyond", "within", "held", "all"
"""Groups of chunks by whether a rolling window of the same budget still holds the place. *Held* are those within whose
place was never beyond before: what the window holds is then the first visit, or was made from it."""

GROWN = ("palette", "subject")
"""Measures that are looked at over the length of a film: an error that is inherited and added to grows."""

GROWTH_FROM = 5
"""Chunk from which they are: before it films have hardly begun to return."""

Record = Mapping[str, Any]
Inside = Callable[[Record], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """One measure of one arm in one group of chunks: sums and counts of the stories."""

    total: NDArray[np.float64]
    """[stories] sum over the story's chunks, seeds together."""
    count: NDArray[np.float64]
    """[stories] how many there are."""

    @classmethod
    def of(cls, records: Sequence[Sequence[Record]], measure: str, inside: Inside) -> "Tally":
        """Add up the records of each story that are in a group and hold the measure."""
        values = [[r[measure] for r in story if inside(r) and r[measure] is not None] for story in records]
        return cls(total=np.array([sum(v) for v in values]), count=np.array([float(len(v)) for v in values]))

    def mean(self, draws: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Mean over chunks: of all stories, or one for each row of ``draws``, which are stories drawn with replacement.

        A draw without any chunk of the group gives nan.
        """
        total = self.total.sum() if draws is None else self.total[draws].sum(1)
        count = self.count.sum() if draws is None else self.count[draws].sum(1)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """One measure of one arm over the length of a film: a straight line through the chunks of all stories."""

    moments: NDArray[np.float64]
    """[5, stories] sums over a story's chunks of 1, chunk, chunk squared, measure, and chunk times measure."""

    @classmethod
    def of(cls, records: Sequence[Sequence[Record]], measure: str) -> "Trend":
        """Add up the records from chunk `GROWTH_FROM` on that hold the measure."""
        sums = []
        for story in records:
            there = [r for r in story if r["chunk"] >= GROWTH_FROM and r[measure] is not None]
            chunk, value = (np.array([r[name] for r in there], dtype=np.float64) for name in ("chunk", measure))
            sums.append([len(there), chunk.sum(), (chunk**2).sum(), value.sum(), (chunk * value).sum()])
        return cls(moments=np.array(sums).T)

    def growth(self, num_chunks: int, draws: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Rise of the line from chunk `GROWTH_FROM` to the last of ``num_chunks``; draws as in `Tally.mean`.

        nan without chunks of two different numbers.
        """
        summed = self.moments.sum(1) if draws is None else self.moments[:, draws].sum(2)
        count, chunk, square, value, product = summed
        spread = count * square - chunk**2  # whole numbers, so exactly 0 where there is no line
        slope = (count * product - chunk * value) / np.where(spread > 0, spread, np.nan)
        return np.asarray(slope * (num_chunks - 1 - GROWTH_FROM))

    def figure(
        self, num_chunks: int, draws: NDArray[np.int64], *, beyond: "Trend | None" = None
    ) -> dict[str, float] | None:
        """`growth` with its bootstrap 95% interval; None where there are no chunks to tell it by.

        Args:
            num_chunks: Of a film.
            draws: See `draw_stories`.
            beyond: Of other films of the same stories, whose growth is taken off, story by story.
        """

        def rise(*drawn: NDArray[np.int64]) -> NDArray[np.float64]:
            own = self.growth(num_chunks, *drawn)
            return own if beyond is None else own - beyond.growth(num_chunks, *drawn)

        mean = float(rise())
        if not np.isfinite(mean):
            return None
        low, high = _quantiles(rise(draws))
        return {"mean": mean, "low": low, "high": high}


def draw_stories(num_stories: int) -> NDArray[np.int64]:
    """[draws, stories] whole stories drawn with replacement; the same for all arms, so that differences are paired."""
    return np.random.default_rng(0).integers(num_stories, size=(NUM_DRAWS, num_stories))


def interval(
    function: Callable[..., NDArray[np.float64]], *tallies: Tally, draws: NDArray[np.int64]
) -> dict[str, float] | None:
    """A function of means with its bootstrap 95% interval; None if there is nothing to take a mean of.

    Args:
        function: Of as many means as there are tallies.
        tallies: Of the same stories.
        draws: See `draw_stories`.
    """
    if any(tally.count.sum() == 0 for tally in tallies):
        return None
    values = function(*(tally.mean(draws) for tally in tallies))
    low, high = _quantiles(values)
    return {"mean": float(function(*(tally.mean() for tally in tallies))), "low": low, "high": high}


def summarise(
    lines: Iterable[Record], *, labels: Sequence[str], against: str | None, window: int, num_chunks: int
) -> dict[str, Any]:
    """All figures of a bench.

    Args:
        lines: One for each arm or yardstick, story, seed and mode.
        labels: Arms and yardsticks in the order in which they are shown.
        against: The arm that others are compared with; None compares nothing.
        window: Chunks that a rolling window of the same budget holds.
        num_chunks: Chunks of a film.

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

    The chunks right after one that shows the same place are two groups, by how long the place was away when the visit
    began: what went wrong on arrival goes on.
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
    draws = draw_stories(len(stories))
    records = {label: _by_story(lines, label, stories) for label in labels}
    groups = _groups(window)
    tallies = {
        group: {
            measure: {label: Tally.of(records[label], measure, inside) for label in labels}
            for measure in MEASURES[mode]
        }
        for group, inside in groups.items()
    }
    compared = {group: measures[MEASURES[mode][0]] for group, measures in tallies.items()}
    return {
        "stories": len(stories),
        "groups": {
            group: {
                measure: {label: _figure(tally, draws) for label, tally in by_label.items() if tally.count.sum()}
                for measure, by_label in measures.items()
            }
            for group, measures in tallies.items()
        },
        "comparisons": {label: _compare(compared, label, against, draws) for label in labels if label != RANDOM_PLACE},
        "growth": {name: _growth(records, name, num_chunks, draws) for name in MEASURES[mode] if name in GROWN},
    }


def _growth(
    records: Mapping[str, Sequence[Sequence[Record]]], measure: str, num_chunks: int, draws: NDArray[np.int64]
) -> dict[str, Any]:
    """How much a measure rises over a film, by label, where there are chunks to tell it by."""
    found = {}
    for label, of_label in records.items():
        if label == RANDOM_PLACE:
            continue
        if (figure := Trend.of(of_label, measure).figure(num_chunks, draws)) is not None:
            found[label] = figure
    return found


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of a bootstrap 95% interval."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


def _by_story(lines: Sequence[Record], label: str, stories: Sequence[int]) -> list[list[Record]]:
    found: dict[int, list[Record]] = {story: [] for story in stories}
    for line in lines:
        if line["arm"] == label:
            found[line["story"]] += _with_longest(line["chunks"])
    return list(found.values())


def _with_longest(film: Sequence[Record]) -> list[Record]:
    """The records of a film, each with the longest gap of its place so far."""
    longest: dict[int, int] = {}
    records: list[Record] = []
    for record in film:
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


def _figure(tally: Tally, draws: NDArray[np.int64]) -> dict[str, Any]:
    sizes = {"chunks": int(tally.count.sum()), "stories": int((tally.count > 0).sum())}
    return interval(lambda mean: mean, tally, draws=draws) | sizes


def _compare(
    tallies: Mapping[str, Mapping[str, Tally]], label: str, against: str | None, draws: NDArray[np.int64]
) -> dict[str, Any]:
    """An arm beside a random place and the arm it is compared with, in the mode's first measure."""

    def paired(function: Callable[..., Any], group: str, other: str) -> dict[str, float] | None:
        return interval(function, tallies[group][label], tallies[group][other], draws=draws)

    def ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        return one / other

    found: dict[str, Any] = {
        f"{group}_to_random_place": paired(ratio, group, RANDOM_PLACE) for group in (BEYOND, WITHIN)
    }
    if against is None or label in (against, *YARDSTICKS):
        return found
    own, its = (interval(lambda mean: mean, tallies[BEYOND][name], draws=draws) for name in (label, against))
    several = (tallies[BEYOND][label].count > 0).sum() > 1  # the interval of one story is a point
    return found | {
        "beyond_ratio": paired(ratio, BEYOND, against),
        "beyond_difference": paired(np.subtract, BEYOND, against),
        "beyond_disjoint": bool(own["high"] < its["low"] or its["high"] < own["low"]) if several else None,
        "within_relative_difference": paired(lambda one, other: one / other - 1, WITHIN, against),
        "within_difference": paired(np.subtract, WITHIN, against),
    }
