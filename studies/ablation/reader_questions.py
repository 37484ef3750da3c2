"""Figures for questions that readers ask: cache or losses, tokens and time, early and late chunks, new places."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bdiff_bench.harness import Draws, StorySums, interval
from studies.ablation.configurations import BASELINE, OURS, TRUTH
from studies.ablation.videos import DRIFTS

Line = Mapping[str, Any]
"""The figures of the videos of one story."""
Complete = Mapping[str, Mapping[int, Sequence[Line]]]
"""Lines by label and seed, story by story."""
ByChunk = list[tuple[int, float | None]]
"""Numbers of chunks, and a value of each."""

CACHE, LOSSES = "self-forcing", "rolling"
"""`BASELINE` with the cache of `OURS` alone, and with its losses alone."""

SWAPS = {
    "cache_in": (CACHE, BASELINE),
    "losses_in": (LOSSES, BASELINE),
    "cache_out": (LOSSES, OURS),
    "losses_out": (CACHE, OURS),
    "cache_against_losses": (CACHE, LOSSES),
}
"""Pairs of configurations that differ by one swap; the last pair compares the two swaps."""

ALL_TOKENS = "rolling"
"""The configuration that is shown all tokens of as many chunks as the sparse ones."""
SPARSE = ("dynamic-0.97", "dynamic-0.98", "semantic-0.97", OURS)
"""Configurations that are shown only the tokens that cover a share of the attention."""

PHASES = ("early", "middle", "late")
"""Thirds of a video after its first chunk, which is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkMeasure:
    """A measure that is followed over the chunks of a video."""

    title: str
    """Its name on pages."""
    values: Callable[[Line, int], ByChunk]
    """``values(line, window)`` gives the chunks and their values."""


def _changes(metric: str) -> ChunkMeasure:
    return ChunkMeasure(
        title=f"{metric}: change against the first chunk",
        values=lambda line, window: list(enumerate(line["drift"][metric]["changes"])),
    )


def _captions(title: str, name: str) -> ChunkMeasure:
    return ChunkMeasure(title=title, values=lambda line, window: list(enumerate(line["captions"][name])))


_AS_PROMPTED = {
    "visible": _captions("protagonist seen", "visible_by_chunk"),
    "direction": _captions("direction as prompted", "direction_by_chunk"),
}

CHUNK_MEASURES: dict[str, ChunkMeasure] = {
    **{metric: _changes(metric) for metric in DRIFTS},
    "recall": ChunkMeasure(
        title="recall error",
        values=lambda line, window: [(r["chunk"], r["colour"]) for r in line["recall"] if r["gap"] > window],
    ),
    **_AS_PROMPTED,
}
"""Measures by chunk, in the order of the page."""

PLACE_MEASURES = tuple(_AS_PROMPTED)
"""Names of those that are compared between new places and returns."""


def answers(
    complete: Complete,
    measures: Mapping[str, Callable[[Line], Sequence[float | None]]],
    draws: Draws,
    window: int,
) -> dict[str, Any]:
    """The figures of the questions, for the configurations that are there.

    Args:
        complete: Lines of the runs that have sampled every story.
        measures: Measures of the swaps: a function that gives the values of a line.
        draws: See `draw_with_replacement`.
        window: Chunks that a rolling window holds.

    Returns:
        ``swaps``, by key of `SWAPS` and measure; ``seconds``, by sparse configuration against `ALL_TOKENS`; ``phases``,
        by label and chunk measure the means of each phase and the ``rise`` from the first to the last;
        ``phases_against``, by chunk measure and phase `OURS` against `BASELINE`; ``places``, by label and measure the
        means of ``new`` and ``returns`` and their ``difference``. Differences are paired; what cannot be measured is
        absent or None.
    """
    pair = _Pairs(complete=complete, draws=draws)
    chunks = {name: measure.values for name, measure in CHUNK_MEASURES.items()}
    return {
        "swaps": {
            swap: {name: pair.difference(*both, values) for name, values in measures.items()}
            for swap, both in SWAPS.items()
            if pair.seeds(*both)
        },
        "seconds": {label: _seconds(pair, label) for label in SPARSE if pair.seeds(label, ALL_TOKENS)},
        "phases": {
            label: {name: _phases(_by_seed(videos), values, draws, window) for name, values in chunks.items()}
            for label, videos in complete.items()
        },
        "phases_against": {
            name: {
                phase: pair.difference(OURS, BASELINE, _in_phase(values, phase, window))
                for phase in PHASES
                if pair.seeds(OURS, BASELINE)
            }
            for name, values in chunks.items()
        },
        "places": {
            label: {name: _places(_by_seed(videos), chunks[name], draws, window) for name in PLACE_MEASURES}
            for label, videos in complete.items()
        },
    }


def sums_by_story(
    videos_of_seeds: Sequence[Sequence[Line]], values: Callable[[Line], Sequence[float | None]]
) -> StorySums:
    """Sums and counts of each story, seeds together.

    Args:
        videos_of_seeds: For each seed the lines, story by story.
        values: Gives the values of a line; None does not count.
    """
    return StorySums.of(
        [value for line in lines for value in values(line)] for lines in zip(*videos_of_seeds, strict=True)
    )


def phase_chunks(num_chunks: int) -> dict[str, list[int]]:
    """The chunks of each phase of a video."""
    return {
        phase: part.tolist()
        for phase, part in zip(PHASES, np.array_split(np.arange(1, num_chunks), len(PHASES)), strict=True)
    }


def compared_configurations(there: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The configurations that are shown chunk by chunk: those of the claim and the truth, or else the first two."""
    return [label for label in (OURS, BASELINE, TRUTH) if label in there] or list(there)[:2]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pairs:
    """Comparisons of two configurations on the seeds that both have."""

    complete: Complete
    draws: Draws

    def seeds(self, one: str, other: str) -> list[int]:
        return sorted(set(self.complete.get(one, ())) & set(self.complete.get(other, ())))

    def compare(
        self,
        function: Callable[..., Any],
        one: str,
        other: str,
        values: Callable[[Line], Sequence[float | None]],
        seeds: Sequence[int],
    ) -> dict[str, float] | None:
        sums = (sums_by_story([self.complete[label][seed] for seed in seeds], values) for label in (one, other))
        return interval(function, *sums, draws=self.draws)

    def difference(
        self, one: str, other: str, values: Callable[[Line], Sequence[float | None]]
    ) -> dict[str, float] | None:
        return self.compare(np.subtract, one, other, values, self.seeds(one, other))


def _by_seed(videos: Mapping[int, Sequence[Line]]) -> list[Sequence[Line]]:
    return [videos[seed] for seed in sorted(videos)]


def _seconds(pair: _Pairs, label: str) -> dict[str, float] | None:
    """Seconds of a free video over those with all tokens, on seeds whose videos were sampled in turns.

    Otherwise the machine may have done other work in between.
    """
    lines = pair.complete
    seeds = [s for s in pair.seeds(label, ALL_TOKENS) if _sampled_in_turns(lines[label][s], lines[ALL_TOKENS][s])]
    if not seeds:
        return None
    return pair.compare(np.divide, label, ALL_TOKENS, lambda line: [line["seconds"]["free"]], seeds)


def _sampled_in_turns(one: Sequence[Line], other: Sequence[Line]) -> bool:
    """Whether the same call sampled each story for both; lines of older versions do not name the call."""
    return all(a.get("call") is not None and a["call"] == b.get("call") for a, b in zip(one, other, strict=True))


def _in_phase(
    values: Callable[[Line, int], ByChunk], phase: str, window: int
) -> Callable[[Line], Sequence[float | None]]:
    def found(line: Line) -> list[float | None]:
        inside = phase_chunks(len(line["new_place"]))[phase]
        return [value for chunk, value in values(line, window) if chunk in inside]

    return found


def _phases(
    videos: Sequence[Sequence[Line]], values: Callable[[Line, int], ByChunk], draws: Draws, window: int
) -> dict[str, Any]:
    sums = {phase: sums_by_story(videos, _in_phase(values, phase, window)) for phase in PHASES}
    means: dict[str, Any] = {phase: one.figure(draws) for phase, one in sums.items()}
    return means | {"rise": interval(np.subtract, sums[PHASES[-1]], sums[PHASES[0]], draws=draws)}


def _places(
    videos: Sequence[Sequence[Line]], values: Callable[[Line, int], ByChunk], draws: Draws, window: int
) -> dict[str, Any]:
    """Compare new places with returns; the first chunk, which is given, is in neither group."""

    def where(new: bool) -> Callable[[Line], Sequence[float | None]]:
        return lambda line: [
            value for chunk, value in values(line, window) if chunk > 0 and line["new_place"][chunk] == new
        ]

    new, returns = (sums_by_story(videos, where(is_new)) for is_new in (True, False))
    return {
        "new": new.figure(draws),
        "returns": returns.figure(draws),
        "difference": interval(np.subtract, new, returns, draws=draws),
    }
