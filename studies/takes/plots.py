"""Pictures of the study: frames of every kind and fault, and errors of true videos and of planted drift."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from bdiff.files import whole_file
from bdiff_bench.harness import error_bars, new_figure, save_figure, tidy
from studies.takes.faults import RATES, rate_words
from studies.takes.measuring import METRICS
from studies.takes.videos import Take

NUM_MOMENTS = 5
"""Frames in a row of pictures."""
SHOWN_SIDE = 160
"""Side of a frame in these pictures, in pixels."""

_KIND_COLOURS = {"story": "#d9480f", "place": "#1971c2", "walk": "#2b8a3e"}
_METRIC_COLOURS = dict(zip(METRICS, ("#1971c2", "#d9480f", "#f08c00", "#2b8a3e", "#74b816", "#862e9c"), strict=True))


def draw_kinds(large: Mapping[str, Take], small: Mapping[str, Take], file: Path) -> None:
    """Draw moments of a video of each kind: a row at each of two sizes."""
    rows = [_row(takes[kind].frames, SHOWN_SIDE) for kind in large for takes in (large, small)]
    _save(rows, file)


def draw_faults(true: UInt8[Tensor, "t h w 3"], faulty: Mapping[str, UInt8[Tensor, "t h w 3"]], file: Path) -> None:
    """Draw moments of a true video and of the same with each fault, a row each."""
    _save([_row(frames, SHOWN_SIDE) for frames in (true, *faulty.values())], file)


def draw_drift(summary: Mapping[str, Any], file: Path) -> None:
    """Draw the errors of true videos by metric and kind, and how errors rise with the rate of each fault."""
    count = str(summary["config"]["num_chunks"])
    figure = new_figure(11, 7)
    above, *below = figure.subplot_mosaic([["true"] * len(RATES), list(RATES)]).values()
    kinds = list(summary["true"])
    for number, kind in enumerate(kinds):
        own = summary["true"][kind]["large"][count]
        shown = [(place, own[name]["normalized"]) for place, name in enumerate(METRICS) if own[name]["normalized"]]
        figures = [one for _, one in shown]
        places = [place + 0.22 * (number - (len(kinds) - 1) / 2) for place, _ in shown]
        heights = [one["mean"] for one in figures]
        above.bar(places, heights, 0.2, yerr=error_bars(figures), color=_KIND_COLOURS[kind], label=kind, capsize=2)
    above.set_xticks(range(len(METRICS)), METRICS)
    above.set_yscale("log")
    above.set_ylabel("normalised error, true videos")
    above.legend(frameon=False)
    for axes, (fault, rates) in zip(below, RATES.items(), strict=True):
        _draw_rates(axes, fault, rates, summary["planted"])
    below[0].set_ylabel("normalised error, place")
    lines, names = below[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    for axes in (above, *below):
        tidy(axes)
    save_figure(figure, file)


def _draw_rates(axes: Any, fault: str, rates: Sequence[float], planted: Mapping[str, Any]) -> None:
    for name, colour in _METRIC_COLOURS.items():
        errors = planted["place"][fault][name]["errors"]
        axes.plot(range(len(rates) + 1), [np.nan if e is None else e for e in errors], ".-", color=colour, label=name)
    axes.set_xticks(range(len(rates) + 1), ["none", *(rate_words(fault, rate).partition(" ")[0] for rate in rates)])
    axes.set_yscale("log")
    axes.set_xlabel({"blur": "blur, pixels", "swap": "swap, chunks"}.get(fault, fault))


def _row(frames: UInt8[Tensor, "t h w 3"], side: int) -> NDArray[np.uint8]:
    """Evenly chosen frames side by side, each of this side; small frames show their pixels."""
    from PIL import Image

    last = len(frames) - 1
    chosen = [frames[round(last * (moment + 0.5) / NUM_MOMENTS)].numpy() for moment in range(NUM_MOMENTS)]
    way = Image.Resampling.LANCZOS if frames.shape[1] > side else Image.Resampling.NEAREST
    return np.concatenate([np.asarray(Image.fromarray(one).resize((side, side), way)) for one in chosen], axis=1)


def _save(rows: Sequence[NDArray[np.uint8]], file: Path) -> None:
    from PIL import Image

    with whole_file(file) as partial:
        Image.fromarray(np.concatenate(rows, axis=0)).save(partial, format="png", optimize=True)
