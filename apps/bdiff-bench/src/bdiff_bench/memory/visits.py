"""Visits to places: which chunks are returns, and how long a place was away."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """A chunk of a later visit to a place."""

    chunk: int
    place: int
    gap: int
    """Chunks since the place was last seen; 1 if the chunk before shows it."""
    away: int
    """The gap when this visit began."""


def first_visits(places: Sequence[int]) -> dict[int, range]:
    """The chunks of the first stay at each place, by place.

    Args:
        places: Place of each chunk. A visit is a run of chunks at one place.
    """
    first: dict[int, range] = {}
    for place, visit in _visits(places):
        first.setdefault(place, visit)
    return first


def returns(places: Sequence[int]) -> list[Return]:
    """The chunks of all visits but the first ones, in order."""
    last: dict[int, int] = {}
    found = []
    for place, visit in _visits(places):
        if place in last:
            away = visit.start - last[place]
            found += [Return(chunk=c, place=place, gap=1 if c > visit.start else away, away=away) for c in visit]
        last[place] = visit.stop - 1
    return found


def _visits(places: Sequence[int]) -> list[tuple[int, range]]:
    runs = [list(run) for _, run in groupby(range(len(places)), key=places.__getitem__)]
    return [(places[run[0]], range(run[0], run[-1] + 1)) for run in runs]
