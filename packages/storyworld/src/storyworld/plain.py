"""Frames with flat colours (richness 0) or gradients and landmarks (richness 1). The camera stands still."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from storyworld.characters import FEET, PATCH, draw_character
from storyworld.motion import Motion, move
from storyworld.paint import Array
from storyworld.places import SIZE, Place, draw_colour, draw_distinct, draw_place
from storyworld.plan import StoryPlan
from storyworld.truth import DrawnTruth, signed


def draw_plain(
    seed: int, plan: StoryPlan, lengths: list[int], *, richness: int
) -> tuple[Float[Tensor, "3 t h w"], DrawnTruth]:
    """Draw every frame of a story.

    Args:
        seed: Seed of the story.
        plan: What happens in each chunk.
        lengths: Number of frames of each chunk.
        richness: 0 or 1.

    Returns:
        Frames in [-1, 1], and what is true of them.
    """
    rng = np.random.default_rng([seed, 2])
    body = draw_colour(rng, saturation=(0.6, 0.9), value=(0.65, 0.95))
    accent = draw_distinct(rng, [body], distance=0.35, saturation=(0.0, 0.35), value=(0.75, 0.95))
    ink = np.full(3, 0.15, dtype=np.float32)
    places = [
        draw_place(name, np.random.default_rng([seed, 3, i]), avoid=[body, accent], richness=richness)
        for i, name in enumerate(plan.places)
    ]
    motion = move(plan.chunks, lengths)
    backdrop = np.stack([p.picture for p in places])[np.repeat([chunk.place for chunk in plan.chunks], lengths)]
    colours = np.stack([body, accent if richness else body, ink])
    paint, alpha = draw_character(
        plan.species, colours=colours, facing=motion.facing, gait=motion.gait, offset=_subpixel(motion)
    )
    frames, subject = _composite(backdrop, paint, alpha, motion)
    truth = _drawn_truth(colours, places, motion, torch.from_numpy(subject > 0.5))
    return signed(frames).permute(3, 0, 1, 2).contiguous(), truth


def _drawn_truth(colours: Array, places: list[Place], motion: Motion, subject: Tensor) -> DrawnTruth:
    num_frames = len(subject)
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
        "light": torch.ones(num_frames, 3),
        "companion_mask": torch.zeros((), dtype=torch.bool).expand(num_frames, SIZE, SIZE),
        "companion_colours": -torch.ones(len(places), 3, 3),
        "scenes": (),
    }


def _subpixel(motion: Motion) -> Array:
    """[t, 2] how far the feet are right of and below the upper left corner of their pixel."""
    return np.stack([motion.x - np.floor(motion.x), motion.y - np.floor(motion.y)], 1)


def _composite(backdrop: Array, paint: Array, alpha: Array, motion: Motion) -> tuple[Array, Array]:
    """Lay the protagonist's patch over every frame; what lies outside the picture is cut off."""
    margin = PATCH
    left = np.floor(motion.x).astype(int) - PATCH // 2 + margin
    top = np.floor(motion.y).astype(int) - int(FEET) + margin
    padded = np.zeros((len(alpha), SIZE + 2 * margin, SIZE + 2 * margin, 4), dtype=np.float32)
    for t in range(len(alpha)):
        window = padded[t, top[t] : top[t] + PATCH, left[t] : left[t] + PATCH]
        window[..., :3], window[..., 3] = paint[t], alpha[t]
    layer = padded[:, margin:-margin, margin:-margin]
    subject = layer[..., 3]
    return backdrop * (1.0 - subject[..., None]) + layer[..., :3], subject
