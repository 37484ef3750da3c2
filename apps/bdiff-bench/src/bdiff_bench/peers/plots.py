"""Plots of a comparison, from its figures alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bdiff.files import whole_file
from bdiff_bench.peers.page import NAMES

_COLOURS = {
    "semantic": "#d9480f",
    "dense": "#e8a300",
    "synchronous": "#1971c2",
    "asynchronous": "#2f9e44",
    "anyflow": "#9c36b5",
}


def draw(page: Path, figures: Mapping[str, Any]) -> dict[str, str]:
    """Draw every shape's plot beside a page; returns the files' names by shape."""
    names = {name: f"{page.stem}_{name}.png" for name in figures["shapes"]}
    for name, file in names.items():
        draw_shape(page.with_name(file), figures["shapes"][name])
    return names


def draw_shape(file: Path, shape: Mapping[str, Any]) -> None:
    """Draw seconds a chunk over the video, and frames a second with quartiles; the bars name the colours of both."""
    from matplotlib.figure import Figure

    contestants = shape["contestants"]
    figure = Figure(figsize=(10, 3.8), dpi=130, layout="constrained")
    growing, speed = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, found in contestants.items():
        seconds = found["seconds_by_chunk"]
        growing.plot(range(len(seconds)), seconds, marker=".", ms=4, lw=1.2, color=_COLOURS[name])
    growing.set_xlabel("chunk")
    growing.set_ylabel("seconds since the chunk before")
    growing.set_ylim(bottom=0)
    for place, (name, found) in enumerate(contestants.items()):
        fps = found["fps"]
        bars = [[fps["median"] - fps["low"]], [fps["high"] - fps["median"]]]
        speed.barh(place, fps["median"], xerr=bars, color=_COLOURS[name], error_kw={"lw": 1})
    speed.set_yticks(range(len(contestants)), [NAMES[name] for name in contestants], fontsize=8)
    speed.invert_yaxis()
    speed.set_xlabel("frames a second")
    for axes in (growing, speed):
        axes.spines[["top", "right"]].set_visible(False)
    with whole_file(file) as partial:
        figure.savefig(partial, format="png")
