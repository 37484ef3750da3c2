"""How the plots of benches look, and how they are written."""

from pathlib import Path
from typing import Any

from bdiff_core.whole_file import whole_file

PAPER = "#fbfaf7"


def paper_figure(width: float, height: float) -> Any:
    """A figure of this size in inches, on paper."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor=PAPER)


def tidy(axes: Any, *, grid: str = "y", labels: int = 9) -> None:
    """Axes without a box; a faint grid along one direction."""
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=labels)
    axes.grid(axis=grid, color="#00000014")


def save(figure: Any, file: Path) -> None:
    """Write a figure as PNG; complete or not at all."""
    with whole_file(file) as partial:
        figure.savefig(partial, format="png", facecolor=PAPER)
