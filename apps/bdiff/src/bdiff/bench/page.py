"""A results page from the JSON of benches alone, so that no figure is typed by hand."""

import json
from pathlib import Path
from typing import Any

from bdiff.bench.world import world_table


def write_page(path: Path, *, title: str, world: Path | None, speed: Path | None, note: str = "") -> None:
    """Write a Markdown page of what `bdiff bench world` and `bdiff bench speed` measured.

    Args:
        path: The page.
        title: Its heading.
        world: ``summary.json`` of the one.
        speed: The JSON of the other.
        note: A paragraph under the heading.

    Raises:
        ValueError: If neither is given, or a file is not what the bench wrote.
    """
    if world is None and speed is None:
        raise ValueError("nothing to show: give the figures of bench world, of bench speed, or of both")
    parts = [f"# {title}", *([note] if note else [])]
    try:
        if world is not None:
            parts += _world_parts(json.loads(world.read_text(encoding="utf-8")))
        if speed is not None:
            parts += _speed_parts(json.loads(speed.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{world or speed}: not the figures of a bench ({error!r}); run the bench again") from None
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    partial.replace(path)


def _world_parts(summary: dict[str, Any]) -> list[str]:
    config = summary["config"]
    setting = (
        f"{summary['stories']} held-out stories of {config['num_chunks']} chunks, the first chunk given; "
        f"{config['num_steps']} steps, guidance {config['guidance']}, seed {config['seed']} "
        "(each story has a noise of its own). Intervals are bootstraps over stories."
    )
    return ["## Stories told and judged", setting, world_table(summary).rstrip()]


def _speed_parts(figures: dict[str, Any]) -> list[str]:
    machine, config = figures["machine"], figures["config"]
    setting = (
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, torch {machine['torch']}, "
        f"bdiff {machine['bdiff']}; a video of {config['num_chunks']} chunks, sampled and decoded. Early is chunk "
        f"{config['early']}, late chunk {config['late']}, each the median over {config['neighbours']} neighbours."
    )
    head = "| memory | s a chunk (quartiles) | times real time | late / early | resident early, late, peak | held |"
    rows = [_speed_row(name, row) for name, row in figures["policies"].items()]
    return ["## Time and memory", setting, "\n".join([head, "|---|---|---|---|---|---|", *rows])]


def _speed_row(name: str, row: dict[str, Any]) -> str:
    low, high = row["seconds_a_chunk"]["quartiles"]
    resident = ", ".join(f"{row['resident_bytes'][when] / 1e6:.0f}" for when in ("early", "late", "peak"))
    held = ", ".join(f"{row['bank_bytes'][when] / 1e6:.1f}" for when in ("early", "late"))
    return (
        f"| {name} | {row['seconds_a_chunk']['median']:.2f} ({low:.2f} to {high:.2f}) | {row['times_real_time']:.1f} "
        f"| {row['late_over_early']:.2f} | {resident} MB | {held} MB |"
    )
