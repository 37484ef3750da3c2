"""Means, intervals, quartiles and growth: the one place where benches and studies compute them.

Intervals are bootstrap intervals of 95%. Quantiles are interpolated linearly between the two nearest values, which is
also the default of `numpy.quantile`.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 4_000
"""Bootstrap samples of an interval."""

_ENDS = (0.025, 0.975)

Draws = NDArray[np.int64]
"""[draws, stories] numbers of stories drawn with replacement, see `draw_with_replacement`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StorySums:
    """Sums and counts of one measure, story by story: enough for the mean over any choice of stories."""

    total: NDArray[np.float64]
    """[stories] sum of a story's values."""
    count: NDArray[np.float64]
    """[stories] how many values a story has."""

    @classmethod
    def of(cls, values_by_story: Iterable[Iterable[float | None]]) -> "StorySums":
        """Add up the values of each story; None does not count."""
        known = [[value for value in values if value is not None] for values in values_by_story]
        return cls(
            total=np.array([math.fsum(values) for values in known]),
            count=np.array([float(len(values)) for values in known]),
        )

    def mean(self, draws: Draws | None = None) -> NDArray[np.float64]:
        """Mean over values: of all stories, or one mean for each row of ``draws``.

        A draw whose stories have no value gives nan.
        """
        total = self.total.sum() if draws is None else self.total[draws].sum(1)
        count = self.count.sum() if draws is None else self.count[draws].sum(1)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / count)

    def figure(self, draws: Draws) -> dict[str, Any] | None:
        """The mean with its interval, and ``stories``, the number of stories that have values; None without values."""
        found = interval(lambda mean: mean, self, draws=draws)
        return None if found is None else found | {"stories": int((self.count > 0).sum())}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """A straight line through the points of all stories, by least squares."""

    moments: NDArray[np.float64]
    """[5, stories] sums over a story's points of 1, x, x squared, y, and x times y."""

    @classmethod
    def of(cls, points_by_story: Iterable[Iterable[tuple[float, float]]]) -> "Trend":
        """Add up the points (x, y) of each story."""
        sums = []
        for points in points_by_story:
            kept = list(points)
            x, y = (np.array([point[axis] for point in kept], dtype=np.float64) for axis in (0, 1))
            sums.append([len(kept), x.sum(), (x**2).sum(), y.sum(), (x * y).sum()])
        return cls(moments=np.array(sums).T)

    def rise(self, distance: float, draws: Draws | None = None) -> NDArray[np.float64]:
        """How much the line rises over a distance; draws as in `StorySums.mean`.

        nan where there are no points at two different x.
        """
        summed = self.moments.sum(1) if draws is None else self.moments[:, draws].sum(2)
        count, x, square, y, product = summed
        spread = count * square - x**2  # exactly 0 without a line, because numbers of chunks are whole
        slope = (count * product - x * y) / np.where(spread > 0, spread, np.nan)
        return np.asarray(slope * distance)

    def figure(self, distance: float, draws: Draws, *, beyond: "Trend | None" = None) -> dict[str, float] | None:
        """`rise` with its interval; None where there is no line.

        Args:
            distance: The distance along x.
            draws: See `draw_with_replacement`.
            beyond: Another trend over the same stories, whose rise is subtracted.
        """

        def rise(*drawn: Draws) -> NDArray[np.float64]:
            own = self.rise(distance, *drawn)
            return own if beyond is None else own - beyond.rise(distance, *drawn)

        mean = float(rise())
        if not np.isfinite(mean):
            return None
        return {"mean": mean} | percentile_interval(rise(draws))


def draw_with_replacement(num_stories: int, *, num_draws: int = NUM_DRAWS) -> Draws:
    """Stories drawn with replacement, the same ones at every call, so that differences are paired."""
    return np.random.default_rng(0).integers(num_stories, size=(num_draws, num_stories))


def interval(function: Callable[..., NDArray[np.float64]], *sums: StorySums, draws: Draws) -> dict[str, float] | None:
    """A function of means, with its interval over stories; None if one of the means has no values.

    Args:
        function: Takes as many means as there are sums.
        sums: Measures of the same stories.
        draws: See `draw_with_replacement`.
    """
    if any(one.count.sum() == 0 for one in sums):
        return None
    ends = percentile_interval(function(*(one.mean(draws) for one in sums)))
    return {"mean": float(function(*(one.mean() for one in sums)))} | ends


def mean_interval(values: Sequence[float], *, num_draws: int = NUM_DRAWS) -> dict[str, float]:
    """The mean of values with its interval.

    Args:
        values: At least one, all finite.
        num_draws: Bootstrap samples.
    """
    array = np.asarray(values, dtype=np.float64)
    means = array[draw_with_replacement(len(array), num_draws=num_draws)].mean(1)
    return {"mean": float(array.mean())} | percentile_interval(means)


def percentile_interval(values: NDArray[np.float64]) -> dict[str, float]:
    """``low`` and ``high``: the ends of the middle 95% of bootstrap samples; nan does not count."""
    low, high = np.nanquantile(values, _ENDS)
    return {"low": float(low), "high": float(high)}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """``median``, and the quartiles ``low`` and ``high``; a single value is all three."""
    if len(values) == 1:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def median_of_known(values: Iterable[float | None]) -> float | None:
    """The median of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def median_around(values: Sequence[float], at: int, neighbours: int) -> float:
    """The median of the value at a place and of as many ``neighbours`` around it, half of them on each side."""
    return statistics.median(values[at - neighbours // 2 : at + neighbours // 2 + 1])


def rank_correlation(values: Sequence[float | None]) -> float | None:
    """Spearman's correlation of values with their order; equal values share their rank.

    None where a value is missing or there are fewer than two, 0 where all values are equal.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < 2:
        return None
    ranks = [
        sum(other < value for other in known) + (sum(other == value for other in known) - 1) / 2 for value in known
    ]
    mean = (len(known) - 1) / 2
    spread = sum((rank - mean) ** 2 for rank in ranks) * sum((place - mean) ** 2 for place in range(len(known)))
    if not spread:
        return 0.0
    return sum((rank - mean) * (place - mean) for place, rank in enumerate(ranks)) / spread**0.5
