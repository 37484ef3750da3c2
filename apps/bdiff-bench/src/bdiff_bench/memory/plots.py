"""Plots of a bench's figures."""

from pathlib import Path
from typing import Any

from bdiff_bench.harness.plots import FAINT, INK, error_bars, new_figure, save_figure, tidy
from bdiff_bench.memory.arms import YARDSTICKS
from bdiff_bench.memory.figures import ALL, gap_groups
from bdiff_bench.memory.measures import MEASURES, Mode

_COLOURS = ("#d9480f", "#1971c2", "#2f9e44", "#9c36b5", "#e8a300", "#0c8599", "#c2255c", "#5c5f66")
_WITHIN = 3  # groups of gaps that a window holds
_TITLES = {
    "given": "First visits given: error against the truth",
    "free": "Free: distance to the video's own first visit",
}


def draw_errors(file: Path, summary: dict[str, Any]) -> bool:
    """Draw error over gap, a panel for each mode; False if no story comes back to a place."""
    groups = {mode: found["groups"] for mode, found in summary["figures"].items() if _measured(found["groups"], mode)}
    if not groups:
        return False
    figure = new_figure(5.4 * len(groups) + 0.3, 4.2)
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, mode in zip(panels, groups, strict=True):
        by_gap = {name: _of_gap(groups[mode], mode, name) for name in gap_groups(summary["window"])}
        handles = _draw_arms(axes, by_gap, list(summary["arms"])) | _draw_yardsticks(axes, by_gap)
        _mark_window(axes, summary["window"], list(by_gap))
        axes.set_title(_TITLES[mode], fontsize=10, color=INK, loc="left")
        tidy(axes)
    panels[0].set_ylabel("mean absolute colour error, colours in [0, 1]", color=INK)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(3 * len(groups), len(handles)),
        frameon=False,
        fontsize=9,
    )
    save_figure(figure, file)
    return True


def draw_tokens(file: Path, summary: dict[str, Any]) -> bool:
    """Draw the share of tokens kept in each layer by the arms that do not keep all; False if there are none."""
    kept = {label: arm["tokens"]["kept"] for label, arm in summary["arms"].items()}
    sparse = {label: shares for label, shares in kept.items() if shares and min(shares) < 1}
    if not sparse:
        return False
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    for number, (label, shares) in enumerate(kept.items()):
        if label in sparse:
            axes.plot(range(len(shares)), shares, marker="o", color=_COLOURS[number % len(_COLOURS)], label=label)
    axes.set_ylim(0, 1.03)
    axes.set_xticks(range(max(map(len, sparse.values()))))
    axes.set_xlabel("layer", color=INK)
    axes.set_ylabel("share of a chunk's tokens kept", color=INK)
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    save_figure(figure, file)
    return True


def _measured(groups: dict[str, Any], mode: Mode) -> bool:
    return bool(groups[ALL][MEASURES[mode][0]])


def _of_gap(groups: dict[str, Any], mode: Mode, name: str) -> dict[str, Any]:
    return groups[f"gap {name}"][MEASURES[mode][0]]


def _draw_arms(axes: Any, by_gap: dict[str, dict[str, Any]], labels: list[str]) -> dict[str, Any]:
    """Draw means with intervals, side by side so that none hides another; gives the legend's handle of each arm."""
    handles = {}
    for number, label in enumerate(labels):
        there = [(place, figures[label]) for place, figures in enumerate(by_gap.values()) if label in figures]
        shift = 0.4 * ((number + 0.5) / len(labels) - 0.5)
        means = [figure["mean"] for _, figure in there]
        handles[label] = axes.errorbar(
            [place + shift for place, _ in there],
            means,
            yerr=error_bars([figure for _, figure in there]),
            marker="o",
            ms=4,
            lw=1.2,
            color=_COLOURS[number % len(_COLOURS)],
        )
    return handles


def _draw_yardsticks(axes: Any, by_gap: dict[str, dict[str, Any]]) -> dict[str, Any]:
    handles = {}
    for label, style in zip(YARDSTICKS, (":", "--"), strict=True):
        there = [(place, figures[label]["mean"]) for place, figures in enumerate(by_gap.values()) if label in figures]
        (handles[label.replace("-", " ")],) = axes.plot(*zip(*there, strict=True), style, color=FAINT)
    return handles


def _mark_window(axes: Any, window: int, names: list[str]) -> None:
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.axvline(_WITHIN - 0.5, color=FAINT, lw=0.8)
    words = {"transform": axes.get_xaxis_transform(), "va": "bottom", "fontsize": 8, "color": FAINT}
    axes.text(_WITHIN - 0.57, 0.95, f"within {window} chunks", ha="right", **words)
    axes.text(_WITHIN - 0.43, 0.95, "beyond", **words)
    axes.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel("chunks since the place was last seen", color=INK)
