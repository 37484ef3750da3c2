"""From the lines of videos to medians, quartiles and ratios."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from bdiff_bench.harness.statistics import quartiles
from bdiff_bench.peers.config import OURS, YARDSTICK

Line = Mapping[str, Any]

WANTED: dict[str, tuple[tuple[str, str, float], ...]] = {
    "default": (("fps", "synchronous", 1.3), ("fps", "asynchronous", 1.5), ("first", "synchronous", 4.0)),
    "wide": (
        ("fps", "synchronous", 1.1),
        ("fps", "asynchronous", 1.5),
        ("first", "synchronous", 4.0),
        ("share", YARDSTICK, 0.9),
    ),
}
"""What is wanted of each shape: which figure, against which contestant, and how much at least."""


def summarise(lines: Sequence[Line], *, setting: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Figures of one shape.

    Args:
        lines: Lines of its videos, and of the machine in the same rounds.
        setting: The shape's chunks, frames of a chunk, context, bytes of weights and of a token in view.
        name: The shape's name in `WANTED`.
    """
    machine = {line["round"]: line for line in lines if line["contestant"] == YARDSTICK}
    videos: dict[str, dict[int, Line]] = {}
    for line in lines:
        if line["contestant"] != YARDSTICK:
            videos.setdefault(line["contestant"], {})[line["round"]] = line
    found = {
        "machine": {unit: quartiles([line[unit] for line in machine.values()]) for unit in _RATES},
        "contestants": {each: _contestant(rounds, machine, setting) for each, rounds in videos.items()},
        "ratios": {
            ours: {other: _ratios(videos[ours], rounds) for other, rounds in videos.items() if other != ours}
            for ours in OURS
            if ours in videos
        },
    }
    return found | {"wanted": _wanted(found, name)}


_RATES = ("flops_per_second", "bytes_per_second")


def durations(arrivals: Sequence[float]) -> list[float]:
    """Seconds of each chunk; chunks that come together share the time since the last that came before."""
    seconds, before = [], 0.0
    for at, together in groupby(arrivals):
        number = len(list(together))
        seconds += [(at - before) / number] * number
        before = at
    return seconds


def growth(arrivals: Sequence[float], *, window: int) -> float | None:
    """Time a chunk takes in the second half of a video over that in the first; None if it is too short.

    Only whole windows after the first one count; each makes a chunk less than it sees.
    """
    stride = window - 1
    blocks = (len(arrivals) - window) // stride
    if blocks < 2:
        return None
    ends = [arrivals[window - 1 + stride * block] for block in range(blocks + 1)]
    seconds = [after - at for at, after in pairwise(ends)]
    half = blocks // 2
    return statistics.mean(seconds[-half:]) / statistics.mean(seconds[:half])


def _contestant(rounds: Mapping[int, Line], machine: Mapping[int, Line], setting: Mapping[str, Any]) -> dict[str, Any]:
    lines = list(rounds.values())
    each = [durations(line["arrivals"]) for line in lines]
    growths = [growth(line["arrivals"], window=setting["context"] + 1) for line in lines]
    grown = [one for one in growths if one is not None]
    timed = [(line, machine[number]) for number, line in rounds.items() if number in machine]
    return {
        "rounds": len(lines),
        "fps": quartiles([_frames(setting) / line["arrivals"][-1] for line in lines]),
        "first_chunk_seconds": quartiles([line["arrivals"][0] for line in lines]),
        "seconds_a_chunk": quartiles([line["arrivals"][-1] / len(line["arrivals"]) for line in lines]),
        "seconds_by_chunk": [statistics.median(chunk) for chunk in zip(*each, strict=True)],
        "late_over_early": quartiles(grown) if len(grown) == len(lines) else None,
        "flops_a_chunk": lines[0]["flops"] / setting["num_chunks"],
        "share_of_matmul": quartiles([line["flops"] / line["arrivals"][-1] / rate[_RATES[0]] for line, rate in timed]),
        "share_of_roofline": quartiles([_least(line, rate, setting) / line["arrivals"][-1] for line, rate in timed]),
        "tokens_shown": lines[0]["shown"],
        "loaded_bytes": statistics.median(line["loaded_bytes"] for line in lines),
        "peak_bytes": max(line["peak_bytes"] for line in lines),
        "device_bytes": max(line["device_bytes"] for line in lines),
    }


def _frames(setting: Mapping[str, Any]) -> int:
    """Pixel frames of a video: 4 for each latent frame but the first."""
    return 4 * setting["num_chunks"] * setting["chunk"]["frames"] - 3


def _least(line: Line, rate: Line, setting: Mapping[str, Any]) -> float:
    """Least seconds of a video, if arithmetic and memory run at the rates that were measured."""
    bytes_read = line["passes"] * setting["weight_bytes"] + line["tokens_read"] * setting["token_bytes"]
    return max(line["flops"] / rate["flops_per_second"], bytes_read / rate["bytes_per_second"])


def _ratios(ours: Mapping[int, Line], theirs: Mapping[int, Line]) -> dict[str, Any]:
    """How many times as fast our loop is, round by round."""
    both = [(ours[number]["arrivals"], theirs[number]["arrivals"]) for number in sorted(ours.keys() & theirs.keys())]
    if not both:
        return {"rounds": 0, "fps": None, "first": None}
    return {
        "rounds": len(both),
        "fps": quartiles([their[-1] / our[-1] for our, their in both]),
        "first": quartiles([their[0] / our[0] for our, their in both]),
    }


def _wanted(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """What is wanted of a shape and what was found, for each of our memories."""
    rows = []
    for what, whom, least in WANTED.get(name, ()):
        for ours, ratios in found["ratios"].items():
            figure = (
                found["contestants"][ours]["share_of_matmul"] if what == "share" else ratios.get(whom, {}).get(what)
            )
            if figure is not None:
                value = figure["median"]
                rows.append(
                    {"what": what, "ours": ours, "whom": whom, "least": least, "found": value, "met": value >= least}
                )
    return rows
