"""The position of the protagonist and of the camera in every frame."""

from dataclasses import dataclass, replace

import numpy as np

from storyworld.paint import Array
from storyworld.plan import LEFTMOST, RIGHTMOST, ChunkPlan

BASELINE = 55.0
"""Row of the protagonist's feet."""

_HOP = 9.0  # height of a jump in pixels
_STRIDE = 0.4  # radians of gait for each pixel walked
_FOLLOW = 0.4  # pixels that the camera moves for each pixel that the protagonist walks in the picture
_DRIFT = 1.2  # pixels by which the camera sways
_SWAY_SECONDS = 15.0, 25.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """The protagonist and the camera in every frame."""

    x: Array
    """[t] column of the protagonist's feet in the picture."""
    y: Array
    """[t] row of its feet."""
    gait: Array
    """[t] phase of its walk in radians."""
    facing: Array
    """[t] 1 looks right, -1 left."""
    camera: Array
    """[t] how far the camera has moved to the right, in pixels of the ground that the protagonist walks on."""


def move(chunks: tuple[ChunkPlan, ...], lengths: list[int]) -> Motion:
    """Motion as planned, seen by a camera that stands still.

    Args:
        chunks: What happens in each chunk.
        lengths: Number of frames of each chunk.
    """
    parts: list[dict[str, Array]] = []
    facing, phase = float(chunks[0].direction or 1), 0.0
    for chunk, length in zip(chunks, lengths, strict=True):
        done = np.arange(1, length + 1, dtype=np.float32) / length
        facing = float(chunk.direction) if chunk.direction else facing
        x = chunk.start + (chunk.end - chunk.start) * done
        gait = phase + _STRIDE * np.abs(x - chunk.start)
        hop = _HOP * np.abs(np.sin(2.0 * np.pi * done)) if chunk.action == "jump" else np.zeros_like(done)
        parts.append({"x": x, "y": BASELINE - hop, "gait": gait, "facing": np.full(length, facing)})
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
