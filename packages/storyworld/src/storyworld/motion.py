"""The position of the protagonist and of the camera in every frame."""

from dataclasses import dataclass, replace

import numpy as np

from storyworld.elements import LEFTMOST, RIGHTMOST, SCREEN, ChunkPlan
from storyworld.paint import Array

BASELINE = 55.0
"""Row of the protagonist's feet, in units."""

STRIDE = 0.4
"""Radians of gait for each unit walked."""

_HOPS = {"story": 9.0, "place": 7.0, "walk": 9.0}  # height of a jump in units; at 7 it moves as much as a short walk
_PACE = 5.0  # units that the protagonist goes to either side when it paces
_FOLLOW = 0.4  # units that the camera moves for each unit that the protagonist walks in the picture
_DRIFT = 1.2  # units by which the camera sways
_SWAY_SECONDS = 15.0, 25.0
_LAG_SECONDS = 0.75  # by which the camera of a walk follows later


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """The protagonist and the camera in every frame."""

    x: Array
    """[t] column of the protagonist's feet in the picture, in units."""
    y: Array
    """[t] row of its feet, in units."""
    gait: Array
    """[t] phase of its walk in radians."""
    facing: Array
    """[t] 1 looks right, -1 left."""
    camera: Array
    """[t] how far the camera has moved to the right, in units of the ground that the protagonist walks on."""


def move(chunks: tuple[ChunkPlan, ...], lengths: list[int], *, take: str = "story") -> Motion:
    """Motion as planned, seen by a camera that stands still.

    Args:
        chunks: What happens in each chunk.
        lengths: Number of frames of each chunk.
        take: Kind of the video, one of ``TAKES``.
    """
    parts: list[dict[str, Array]] = []
    facing, phase = float(chunks[0].direction or 1), 0.0
    for chunk, length in zip(chunks, lengths, strict=True):
        done = np.arange(1, length + 1, dtype=np.float32) / length
        facing = float(chunk.direction) if chunk.direction else facing
        x: Array = chunk.start + (chunk.end - chunk.start) * done
        looks: Array = np.full(length, facing)
        walked: Array = np.abs(x - chunk.start)
        if chunk.action == "pace":
            x, looks, walked = _pace(x, done, facing)
            facing = float(looks[-1])
        gait = phase + STRIDE * walked
        hop = _HOPS[take] * np.abs(np.sin(2.0 * np.pi * done)) if chunk.action == "jump" else np.zeros_like(done)
        parts.append({"x": x, "y": BASELINE - hop, "gait": gait, "facing": looks})
        phase = float(gait[-1])
    joined = {name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in parts[0]}
    return Motion(**joined, camera=np.zeros_like(joined["x"]))


def follow(motion: Motion, rng: np.random.Generator, *, fps: int) -> Motion:
    """The same motion seen by a camera that moves along with the protagonist and sways a little.

    The camera's position depends on the protagonist's: when the protagonist comes back to a spot of a place, the
    picture shows the same part of the place again. Within a stay the camera never jumps.
    """
    period, start = rng.uniform(*_SWAY_SECONDS), rng.uniform(0.0, 2.0 * np.pi)
    sway = _DRIFT * np.sin(2.0 * np.pi * np.arange(len(motion.x)) / (fps * period) + start)
    along = _FOLLOW * (motion.x - (LEFTMOST + RIGHTMOST) / 2)
    return replace(
        motion,
        x=(motion.x - sway).astype(np.float32),
        gait=motion.gait * np.float32(1.0 + _FOLLOW),  # the ground passes faster than the picture shows
        camera=(along + sway).astype(np.float32),
    )


def follow_walk(motion: Motion, start: float, *, fps: int) -> Motion:
    """The same motion, in columns of the world, seen by a camera that follows the protagonist a little later.

    Args:
        motion: The motion as planned.
        start: Column of the protagonist before the first frame.
        fps: Frames per second.
    """
    share = 1.0 - np.exp(-1.0 / (_LAG_SECONDS * fps))
    camera, at = np.empty(len(motion.x)), start - SCREEN / 2
    for t, x in enumerate(motion.x.tolist()):
        at += share * (x - SCREEN / 2 - at)
        camera[t] = at
    return replace(motion, x=(motion.x - camera).astype(np.float32), camera=camera.astype(np.float32))


def _pace(x: Array, done: Array, facing: float) -> tuple[Array, Array, Array]:
    """Columns, facing and way walked of a protagonist that goes a few steps to either side and back."""
    side = np.sin(2.0 * np.pi * done)
    quarter = np.minimum(np.floor(4.0 * done), 3.0)
    walked = quarter + np.where(quarter % 2 == 0, np.abs(side), 1.0 - np.abs(side))
    looks = np.where((quarter == 1) | (quarter == 2), -facing, facing)
    return x + facing * _PACE * side, looks, _PACE * walked
