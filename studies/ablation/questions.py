"""Figures that answer one question each: cache or losses, tokens and time, early and late chunks, new places."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdiff_bench.memory.figures import interval
from studies.ablation.cells import BASELINE, OURS, TRUTH
from studies.ablation.films import DRIFTS
from studies.ablation.tallies import Line, figure, tallied

Complete = Mapping[str, Mapping[int, Sequence[Line]]]
"""Films by label and seed, story by story."""
ByChunk = list[tuple[int, float | None]]

CACHE, LOSSES = "self-forcing", "rolling"
"""`BASELINE` with the cache of `OURS` alone, and with its losses alone."""

SWAPS = {
    "cache_in": (CACHE, BASELINE),
    "losses_in": (LOSSES, BASELINE),
    "cache_out": (LOSSES, OURS),
    "losses_out": (CACHE, OURS),
    "cache_against_losses": (CACHE, LOSSES),
}
"""Cells whose paired difference says what one swap does; the last says which swap alone gives less."""

ALL_TOKENS = "rolling"
"""The cell that is shown all tokens of as many chunks as the sparse ones."""
SPARSE = ("dynamic-0.97", "dynamic-0.98", "semantic-0.97", OURS)
"""Cells that are shown those tokens alone that cover a share of the attention."""

PHASES = ("early", "middle", "late")
"""Thirds of a film after its first chunk, which is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkMeasure:
    """What is followed over the chunks of a film."""

    title: str
    values: Callable[[Line, int], ByChunk]
    """``values(line, window)``: chunks and what each contributes."""


def _changes(metric: str) -> ChunkMeasure:
    return ChunkMeasure(
        title=f"{metric}: change against the first chunk",
        values=lambda line, window: list(enumerate(line["drift"][metric]["changes"])),
    )


def _captions(title: str, name: str) -> ChunkMeasure:
    return ChunkMeasure(title=title, values=lambda line, window: list(enumerate(line["captions"][name])))


_AS_TOLD = {
    "visible": _captions("protagonist seen", "visible_by_chunk"),
    "direction": _captions("direction as told", "direction_by_chunk"),
}

CHUNK_MEASURES: dict[str, ChunkMeasure] = {
    **{metric: _changes(metric) for metric in DRIFTS},
    "recall": ChunkMeasure(
        title="recall error",
        values=lambda line, window: [(r["chunk"], r["colour"]) for r in line["recall"] if r["gap"] > window],
    ),
    **_AS_TOLD,
}
"""What is followed over a film, in the order of the page."""

PLACE_MEASURES = tuple(_AS_TOLD)
"""Names of those that are told apart by whether a chunk's place is new."""


def answers(
    complete: Complete,
    measures: Mapping[str, Callable[[Line], Sequence[float | None]]],
    draws: NDArray[np.int64],
    window: int,
) -> dict[str, Any]:
    """The figures of the questions, of the cells that are there.

    Args:
        complete: Films of the runs that have told every story.
        measures: Those by which cells are swapped: what a film contributes.
        draws: See `draw_stories`.
        window: Chunks that a rolling window holds.

    Returns:
        ``swaps``, by key of `SWAPS` and measure; ``seconds``, by sparse cell against `ALL_TOKENS`; ``phases``, by label
        and chunk measure the means of each phase and the ``rise`` from the first to the last; ``phases_against``, by
        chunk measure and phase `OURS` against `BASELINE`; ``places``, by label and measure the means of ``new`` and
        ``returns`` and their ``difference``. Differences are paired; what cannot be measured is absent or None.
    """
    pair = _Pairs(complete=complete, draws=draws)
    chunks = {name: measure.values for name, measure in CHUNK_MEASURES.items()}
    return {
        "swaps": {
            swap: {name: pair.difference(*cells, values) for name, values in measures.items()}
            for swap, cells in SWAPS.items()
            if pair.seeds(*cells)
        },
        "seconds": {label: _seconds(pair, label) for label in SPARSE if pair.seeds(label, ALL_TOKENS)},
        "phases": {
            label: {name: _phases(_of(films), values, draws, window) for name, values in chunks.items()}
            for label, films in complete.items()
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
            label: {name: _places(_of(films), chunks[name], draws, window) for name in PLACE_MEASURES}
            for label, films in complete.items()
        },
    }


def phase_chunks(num_chunks: int) -> dict[str, list[int]]:
    """The chunks of each phase of a film."""
    return {
        phase: part.tolist()
        for phase, part in zip(PHASES, np.array_split(np.arange(1, num_chunks), len(PHASES)), strict=True)
    }


def compared_cells(there: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The cells that are looked at chunk by chunk: those that the claim compares and the truth, or else the first."""
    return [label for label in (OURS, BASELINE, TRUTH) if label in there] or list(there)[:2]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pairs:
    """Two cells on the seeds that both have."""

    complete: Complete
    draws: NDArray[np.int64]

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
        tallies = (tallied([self.complete[label][seed] for seed in seeds], values) for label in (one, other))
        return interval(function, *tallies, draws=self.draws)

    def difference(
        self, one: str, other: str, values: Callable[[Line], Sequence[float | None]]
    ) -> dict[str, float] | None:
        return self.compare(np.subtract, one, other, values, self.seeds(one, other))


def _of(films: Mapping[int, Sequence[Line]]) -> list[Sequence[Line]]:
    return [films[seed] for seed in sorted(films)]


def _seconds(pair: _Pairs, label: str) -> dict[str, float] | None:
    """Seconds of a free film as a multiple of those with all tokens, on seeds whose films were told in turns.

    At another time the same machine had other things to do.
    """
    films = pair.complete
    seeds = [s for s in pair.seeds(label, ALL_TOKENS) if _told_in_turns(films[label][s], films[ALL_TOKENS][s])]
    if not seeds:
        return None
    return pair.compare(np.divide, label, ALL_TOKENS, lambda line: [line["seconds"]["free"]], seeds)


def _told_in_turns(one: Sequence[Line], other: Sequence[Line]) -> bool:
    """Whether the same call told the same stories for both; lines of older versions do not say which call it was."""
    return all(a.get("call") is not None and a["call"] == b.get("call") for a, b in zip(one, other, strict=True))


def _in_phase(
    values: Callable[[Line, int], ByChunk], phase: str, window: int
) -> Callable[[Line], Sequence[float | None]]:
    def found(line: Line) -> list[float | None]:
        inside = phase_chunks(len(line["new_place"]))[phase]
        return [value for chunk, value in values(line, window) if chunk in inside]

    return found


def _phases(
    films: Sequence[Sequence[Line]], values: Callable[[Line, int], ByChunk], draws: NDArray[np.int64], window: int
) -> dict[str, Any]:
    tallies = {phase: tallied(films, _in_phase(values, phase, window)) for phase in PHASES}
    means = {phase: figure(tally, draws) for phase, tally in tallies.items()}
    return means | {"rise": interval(np.subtract, tallies[PHASES[-1]], tallies[PHASES[0]], draws=draws)}


def _places(
    films: Sequence[Sequence[Line]], values: Callable[[Line, int], ByChunk], draws: NDArray[np.int64], window: int
) -> dict[str, Any]:
    """The first chunk, which is given, is in neither group."""

    def where(new: bool) -> Callable[[Line], Sequence[float | None]]:
        return lambda line: [
            value for chunk, value in values(line, window) if chunk > 0 and line["new_place"][chunk] == new
        ]

    new, returns = (tallied(films, where(is_new)) for is_new in (True, False))
    return {
        "new": figure(new, draws),
        "returns": figure(returns, draws),
        "difference": interval(np.subtract, new, returns, draws=draws),
    }
