"""Frames with flat colours (richness 0) or gradients and landmarks (richness 1). The camera stands still."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from storyworld.characters import draw_character, feet, inside
from storyworld.elements import StoryPlan
from storyworld.layers import SIZE
from storyworld.motion import Motion, move
from storyworld.paint import Array
from storyworld.places import Place, draw_colour, draw_distinct, draw_place
from storyworld.truth import DrawnTruth, signed


def draw_plain(
    seed: int, plan: StoryPlan, lengths: list[int], *, richness: int, size: int = SIZE
) -> tuple[Float[Tensor, "3 t h w"], DrawnTruth]:
    """Draw every frame of a story.

    Args:
        seed: Seed of the story.
        plan: What happens in each chunk.
        lengths: Number of frames of each chunk.
        richness: 0 or 1.
        size: Height and width of the picture in pixels.

    Returns:
        Frames in [-1, 1], and what is true of them.
    """
    rng = np.random.default_rng([seed, 2])
    body = draw_colour(rng, saturation=(0.6, 0.9), value=(0.65, 0.95))
    accent = draw_distinct(rng, [body], distance=0.35, saturation=(0.0, 0.35), value=(0.75, 0.95))
    ink = np.full(3, 0.15, dtype=np.float32)
    places = [
        draw_place(name, np.random.default_rng([seed, 3, i]), avoid=[body, accent], richness=richness, size=size)
        for i, name in enumerate(plan.places)
    ]
    motion = move(plan.chunks, lengths)
    frames = np.stack([p.picture for p in places])[np.repeat([chunk.place for chunk in plan.chunks], lengths)]
    colours = np.stack([body, accent if richness else body, ink])
    resolution = size / SIZE
    at = np.stack([motion.x, motion.y], 1) * np.float32(resolution)
    paint, alpha = draw_character(
        plan.species,
        colours=colours,
        facing=motion.facing,
        gait=motion.gait,
        offset=at - np.floor(at),
        scale=resolution,
    )
    subject = _composite(frames, paint, alpha, np.floor(at).astype(int), feet(resolution))
    truth = _drawn_truth(colours, places, motion, torch.from_numpy(subject > 0.5))
    return signed(frames).permute(3, 0, 1, 2).contiguous(), truth


def _drawn_truth(colours: Array, places: list[Place], motion: Motion, subject: Tensor) -> DrawnTruth:
    return {
        "position": torch.from_numpy(np.stack([motion.x, motion.y], 1)),
        "subject": subject,
        "subject_colours": signed(colours),
        "pattern": "plain",
        "marking": signed(colours[0]),
        "sky": signed(np.stack([p.sky for p in places])),
        "ground": signed(np.stack([p.ground for p in places])),
        "landmark": signed(np.stack([p.landmark for p in places])),
        "backgrounds": signed(np.stack([p.picture for p in places])).permute(0, 3, 1, 2).contiguous(),
        "regions": torch.from_numpy(np.stack([p.region for p in places])),
        "camera": torch.from_numpy(motion.camera),
        "light": torch.ones(len(subject), 3),
        "companion_mask": torch.zeros((), dtype=torch.bool).expand(subject.shape),
        "companion_colours": -torch.ones(len(places), 3, 3),
        "scenes": (),
    }


def _composite(frames: Array, paint: Array, alpha: Array, at: NDArray[np.int64], feet: float) -> NDArray[np.float32]:
    """Lay the protagonist's patch over every frame, in place, with its feet at [t, 2]; what lies outside is cut off.

    Returns:
        [t, h, w] how much of each pixel the protagonist covers.
    """
    size, side = frames.shape[1], alpha.shape[1]
    covered = np.zeros(frames.shape[:3], dtype=np.float32)
    for t, (column, row) in enumerate((at - (side // 2, int(feet))).tolist()):
        rows, columns = inside(row, side, size), inside(column, side, size)
        seen = slice(rows.start - row, rows.stop - row), slice(columns.start - column, columns.stop - column)
        frames[t, rows, columns] *= 1.0 - alpha[t][seen][..., None]
        frames[t, rows, columns] += paint[t][seen]
        covered[t, rows, columns] = alpha[t][seen]
    return covered
