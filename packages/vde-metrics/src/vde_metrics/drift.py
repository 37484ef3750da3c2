"""Video Drift Error of a sequence of chunk scores (Eqs. 17-19)."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

Weights = Literal["linear", "log"]
Protocol = Literal["paper", "released"]


def vde(
    scores: Iterable[float], weights: Weights = "linear", *, normalize: bool = False, protocol: Protocol = "paper"
) -> float:
    """Video Drift Error: weighted sum of the relative changes against the first chunk (Eqs. 17-19).

    ``sum over i = 2..N of w_i * |m_i - m_1| / |m_1|``. The paper divides by m_1; the absolute value keeps the error
    positive for scores that may be negative. Early chunks weigh most, and ``log`` gives the last chunk weight 0.

    Args:
        scores: one score per chunk, in order.
        weights: ``linear`` is w_i = N - i + 1, ``log`` its natural logarithm.
        normalize: divide by the sum of the weights, so that videos with different numbers of chunks compare.
        protocol: ``released`` is the arithmetic of the benchmark's script: it divides by m_1 with its sign, so that a
            negative first score makes the error negative, and a first score of 0 is infinite even if all are 0.

    Returns:
        0 if all scores are equal; otherwise, if the first score is 0, infinity (with a ``RuntimeWarning``).
    """
    return named_vde(scores, weights, normalize=normalize, name="vde", protocol=protocol)


def named_vde(
    scores: Iterable[float | None], weights: Weights, *, normalize: bool, name: str, protocol: Protocol = "paper"
) -> float:
    """``vde`` whose errors and warnings begin with the metric's name.

    Chunks without a score (None) are left out, with their weights; the first chunk that has one is the reference.
    """
    check_protocol(protocol)
    checked = _checked(scores, name)
    weighted = zip([0.0, *chunk_weights(len(checked), weights)], checked, strict=True)
    (_, first), *others = ((weight, value) for weight, value in weighted if value is not None)
    if all(value == first for _, value in others) and not (protocol == "released" and first == 0 and others):
        return 0.0
    total = sum(weight for weight, _ in others)
    if normalize and total == 0 and None in checked:
        return 0.0  # log weights, and all that is left beside the reference is the last chunk, which never counts
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
    """Refuse anything but the two protocols."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; expected 'paper' or 'released'")


def chunk_weights(num_chunks: int, weights: Weights) -> list[float]:
    """w_i of Eqs. 18-19 for i = 2..N."""
    if weights not in ("linear", "log"):
        raise ValueError(f"weights is {weights!r}; expected 'linear' or 'log'")
    linear = [float(num_chunks - i + 1) for i in range(2, num_chunks + 1)]
    return linear if weights == "linear" else [math.log(w) for w in linear]


def slope(scores: Sequence[float | None]) -> float:
    """Least-squares change of the score from one chunk to the next; chunks without a score do not count."""
    points = [(i, score) for i, score in enumerate(scores) if score is not None]
    centre = sum(i for i, _ in points) / len(points)
    spread = sum((i - centre) ** 2 for i, _ in points)
    return sum((i - centre) * score for i, score in points) / spread if spread else 0.0


def worst_chunk(scores: Sequence[float | None]) -> int | None:
    """Index from 0 of the chunk farthest from the first that has a score; None where all score the same."""
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
