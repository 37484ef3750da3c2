"""One error for everything that does not fit."""

from collections.abc import Sequence

_MOST = 6  # that one error lists; with the weights of another architecture there are hundreds


def raise_problems(problems: Sequence[str], heading: str) -> None:
    """Raise one error that lists the first few problems and counts the others; without problems do nothing.

    Raises:
        ValueError: If there are problems.
    """
    if problems:
        more = len(problems) - _MOST
        listed = "; ".join([*problems[:_MOST], f"and {more} more"] if more > 0 else problems)
        raise ValueError(f"{heading}: {listed}")
