"""`bdiff bench page`: one page of what several benches measured."""

import os
from pathlib import Path
from typing import Any

from bdiff.output import markdown_table
from bdiff_bench.harness.result_page import Section, parts_of_files, write_page
from bdiff_bench.memory.page import PICTURES, memory_parts
from bdiff_bench.peers.page import peers_parts
from bdiff_bench.peers.plots import draw
from bdiff_bench.world.comparison import comparison_parts
from bdiff_bench.world.figures import world_table


def write_bench_page(
    path: Path,
    *,
    title: str,
    world: Path | None = None,
    speed: Path | None = None,
    memory: Path | None = None,
    peers: Path | None = None,
    note: str = "",
) -> None:
    """Write a Markdown page of what `bdiff bench world`, `speed`, `memory` and `peers` measured.

    Args:
        path: The page.
        title: Its heading.
        world: ``summary.json`` of `bdiff bench world`.
        speed: The JSON of `bdiff bench speed`.
        memory: ``summary.json`` of `bdiff bench memory`; the page links to the pictures beside it.
        peers: ``figures.json`` of `bdiff bench peers`; its plots are drawn beside the page.
        note: A paragraph under the heading.

    Raises:
        ValueError: If no file is given, or a file is not what the bench wrote.
    """
    sections: list[Section] = [(world, _world_parts), (speed, _speed_parts)]
    if memory is not None:
        pictures = _pictures(memory.parent, path.parent)
        sections.append((memory, lambda summary: memory_parts(summary, pictures=pictures)))
    if peers is not None:
        sections.append((peers, lambda figures: _peers_parts(figures, path)))
    if all(file is None for file, _ in sections):
        raise ValueError("nothing to show: give the figures of bench world, speed, memory or peers")
    write_page(path, parts_of_files(sections), title=title, note=note)


def _pictures(folder: Path, page_folder: Path) -> dict[str, str]:
    """The pictures in a folder of `bdiff bench memory`, and how a page in another folder links to them."""
    there = (name for name in PICTURES if (folder / name).exists())
    return {name: Path(os.path.relpath(folder / name, page_folder)).as_posix() for name in there}


def _peers_parts(figures: dict[str, Any], page: Path) -> list[str]:
    return ["## Beside diffusers", *peers_parts(figures, pictures=draw(page, figures))]


def _world_parts(summary: dict[str, Any]) -> list[str]:
    config = summary["config"]
    memory = f"age bonus {config['seniority']}, " if "seniority" in config else ""
    if config.get("num_sink", "0") != "0":
        memory += f"the first {config['num_sink']} in view of all, "
    several = "takes" in summary
    memory = f"of the semantic memory: {memory}" if several and memory else memory
    each = f"{config['num_stories']} held-out videos of each kind under each memory," if several else ""
    own = "video has a noise of its own, the same for all memories" if several else "story has a noise of its own"
    setting = (
        f"{each or str(summary['stories']) + ' held-out stories'} of {config['num_chunks']} chunks at richness "
        f"{config['richness']}, the first chunk given; {config['num_steps']} steps, guidance {config['guidance']}, "
        f"{memory}seed {config['seed']} (each {own})."
    )
    if several:  # the explanation of the tables says what intervals are
        return ["## Kinds of videos sampled and evaluated", setting, *comparison_parts(summary["takes"], level="###")]
    setting += " Intervals are bootstraps over stories."
    return ["## Stories sampled and evaluated", setting, world_table(summary).rstrip()]


def _speed_parts(figures: dict[str, Any]) -> list[str]:
    machine, config = figures["machine"], figures["config"]
    setting = (
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, torch {machine['torch']}, "
        f"bdiff {machine['bdiff']}; a video of {config['num_chunks']} chunks, sampled and decoded. Early is chunk "
        f"{config['early']}, late chunk {config['late']}, each the median over {config['neighbours']} neighbours."
    )
    heads = ["memory", "s a chunk (quartiles)", "times real time", "late / early", "resident early, late, peak", "held"]
    rows = [_speed_row(name, row) for name, row in figures["policies"].items()]
    return ["## Time and memory", setting, markdown_table(heads, rows)]


def _speed_row(name: str, row: dict[str, Any]) -> list[str]:
    low, high = row["seconds_a_chunk"]["quartiles"]
    resident = ", ".join(f"{row['resident_bytes'][when] / 1e6:.0f}" for when in ("early", "late", "peak"))
    held = ", ".join(f"{row['bank_bytes'][when] / 1e6:.1f}" for when in ("early", "late"))
    return [
        name,
        f"{row['seconds_a_chunk']['median']:.2f} ({low:.2f} to {high:.2f})",
        f"{row['times_real_time']:.1f}",
        f"{row['late_over_early']:.2f}",
        f"{resident} MB",
        f"{held} MB",
    ]
