"""Frames with gradients, shadows, daylight, a moving camera and companions: richness 2, all kinds of video."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from storyworld.daylight import draw_daylight
from storyworld.elements import ChunkPlan, StoryPlan
from storyworld.layers import SIZE
from storyworld.motion import BASELINE, STRIDE, Motion, follow, follow_walk, move
from storyworld.paint import Array
from storyworld.palettes import Palette
from storyworld.scenes import COMPANION_SCALE, Scene, draw_companion, draw_scene, draw_wide_place
from storyworld.shaded_characters import Look, Pose, draw_look, paint_character, paste, paste_shadow
from storyworld.truth import DrawnTruth, signed

_BREATH_SECONDS = 2.5
_BREATH = 0.03  # share of its height by which a breathing companion grows and shrinks


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    """All that is drawn: the places, the characters, and where they are in every frame."""

    protagonist: Look
    scenes: tuple[Scene, ...]
    companions: dict[str, Look]
    motion: Motion
    light: Array
    sun: int
    resolution: float
    """Pixels in a unit."""


def draw_shaded(
    seed: int, plan: StoryPlan, lengths: list[int], *, fps: int, size: int = SIZE
) -> tuple[Float[Tensor, "3 t h w"], DrawnTruth]:
    """Draw every frame of a video.

    Args:
        seed: Seed of the video.
        plan: What happens in each chunk.
        lengths: Number of frames of each chunk.
        fps: Frames per second.
        size: Height and width of the picture in pixels.

    Returns:
        Frames in [-1, 1], and what is true of them.
    """
    stage = _set_stage(seed, plan, lengths, fps=fps, size=size)
    frames = torch.empty(3, sum(lengths), size, size)
    subject = torch.empty(frames.shape[1:], dtype=torch.bool)
    companion = torch.empty_like(subject)
    first = 0
    for chunk, length in zip(plan.chunks, lengths, strict=True):
        part = slice(first, first + length)
        first += length
        picture, covered, other = _draw_chunk(stage, chunk, part, fps=fps)
        frames[:, part] = torch.from_numpy(picture).permute(2, 0, 1, 3)
        subject[part] = torch.from_numpy(covered > 0.5)
        companion[part] = torch.from_numpy(other * (1.0 - covered) > 0.5)
    return frames.mul_(2.0).sub_(1.0), _drawn_truth(stage, plan, subject, companion)


def _set_stage(seed: int, plan: StoryPlan, lengths: list[int], *, fps: int, size: int) -> _Stage:
    rng = np.random.default_rng([seed, 6])
    protagonist = draw_look(plan.species, rng, taken=np.ones((1, 3), dtype=np.float32), distance=0.0)
    sun = int(rng.choice([-1, 1]))
    motion = move(plan.chunks, lengths, take=plan.take)
    if plan.take == "walk":
        scenes = draw_wide_place(
            plan.setting, plan.places, np.random.default_rng([seed, 7]), protagonist=protagonist, sun=sun, size=size
        )
        motion = follow_walk(motion, plan.chunks[0].start, fps=fps)
    else:
        scenes = _draw_scenes(seed, plan, protagonist, sun, size)
    if plan.take == "story":
        motion = follow(motion, np.random.default_rng([seed, 8]), fps=fps)
    return _Stage(
        protagonist=protagonist,
        scenes=scenes,
        companions=_draw_companions(seed, plan, protagonist, scenes),
        motion=motion,
        light=draw_daylight(np.random.default_rng([seed, 9]), sum(lengths), fps=fps, slow=plan.take != "story"),
        sun=sun,
        resolution=size / SIZE,
    )


def _draw_scenes(seed: int, plan: StoryPlan, protagonist: Look, sun: int, size: int) -> tuple[Scene, ...]:
    scenes: list[Scene] = []
    palettes: list[Palette] = []
    stands = plan.inhabitants if plan.take == "story" else [None] * len(plan.places)
    for i, (name, companion) in enumerate(zip(plan.places, stands, strict=True)):
        scene = draw_scene(
            name,
            np.random.default_rng([seed, 7, i]),
            protagonist=protagonist,
            companion=companion,
            others=palettes,
            sun=sun,
            size=size,
        )
        scenes.append(scene)
        palettes.append(scene.palette)
    return tuple(scenes)


def _draw_companions(seed: int, plan: StoryPlan, protagonist: Look, scenes: tuple[Scene, ...]) -> dict[str, Look]:
    """The look of every companion, by species."""
    standing = [scene.inhabitant.look for scene in scenes if scene.inhabitant]
    palettes = [scene.palette for scene in scenes]
    passing = [
        draw_companion(species, np.random.default_rng([seed, 15, i]), protagonist=protagonist, palettes=palettes)
        for i, species in enumerate(plan.inhabitants)
        if not standing
    ]
    return {look.species: look for look in (*standing, *passing)}


def _draw_chunk(stage: _Stage, chunk: ChunkPlan, part: slice, *, fps: int) -> tuple[Array, Array, Array]:
    """The frames of a chunk, [t, h, 3, w], and how much of each pixel protagonist and companion cover."""
    scene, motion = stage.scenes[chunk.place], stage.motion
    picture = scene.background(motion.camera[part])
    other: Array = np.zeros((len(picture), *picture.shape[1::2]), dtype=np.float32)
    if chunk.companion:
        pose = _companion_pose(scene, chunk, motion.camera[part], part, fps)
        look = stage.companions[chunk.companion]
        other = _paint(picture, look, pose, stage, row=scene.companion_foot, scale=COMPANION_SCALE)
    pose = Pose(
        x=motion.x[part],
        y=motion.y[part],
        facing=motion.facing[part],
        gait=motion.gait[part],
        tall=np.ones_like(motion.x[part]),
    )
    covered = _paint(picture, stage.protagonist, pose, stage, row=BASELINE, scale=1.0)
    picture *= stage.light[part, None, :, None]
    return picture, covered, other


def _paint(picture: Array, look: Look, pose: Pose, stage: _Stage, *, row: float, scale: float) -> Array:
    """Paint a character and its shadow over a picture; returns how much of each pixel the character covers."""
    resolution, sun = stage.resolution, stage.sun
    paste_shadow(picture, x=pose.x, row=row, lift=row - pose.y, sun=sun, scale=scale, resolution=resolution)
    patch = paint_character(look, pose, sun=sun, scale=scale, resolution=resolution)
    return paste(picture, patch, pose, scale=scale, resolution=resolution)


def _companion_pose(scene: Scene, chunk: ChunkPlan, camera: Array, part: slice, fps: int) -> Pose:
    """Where a companion is: it stands at its place and breathes, or it passes by."""
    still = np.zeros(len(camera), dtype=np.float32)
    y = still + np.float32(scene.companion_foot)
    if chunk.crossing:
        start, end = chunk.crossing
        direction = 1.0 if end > start else -1.0
        x = (start + (end - start) * np.arange(1, len(camera) + 1) / len(camera)).astype(np.float32)
        gait = np.float32(STRIDE / COMPANION_SCALE * direction) * x
        return Pose(x=x, y=y, facing=still + np.float32(direction), gait=gait, tall=still + np.float32(1.0))
    stands = scene.inhabitant
    assert stands is not None  # the plan of a story meets only those who live there
    seconds = np.arange(part.start, part.stop, dtype=np.float32) / fps
    return Pose(
        x=(stands.x - stands.rate * camera).astype(np.float32),
        y=y,
        facing=still + np.float32(stands.facing),
        gait=still,
        tall=1.0 + np.float32(_BREATH) * np.sin(seconds * np.float32(2.0 * np.pi / _BREATH_SECONDS)),
    )


def _drawn_truth(stage: _Stage, plan: StoryPlan, subject: Tensor, companion: Tensor) -> DrawnTruth:
    scenes, motion, protagonist = stage.scenes, stage.motion, stage.protagonist
    palettes = [scene.palette for scene in scenes]
    middles = [np.full(1, scene.middle, dtype=np.float32) for scene in scenes]
    looks = [stage.companions[species].colours for species in plan.inhabitants]
    backgrounds = np.concatenate([s.background(at) for s, at in zip(scenes, middles, strict=True)])
    return {
        "position": torch.from_numpy(np.stack([motion.x, motion.y], 1)),
        "subject": subject,
        "subject_colours": signed(protagonist.colours),
        "pattern": protagonist.pattern,
        "marking": signed(protagonist.marking),
        "sky": signed(np.stack([p.sky for p in palettes])),
        "ground": signed(np.stack([p.ground for p in palettes])),
        "landmark": signed(np.stack([np.stack([p.main, p.detail]) for p in palettes])),
        "backgrounds": signed(backgrounds.transpose(0, 2, 1, 3)),
        "regions": torch.from_numpy(np.concatenate([s.regions(at) for s, at in zip(scenes, middles, strict=True)])),
        "camera": torch.from_numpy(motion.camera),
        "light": torch.from_numpy(stage.light),
        "companion_mask": companion,
        "companion_colours": signed(np.stack(looks)) if looks else torch.zeros(0, 3, 3),
        "scenes": scenes,
    }
