"""Texts of figures in the tables of an ablation's pages."""

from collections.abc import Mapping
from typing import Literal


def interval_text(figure: Mapping[str, float] | None) -> str:
    """A mean with its interval; a dash where nothing was measured."""
    return "–" if figure is None else f"{figure['mean']:.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


def direction(difference: Mapping[str, float] | None, stories: int) -> Literal["lower", "higher", "open"]:
    """Whether a paired interval is below or above 0, or open: it holds 0, or is of one story and so a point."""
    if difference is None or stories < 2 or difference["low"] <= 0 <= difference["high"]:
        return "open"
    return "lower" if difference["high"] < 0 else "higher"


def difference_text(difference: Mapping[str, float] | None, stories: int) -> str:
    """A paired difference with its interval, in bold where that leaves 0 out."""
    text = interval_text(difference)
    return text if direction(difference, stories) == "open" else f"**{text}**"
