"""The page of the study, from its figures alone."""

from collections.abc import Mapping
from typing import Any

from bdiff.output import markdown_table
from studies.metric_cost.ways import WAYS

NEEDED_SPEEDUP, ALLOWED_BYTES = 3.0, 1.5e9
"""What was asked for: times as fast as the straightforward way, and memory on the long video."""


def metric_cost_parts(figures: Mapping[str, Any]) -> list[str]:
    """The parts of the page."""
    machine, config, video, ways = (figures[key] for key in ("machine", "config", "film", "ways"))
    seconds = video["frames"] / config["fps"]
    setting = (
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, torch {machine['torch']}. "
        f"A video of {seconds:g} s, {video['size'][1]}x{video['size'][0]} at {config['fps']} fps, H.264, "
        f"{config['num_chunks']} chunks. Every way has a process of its own in which models are loaded before the "
        f"clock starts; {config['repeats']} timings each, in turn. Memory is anonymous resident memory, looked at 50 "
        "times a second."
    )
    models = (
        "Flow is DIS, the subject is estimated, the encoder is EfficientNet-lite0 on whole frames. No aesthetic "
        "predictor is small enough to come along, so a linear layer of random weights on the same encoder stands in: "
        "a large CLIP would take most of the time. The straightforward way decodes the whole video for each metric and "
        "goes through its chunks, frame by frame, as the released script does, with the same models and definitions: "
        f"its scores differ by {max(figures['largest_difference'].values()):.1e} at most, as a share of the score."
    )
    heads = ["what", "seconds (quartiles)", "times real time", "processor seconds", "anonymous memory, MB"]
    rows = [_row(WAYS[way], own, seconds) for way, own in ways.items()]
    long = figures["long"]
    rows.append(_row(f"all five, video of {long['frames'] / config['fps']:g} s", long, long["frames"] / config["fps"]))
    return [
        setting,
        models,
        markdown_table(heads, rows, align="right"),
        _verdict(figures),
    ]


def speedup(figures: Mapping[str, Any], way: str) -> float:
    """How many times faster a way is than the straightforward one."""
    ways = figures["ways"]
    found: float = ways["plain"]["seconds"]["median"] / ways[way]["seconds"]["median"]
    return found


def _row(name: str, own: Mapping[str, Any], seconds: float) -> list[str]:
    low, high = own["seconds"]["quartiles"]
    median = own["seconds"]["median"]
    return [
        name,
        f"{median:.1f} ({low:.1f} to {high:.1f})",
        f"{seconds / median:.2f}",
        f"{own['processor_seconds']:.1f}",
        f"{own['anonymous_bytes']['most'] / 1e6:.0f}",
    ]


def _verdict(figures: Mapping[str, Any]) -> str:
    """What was asked for and what was found; what falls short is in bold."""
    length = figures["film"]["frames"] / figures["config"]["fps"]
    three, most = figures["ways"]["three"]["seconds"]["median"], figures["long"]["anonymous_bytes"]["most"]
    lines = [
        _line(three < length, f"clarity, motion, background in less time than the video's {length:g} s: {three:.1f} s"),
        _line(
            most < ALLOWED_BYTES, f"memory under {ALLOWED_BYTES / 1e6:.0f} MB on the long video: {most / 1e6:.0f} MB"
        ),
    ]
    for way in ("five", "five apart"):
        times = speedup(figures, way)
        text = f"{NEEDED_SPEEDUP:g} times faster than the straightforward way, {WAYS[way]}: {times:.2f}"
        lines.append(_line(times >= NEEDED_SPEEDUP, text))
    return "Asked for, and found:\n\n" + "\n".join(lines)


def _line(holds: bool, text: str) -> str:
    return f"- {text}" if holds else f"- **{text}**"
