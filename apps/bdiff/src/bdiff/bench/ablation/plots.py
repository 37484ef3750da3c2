"""Plots of an ablation's figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bdiff.bench.ablation.cells import CELLS, OURS, TRUTH
from bdiff.bench.ablation.figures import MEASURES, tables_of
from bdiff.bench.ablation.films import DRIFTS
from bdiff.bench.drawing import paper_figure, save, tidy

_INK, _FAINT, _OURS = "#1d1f23", "#8a8d95", "#d9480f"
_COLOURS = ("#1971c2", "#2f9e44", "#9c36b5", "#e8a300", "#0c8599", "#c2255c", "#5c5f66")
_SHOWN = (*DRIFTS, "recall", "visible")


def draw(folder: Path, summary: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Draw intervals and curves of each table that has a cell; the link of each plot, by its name.

    Args:
        folder: Where the plots go.
        summary: What `summarise` gives.
        prefix: Beginning of their names, for folders that hold plots of others, too.
    """
    links = {}
    for table, labels in tables_of(summary).items():
        there = [label for label in labels if label in summary["cells"]]
        if not there:
            continue
        for name, function in (("intervals", _draw_intervals), ("curves", _draw_curves)):
            file = f"{prefix}{'_' if prefix else ''}table-{table}-{name}.png"
            function(folder / file, summary, there)
            links[f"{table}-{name}"] = file
    return links


def _draw_intervals(file: Path, summary: Mapping[str, Any], labels: list[str]) -> None:
    """A panel for each measure, a row for each cell; what the true films have is a line."""
    figure = paper_figure(11.0, 1.4 + 0.62 * len(labels))
    panels = figure.subplots(2, 3, sharey=True).flat
    for axes, name in zip(panels, _SHOWN, strict=True):
        for row, label in enumerate(labels):
            found = summary["cells"][label]["measures"].get(name)
            if found is None:
                continue
            bars = [[max(0.0, found["mean"] - found["low"])], [max(0.0, found["high"] - found["mean"])]]
            axes.errorbar([found["mean"]], [row], xerr=bars, marker="o", ms=4, lw=1.2, color=_colour(labels, label))
        true = summary["cells"].get(TRUTH, {}).get("measures", {}).get(name)
        if true is not None:
            axes.axvline(true["mean"], color=_FAINT, lw=0.8, ls="--")
        axes.set_title(MEASURES[name].title, fontsize=10, color=_INK, loc="left")
        axes.set_yticks(range(len(labels)), [CELLS[label].title for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        tidy(axes, grid="x", labels=8)
    save(figure, file)


def _draw_curves(file: Path, summary: Mapping[str, Any], labels: list[str]) -> None:
    """How far every chunk is from the first, for each metric of drift, and how often the protagonist is seen."""
    figure = paper_figure(11.0, 5.2)
    panels = figure.subplots(2, 3).flat
    cells = summary["cells"]
    for axes, name in zip(panels, (*DRIFTS, "visible"), strict=False):
        for label in [*labels, *([TRUTH] if TRUTH in cells else [])]:
            values = cells[label]["visible_by_chunk"] if name == "visible" else cells[label]["curves"][name]
            points = [(chunk, value) for chunk, value in enumerate(values) if value is not None]
            style = {"color": _FAINT, "ls": "--"} if label == TRUTH else {"color": _colour(labels, label)}
            title = "true films" if label == TRUTH else CELLS[label].title
            axes.plot(*zip(*points, strict=True), lw=1.3, label=title, **style)
        title = "protagonist seen, by chunk" if name == "visible" else f"{name}: change against the first chunk"
        axes.set_title(title, fontsize=10, color=_INK, loc="left")
        tidy(axes, labels=8)
    panels = figure.axes
    panels[-1].axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="center")
    save(figure, file)


def _colour(labels: list[str], label: str) -> str:
    others = [other for other in labels if other != OURS]
    return _OURS if label == OURS else _COLOURS[others.index(label) % len(_COLOURS)]
