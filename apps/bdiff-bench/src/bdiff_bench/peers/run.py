"""The bench itself, from the first video to the page."""

import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from bdiff.files import write_whole
from bdiff_bench.harness.jobs import append_lines, read_lines
from bdiff_bench.harness.machine import describe_device, describe_machine
from bdiff_bench.harness.result_page import write_page
from bdiff_bench.peers.config import PEERS, YARDSTICK, PeersConfig
from bdiff_bench.peers.figures import summarise
from bdiff_bench.peers.page import peers_parts
from bdiff_bench.peers.plots import draw
from bdiff_bench.peers.rounds import run_rounds
from bdiff_bench.peers.shapes import SHAPES, PeerShape
from bdiff_core import costs


def bench_peers(config: PeersConfig, *, on_video: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, Any]:
    """Make the videos that are missing, write figures.json, page.md and plots; returns the figures.

    Args:
        config: The comparison.
        on_video: Called with the line of every video.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(config.out / "recipe.json", json.dumps(check(config), indent=2) + "\n")
    file = config.out / "films.jsonl"
    started = time.monotonic()
    for place, name in enumerate(config.shapes, start=1):
        minutes = float("inf") if config.minutes is None else config.minutes
        deadline = started + 60 * minutes * place / len(
            config.shapes
        )  # time that one shape leaves over is for the next
        done = {(line["contestant"], line["round"]) for line in read_lines(file) if line["shape"] == name}
        for line in append_lines(file, run_rounds(config, name, done, deadline=deadline)):
            on_video(line)
    figures = figures_of(config, read_lines(file))
    write_whole(config.out / "figures.json", json.dumps(figures, indent=2) + "\n")
    page = config.out / "page.md"
    write_page(page, peers_parts(figures, pictures=draw(page, figures)), title="Speed beside diffusers")
    return figures


def check(config: PeersConfig) -> dict[str, Any]:
    """The recipe of a comparison, if it can be run.

    Raises:
        ValueError: If diffusers is needed and missing, or the folder holds videos of another recipe.
    """
    named = [name for name in config.contestants if name in PEERS]
    if named and find_spec("diffusers") is None:
        raise ValueError(
            f"{', '.join(named)} need diffusers: pip install diffusers, or leave them out with --contestant"
        )
    machine = describe_machine() | describe_device(config.device)
    recipe: dict[str, Any] = {**config.recipe, "machine": machine}
    file = config.out / "recipe.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else recipe
    for part, there in ((recipe, known), (machine, known.get("machine", {}))):
        for name, value in part.items():
            if name not in ("machine", "commit") and there.get(name) != value:
                raise ValueError(
                    f"{config.out} holds videos with {name} {there.get(name)}; this run has {value}: give another --out"
                )
    return recipe


def figures_of(config: PeersConfig, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the lines there are, for the shapes and contestants that are asked for."""
    machine = describe_machine() | describe_device(config.device)
    if config.threads is not None:
        machine["threads"] = config.threads
    shapes = {}
    for name in config.shapes:
        wanted = (YARDSTICK, *config.contestants)
        mine = [line for line in lines if line["shape"] == name and line["contestant"] in wanted]
        if mine:
            shape = SHAPES[name]()
            shapes[name] = _described(config, shape) | summarise(mine, setting=_described(config, shape), name=name)
    return {"config": config.recipe | {"repeats": config.repeats}, "machine": machine, "shapes": shapes}


def _described(config: PeersConfig, shape: PeerShape) -> dict[str, Any]:
    steps, sizes = config.steps_of(shape.steps), shape.config
    dtype = getattr(torch, config.dtype)
    return {
        "title": shape.title,
        "parameters": costs.num_parameters(sizes),
        "weight_bytes": costs.num_parameters(sizes) * dtype.itemsize,
        "token_bytes": 2 * sizes.dim * dtype.itemsize,
        "sizes": {name: getattr(sizes, name) for name in ("dim", "num_layers", "num_heads", "ffn_dim", "text_length")},
        "chunk": {"frames": shape.chunk.frames, "height": shape.chunk.height, "width": shape.chunk.width},
        "tokens": shape.tokens,
        "steps": steps,
        "lag": config.lag_of(steps),
        "num_chunks": config.num_chunks,
        "context": config.context,
    }
