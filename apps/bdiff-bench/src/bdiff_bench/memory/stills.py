"""Stills of the videos: the middle frame of every chunk, and a picture of returns beside the first visits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storyworld
from bdiff.files import whole_file
from bdiff_bench.harness.plots import BACKGROUND, save_figure
from bdiff_bench.memory.visits import Return, first_visits, returns
from bdiff_train.transformer import FIRST_STORY
from storyworld import plan_story

_MAX_RETURNS, _MAX_ARMS = 4, 5
_INK, _FAINT = "#1d1f23", "#7a7d85"
_CELL, _GAP, _LEFT, _TOP = 1.2, 0.05, 1.1, 0.6  # inches
_PAIR = 2 * _CELL + 5 * _GAP


def still_path(out: Path, *, arm: str, story: int, seed: int, mode: str) -> Path:
    """The file of a video's stills in the folder of a bench."""
    return out / "stills" / arm / f"{mode}-{story}-{seed}.png"


def save_stills(file: Path, frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> None:
    """Write the middle frame of every chunk, side by side."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial:
        Image.fromarray(np.concatenate(list(middle_frames(frames, story)), axis=1)).save(partial, format="png")


def draw_returns(file: Path, summary: dict[str, Any]) -> bool:
    """Draw the longest returns of one story, each beside the first visit: the truth above, the arms' videos below.

    Args:
        file: The PNG; the bench's ``stills`` lie beside it.
        summary: What `bench_memory` returns.

    Returns:
        False, and no picture, if no story comes back to a place.
    """
    config, mode = summary["config"], next(iter(summary["figures"]))
    story, shown = _story_to_show(config["num_stories"], config["num_chunks"])
    if not shown:
        return False
    length = 4 * config["sampling"]["latent_frames"]
    truth = storyworld.render(
        story,
        config["num_chunks"],
        first_chunk_frames=length - 3,
        chunk_frames=length,
        richness=config["sampling"]["richness"],
    )
    rows = {"truth": middle_frames(truth.frames, truth)}
    for label in list(summary["arms"])[:_MAX_ARMS]:
        stills = still_path(file.parent, arm=label, story=story, seed=0, mode=mode)
        rows[label] = load_stills(stills, config["num_chunks"])
    first = first_visits(truth.truth.place.tolist())
    pairs = [
        _Pair(name=truth.truth.places[back.place], first=first[back.place].start, chunk=back.chunk, gap=back.gap)
        for back in shown
    ]
    _draw_grid(file, rows, pairs)
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A place on its first visit and on a return."""

    name: str
    first: int
    chunk: int
    gap: int


def _story_to_show(num_stories: int, num_chunks: int) -> tuple[int, list[Return]]:
    """The story with the longest absences, and the chunks that end them."""
    stories = range(FIRST_STORY, FIRST_STORY + num_stories)
    found = {story: _longest_returns(story, num_chunks) for story in stories}
    story = max(found, key=lambda seed: sum(back.gap for back in found[seed]))
    return story, found[story]


def _longest_returns(story: int, num_chunks: int) -> list[Return]:
    """For each place the chunk that ends its longest absence; the longest few, in order of chunks."""
    longest: dict[int, Return] = {}
    for back in returns([chunk.place for chunk in plan_story(story, num_chunks).chunks]):
        if back.gap > 1 and (back.place not in longest or back.gap > longest[back.place].gap):
            longest[back.place] = back
    chosen = sorted(longest.values(), key=lambda back: -back.gap)[:_MAX_RETURNS]
    return sorted(chosen, key=lambda back: back.chunk)


def _draw_grid(file: Path, rows: dict[str, UInt8[np.ndarray, "chunks h w 3"]], pairs: list[_Pair]) -> None:
    """Draw a row for each video, two columns for each pair."""
    from matplotlib.figure import Figure

    width = _LEFT + len(pairs) * _PAIR
    height = _TOP + len(rows) * (_CELL + _GAP) + _GAP
    figure = Figure(figsize=(width, height), dpi=160, facecolor=BACKGROUND)
    tops = [height - _TOP - row * (_CELL + _GAP) for row in range(len(rows))]
    for (label, stills), top in zip(rows.items(), tops, strict=True):
        middle = (top - _CELL / 2) / height
        figure.text((_LEFT - 0.1) / width, middle, label, ha="right", va="center", fontsize=10, color=_INK)
        for number, pair in enumerate(pairs):
            for side, chunk in enumerate((pair.first, pair.chunk)):
                x = _LEFT + number * _PAIR + side * (_CELL + _GAP)
                box = (x / width, (top - _CELL) / height, _CELL / width, _CELL / height)
                axes = figure.add_axes(box)
                axes.imshow(stills[chunk], interpolation="nearest")
                axes.set_axis_off()
    for number, pair in enumerate(pairs):
        x, above = (_LEFT + number * _PAIR), height - _TOP
        figure.text(x / width, (above + 0.26) / height, pair.name, fontsize=11, color=_INK)
        for side, words in enumerate((f"chunk {pair.first}", f"chunk {pair.chunk}, gap {pair.gap}")):
            at = (x + side * (_CELL + _GAP)) / width
            figure.text(at, (above + 0.07) / height, words, fontsize=8, color=_FAINT)
    save_figure(figure, file)


def middle_frames(frames: Float[Tensor, "3 t h w"], story: storyworld.StoryVideo) -> UInt8[np.ndarray, "chunks h w 3"]:
    """The middle frame of every chunk."""
    lengths = torch.tensor(story.chunk_frames)
    middle = frames[:, lengths.cumsum(0) - lengths // 2 - 1].permute(1, 2, 3, 0)
    return middle.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def load_stills(file: Path, count: int) -> UInt8[np.ndarray, "chunks h w 3"]:
    """Read what `save_stills` wrote of a video of so many chunks."""
    from PIL import Image

    with Image.open(file) as image:
        return np.stack(np.split(np.asarray(image.convert("RGB")), count, axis=1))
