"""Video Drift Error of the scores of chunks (Eqs. 17-19)."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

Weights = Literal["linear", "log"]
Protocol = Literal["paper", "released"]


def vde(
    scores: Iterable[float], weights: Weights = "linear", *, normalize: bool = False, protocol: Protocol = "paper"
) -> float:
    """Video Drift Error: the weighted sum of the relative changes from the first chunk (Eqs. 17-19).

    It is the sum over i = 2..N of ``w_i * |m_i - m_1| / |m_1|``. The paper divides by m_1. The absolute value keeps the
    error positive if scores are negative. Early chunks have the largest weights. With ``log`` the last chunk has the
    weight 0.

    Args:
        scores: one score per chunk, in order.
        weights: ``linear`` is w_i = N - i + 1. ``log`` is its natural logarithm.
        normalize: divide by the sum of the weights, so that videos with different numbers of chunks compare.
        protocol: ``paper``, or ``released`` for the arithmetic of the benchmark's script. That divides by m_1 with its
            sign, so a negative first score makes the error negative. With a first score of 0 it is always infinite.

    Returns:
        The error. It is 0 if all scores are equal. If only the first score is 0, it is infinite, with a
        ``RuntimeWarning``.

    Raises:
        ValueError: if there are no scores, if one is not finite, or if all weights are 0.
    """
    return named_vde(scores, weights, normalize=normalize, name="vde", protocol=protocol)


def named_vde(
    scores: Iterable[float | None], weights: Weights, *, normalize: bool, name: str, protocol: Protocol = "paper"
) -> float:
    """The error of `vde`, for scores that may be None. Messages begin with the metric's name.

    Chunks without a score (None) are left out with their weights. The first chunk with a score is the reference.
    """
    check_protocol(protocol)
    checked = _checked(scores, name)
    weighted = zip([0.0, *chunk_weights(len(checked), weights)], checked, strict=True)
    (_, first), *others = ((weight, value) for weight, value in weighted if value is not None)
    if all(value == first for _, value in others) and not (protocol == "released" and first == 0 and others):
        return 0.0
    total = sum(weight for weight, _ in others)
    if normalize and total == 0 and None in checked:
        return 0.0  # log weights, and only the last chunk, whose weight is 0, is left beside the reference
    if normalize and total == 0:
        raise ValueError(
            f"{name}: log weights of {len(checked)} scores are all 0, so a normalised error has no meaning; "
            "use weights='linear' or at least 3 chunks"
        )
    if first == 0:
        warnings.warn(
            f"{name}: the first chunk scores 0{_and_others(protocol)}, so their relative change is infinite",
            RuntimeWarning,
            stacklevel=3,
        )
        return math.inf
    divisor = first if protocol == "released" else abs(first)
    error = sum(weight * abs(value - first) / divisor for weight, value in others)
    return error / total if normalize else error


def check_protocol(protocol: str) -> None:
    """Raise ValueError if this is not the name of a protocol."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; expected 'paper' or 'released'")


def chunk_weights(num_chunks: int, weights: Weights) -> list[float]:
    """Weights w_i of Eqs. 18-19 for i = 2..N."""
    if weights not in ("linear", "log"):
        raise ValueError(f"weights is {weights!r}; expected 'linear' or 'log'")
    linear = [float(num_chunks - i + 1) for i in range(2, num_chunks + 1)]
    return linear if weights == "linear" else [math.log(w) for w in linear]


def slope(scores: Sequence[float | None]) -> float:
    """Least-squares change of the score per chunk. Chunks without a score do not count."""
    points = [(i, score) for i, score in enumerate(scores) if score is not None]
    centre = sum(i for i, _ in points) / len(points)
    spread = sum((i - centre) ** 2 for i, _ in points)
    return sum((i - centre) * score for i, score in points) / spread if spread else 0.0


def worst_chunk(scores: Sequence[float | None]) -> int | None:
    """Index, from 0, of the chunk whose score is farthest from the first score; None if all scores are equal."""
    first = next(score for score in scores if score is not None)
    distances = [0.0 if score is None else abs(score - first) for score in scores]
    return distances.index(max(distances)) if any(distances) else None


def _and_others(protocol: Protocol) -> str:
    return " and others do not" if protocol == "paper" else ""


def _checked(scores: Iterable[float | None], name: str) -> list[float | None]:
    values = [None if score is None else float(score) for score in scores]
    if not values:
        raise ValueError(f"{name}: no scores were given; expected one score per chunk")
    if all(value is None for value in values):
        raise ValueError(f"{name}: no chunk has anything to measure")
    for i, value in enumerate(values):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name}: the score of chunk {i} is {value}; expected a finite number")
    return values
