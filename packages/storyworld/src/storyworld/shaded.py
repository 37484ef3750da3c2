"""Frames with gradients, shadows, daylight, a panning camera and companions: richness 2."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from storyworld.daylight import draw_daylight
from storyworld.motion import BASELINE, Motion, follow, move
from storyworld.paint import Array
from storyworld.palettes import Palette
from storyworld.plan import StoryPlan
from storyworld.scenes import COMPANION_SCALE, Inhabitant, Scene, draw_scene
from storyworld.shaded_characters import Look, Pose, draw_look, paint_character, paste, paste_shadow
from storyworld.truth import DrawnTruth, signed

_BREATH_SECONDS = 2.5
_BREATH = 0.03  # share of its height by which a breathing companion grows and shrinks


def draw_shaded(
    seed: int, plan: StoryPlan, lengths: list[int], *, fps: int
) -> tuple[Float[Tensor, "3 t h w"], DrawnTruth]:
    """Draw every frame of a story.

    Args:
        seed: Seed of the story.
        plan: What happens in each chunk.
        lengths: Number of frames of each chunk.
        fps: Frames per second.

    Returns:
        Frames in [-1, 1], and what is true of them.
    """
    rng = np.random.default_rng([seed, 6])
    protagonist = draw_look(plan.species, rng, taken=np.ones((1, 3), dtype=np.float32), distance=0.0)
    sun = int(rng.choice([-1, 1]))
    scenes = _draw_scenes(seed, plan, protagonist, sun)
    motion = follow(move(plan.chunks, lengths), np.random.default_rng([seed, 8]), fps=fps)
    light = draw_daylight(np.random.default_rng([seed, 9]), sum(lengths), fps=fps)
    pictures, subjects, companions = [], [], []
    first = 0
    for chunk, length in zip(plan.chunks, lengths, strict=True):
        part = slice(first, first + length)
        first += length
        scene = scenes[chunk.place]
        picture = scene.background(motion.camera[part])
        other: Array = np.zeros((length, *picture.shape[1::2]), dtype=np.float32)
        if chunk.companion:
            seconds = np.arange(part.start, part.stop, dtype=np.float32) / fps
            other = _paint_companion(picture, scene.inhabitant, motion.camera[part], seconds, sun)
        subject = _paint_protagonist(picture, protagonist, motion, part, sun)
        picture *= light[part, None, :, None]
        pictures.append(picture)
        subjects.append(subject > 0.5)
        companions.append(other * (1.0 - subject) > 0.5)
    frames = torch.from_numpy(np.concatenate(pictures)).permute(2, 0, 1, 3).contiguous().mul_(2.0).sub_(1.0)
    masks = torch.from_numpy(np.concatenate(subjects)), torch.from_numpy(np.concatenate(companions))
    return frames, _drawn_truth(protagonist, scenes, motion, light, *masks)


def _draw_scenes(seed: int, plan: StoryPlan, protagonist: Look, sun: int) -> tuple[Scene, ...]:
    scenes: list[Scene] = []
    palettes: list[Palette] = []
    for i, (name, companion) in enumerate(zip(plan.places, plan.inhabitants, strict=True)):
        rng = np.random.default_rng([seed, 7, i])
        scenes.append(draw_scene(name, rng, protagonist=protagonist, companion=companion, others=palettes, sun=sun))
        palettes.append(scenes[-1].palette)
    return tuple(scenes)


def _paint_protagonist(picture: Array, look: Look, motion: Motion, part: slice, sun: int) -> Array:
    """Paint the protagonist and its shadow over a picture [t, h, 3, w]; returns how much of each pixel it covers."""
    pose = Pose(
        x=motion.x[part],
        y=motion.y[part],
        facing=motion.facing[part],
        gait=motion.gait[part],
        tall=np.ones_like(motion.x[part]),
    )
    paste_shadow(picture, x=pose.x, row=BASELINE, lift=BASELINE - pose.y, sun=sun)
    return paste(picture, paint_character(look, pose, sun=sun), pose)


def _paint_companion(picture: Array, companion: Inhabitant, camera: Array, seconds: Array, sun: int) -> Array:
    """Paint a companion, which stands and breathes, and its shadow; returns how much of each pixel it covers."""
    x = (companion.x - companion.rate * camera).astype(np.float32)
    still = np.zeros_like(x)
    pose = Pose(
        x=x,
        y=still + np.float32(companion.y),
        facing=still + np.float32(companion.facing),
        gait=still,
        tall=1.0 + np.float32(_BREATH) * np.sin(seconds * np.float32(2.0 * np.pi / _BREATH_SECONDS)),
    )
    paste_shadow(picture, x=x, row=companion.y, lift=still, sun=sun, scale=COMPANION_SCALE)
    patch = paint_character(companion.look, pose, sun=sun, scale=COMPANION_SCALE)
    return paste(picture, patch, pose, scale=COMPANION_SCALE)


def _drawn_truth(
    protagonist: Look, scenes: tuple[Scene, ...], motion: Motion, light: Array, subject: Tensor, companion: Tensor
) -> DrawnTruth:
    middle = np.zeros(1, dtype=np.float32)  # the camera's position
    palettes = [scene.palette for scene in scenes]
    return {
        "position": torch.from_numpy(np.stack([motion.x, motion.y], 1)),
        "subject": subject,
        "subject_colours": signed(protagonist.colours),
        "pattern": protagonist.pattern,
        "marking": signed(protagonist.marking),
        "sky": signed(np.stack([p.sky for p in palettes])),
        "ground": signed(np.stack([p.ground for p in palettes])),
        "landmark": signed(np.stack([np.stack([p.main, p.detail]) for p in palettes])),
        "backgrounds": signed(np.concatenate([s.background(middle) for s in scenes]).transpose(0, 2, 1, 3)),
        "regions": torch.from_numpy(np.concatenate([s.regions(middle) for s in scenes])),
        "camera": torch.from_numpy(motion.camera),
        "light": torch.from_numpy(light),
        "companion_mask": companion,
        "companion_colours": signed(np.stack([scene.inhabitant.look.colours for scene in scenes])),
        "scenes": scenes,
    }
