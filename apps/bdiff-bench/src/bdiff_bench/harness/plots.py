"""How the plots of benches and studies look, and how they are written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bdiff.files import whole_file

BACKGROUND = "#fbfaf7"
INK, FAINT = "#1d1f23", "#8a8d95"


def new_figure(width: float, height: float) -> Any:
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor=BACKGROUND)


def tidy(axes: Any, *, grid: str = "y", labels: int = 9) -> None:
    """Give axes no box and a faint grid along one direction."""
    axes.set_facecolor(BACKGROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=labels)
    axes.grid(axis=grid, color="#00000014")


def error_bars(figures: list[Mapping[str, float]]) -> list[list[float]]:
    """How far each interval reaches below and above its mean."""
    return [
        [max(0.0, figure["mean"] - figure["low"]) for figure in figures],
        [max(0.0, figure["high"] - figure["mean"]) for figure in figures],
    ]


def save_figure(figure: Any, file: Path) -> None:
    """Write a figure as PNG, complete or not at all."""
    with whole_file(file) as partial:
        figure.savefig(partial, format="png", facecolor=BACKGROUND)
