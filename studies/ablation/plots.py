"""Plots of an ablation's figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bdiff_bench.harness import FAINT, INK, error_bars, new_figure, save_figure, tidy
from studies.ablation.configurations import CONFIGURATIONS, OURS, TRUTH
from studies.ablation.figures import CLAIMED, MEASURES, tables_of
from studies.ablation.reader_questions import (
    ALL_TOKENS,
    CHUNK_MEASURES,
    PHASES,
    SPARSE,
    SWAPS,
    compared_configurations,
)
from studies.ablation.videos import DRIFTS

_OURS = "#d9480f"
_COLOURS = ("#1971c2", "#2f9e44", "#9c36b5", "#e8a300", "#0c8599", "#c2255c", "#5c5f66")
_SHOWN = (*DRIFTS, "recall", "visible")


def draw(folder: Path, summary: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Draw intervals and curves of each table that has figures; gives the link of each plot, by its name.

    Args:
        folder: Where the plots go.
        summary: What `summarise` gives.
        prefix: Beginning of their names, for folders that hold other plots as well.
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


def draw_questions(folder: Path, summary: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Draw the figures of the questions, where there are any; gives the link of each plot, by its name.

    Args:
        folder: Where the plots go.
        summary: What `summarise` gives.
        prefix: As in `draw`.
    """
    links = {}
    configurations, found = summary["cells"], summary["questions"]
    kept = {
        label: configurations[label]["kept"]
        for label in (ALL_TOKENS, *SPARSE)
        if configurations.get(label, {}).get("kept")
    }
    drawn = {
        "swaps": (_draw_swaps, found["swaps"]),
        "kept": (_draw_kept, kept),
        "phases": (_draw_phases, found["phases"]),
    }
    for name, (function, figures) in drawn.items():
        if figures:
            links[name] = f"{prefix}{'_' if prefix else ''}questions-{name}.png"
            function(folder / links[name], figures)
    return links


def _draw_swaps(file: Path, swaps: Mapping[str, Any]) -> None:
    """Draw a panel for each claimed measure, with a row for each swap."""
    figure = new_figure(11.0, 1.2 + 0.42 * len(swaps))
    for axes, name in zip(figure.subplots(1, len(CLAIMED), sharey=True), CLAIMED, strict=True):
        for row, found in enumerate(by_measure[name] for by_measure in swaps.values()):
            if found is not None:
                axes.errorbar(
                    [found["mean"]], [row], xerr=error_bars([found]), marker="o", ms=4, lw=1.2, color=_COLOURS[0]
                )
        axes.axvline(0.0, color=FAINT, lw=0.8, ls="--")
        axes.set_title(MEASURES[name].title, fontsize=10, color=INK, loc="left")
        axes.set_yticks(range(len(swaps)), [" less ".join(SWAPS[swap]) for swap in swaps])
        axes.set_ylim(len(swaps) - 0.5, -0.5)
        tidy(axes, grid="x", labels=7)
    save_figure(figure, file)


def _draw_kept(file: Path, kept: Mapping[str, list[float]]) -> None:
    """Draw the share of a shown chunk's tokens that each layer keeps, a line for each configuration."""
    figure = new_figure(8.0, 3.6)
    axes = figure.subplots()
    for label, shares in kept.items():
        axes.plot(range(len(shares)), shares, marker="o", ms=3, lw=1.3, label=label, color=_colour(list(kept), label))
    axes.set_ylim(0.0, 1.05)
    axes.set_xticks(range(max(map(len, kept.values()))))
    axes.set_title("tokens of a shown chunk that are kept, by layer", fontsize=10, color=INK, loc="left")
    tidy(axes, labels=8)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    save_figure(figure, file)


def _draw_phases(file: Path, phases: Mapping[str, Any]) -> None:
    """Draw a panel for each chunk measure: means with intervals of early, middle and late chunks."""
    labels = compared_configurations(phases)
    figure = new_figure(11.0, 5.2)
    panels = list(figure.subplots(2, 4).flat)
    for axes, (name, measure) in zip(panels, CHUNK_MEASURES.items(), strict=False):
        for offset, label in enumerate(labels):
            color = FAINT if label == TRUTH else _colour(labels, label)
            for place, phase in enumerate(PHASES):
                if (found := phases[label][name][phase]) is not None:
                    at = [place + 0.12 * (offset - 1)]
                    axes.errorbar(at, [found["mean"]], yerr=error_bars([found]), marker="o", ms=4, lw=1.2, color=color)
            axes.plot([], [], marker="o", ms=4, color=color, label="true videos" if label == TRUTH else label)
        axes.set_xticks(range(len(PHASES)), PHASES)
        axes.set_xlim(-0.5, len(PHASES) - 0.5)
        axes.set_title(measure.title.split(":")[0], fontsize=10, color=INK, loc="left")
        tidy(axes, labels=8)
    panels[-1].axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="center")
    save_figure(figure, file)


def _draw_intervals(file: Path, summary: Mapping[str, Any], labels: list[str]) -> None:
    """Draw a panel for each measure, with a row for each configuration; a line marks the true videos."""
    figure = new_figure(11.0, 1.4 + 0.62 * len(labels))
    panels = figure.subplots(2, 3, sharey=True).flat
    for axes, name in zip(panels, _SHOWN, strict=True):
        for row, label in enumerate(labels):
            found = summary["cells"][label]["measures"].get(name)
            if found is None:
                continue
            style = {"marker": "o", "ms": 4, "lw": 1.2, "color": _colour(labels, label)}
            axes.errorbar([found["mean"]], [row], xerr=error_bars([found]), **style)
        true = summary["cells"].get(TRUTH, {}).get("measures", {}).get(name)
        if true is not None:
            axes.axvline(true["mean"], color=FAINT, lw=0.8, ls="--")
        axes.set_title(MEASURES[name].title, fontsize=10, color=INK, loc="left")
        axes.set_yticks(range(len(labels)), [CONFIGURATIONS[label].title for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        tidy(axes, grid="x", labels=8)
    save_figure(figure, file)


def _draw_curves(file: Path, summary: Mapping[str, Any], labels: list[str]) -> None:
    """Draw the change of every chunk against the first by metric of drift, and how often the protagonist is seen."""
    figure = new_figure(11.0, 5.2)
    panels = figure.subplots(2, 3).flat
    configurations = summary["cells"]
    for axes, name in zip(panels, (*DRIFTS, "visible"), strict=False):
        for label in [*labels, *([TRUTH] if TRUTH in configurations else [])]:
            values = (
                configurations[label]["visible_by_chunk"]
                if name == "visible"
                else configurations[label]["curves"][name]
            )
            points = [(chunk, value) for chunk, value in enumerate(values) if value is not None]
            style = {"color": FAINT, "ls": "--"} if label == TRUTH else {"color": _colour(labels, label)}
            title = "true videos" if label == TRUTH else CONFIGURATIONS[label].title
            axes.plot(*zip(*points, strict=True), lw=1.3, label=title, **style)
        title = "protagonist seen, by chunk" if name == "visible" else f"{name}: change against the first chunk"
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        tidy(axes, labels=8)
    panels = figure.axes
    panels[-1].axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="center")
    save_figure(figure, file)


def _colour(labels: list[str], label: str) -> str:
    others = [other for other in labels if other != OURS]
    return _OURS if label == OURS else _COLOURS[others.index(label) % len(_COLOURS)]
