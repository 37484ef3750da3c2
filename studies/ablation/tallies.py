"""Sums over the films of a cell, story by story, and their means with intervals over stories."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdiff_bench.memory.figures import Tally, interval

Line = Mapping[str, Any]
"""The figures of a film."""


def tallied(films_of_seeds: Sequence[Sequence[Line]], values: Callable[[Line], Sequence[float | None]]) -> Tally:
    """Sums and counts of each story, seeds together.

    Args:
        films_of_seeds: For each seed the films, story by story.
        values: What a film contributes; None does not count.
    """
    found = [
        [value for film in films for value in values(film) if value is not None]
        for films in zip(*films_of_seeds, strict=True)
    ]
    return Tally(
        total=np.array([math.fsum(story) for story in found]), count=np.array([float(len(story)) for story in found])
    )


def figure(tally: Tally, draws: NDArray[np.int64]) -> dict[str, float] | None:
    """Mean with its interval, and the number of stories that have something to measure; None if none has."""
    found = interval(lambda mean: mean, tally, draws=draws)
    return None if found is None else found | {"stories": int((tally.count > 0).sum())}
