"""True videos of the synthetic world, and the protagonist of another video to swap in."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from storyworld import TAKES, StoryVideo, Truth, plan_story, render

FIRST_SEED = 4_000_000
"""Seed of the first video. Seeds from 1,000,000 on are never trained on."""
FIRST_DONOR = 500_000
"""How far from a video's seed the search for another protagonist begins."""
FPS = 8
"""Frames per second."""
RICHNESS = 2
"""Richness of the videos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """A true video."""

    frames: UInt8[Tensor, "t h w 3"]
    """RGB, 0 to 255."""
    truth: Truth
    """What the frames show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """How long a video is."""

    num_chunks: int
    """Number of chunks."""
    first_chunk_frames: int
    """Frames of the first chunk."""
    chunk_frames: int
    """Frames of every later chunk."""


def load_take(kind: str, seed: int, *, size: int, length: Length) -> Take:
    """Render a video.

    Args:
        kind: story, place or walk.
        seed: Its seed.
        size: Height and width in pixels.
        length: Number of chunks and frames.
    """
    video: StoryVideo = render(
        seed,
        length.num_chunks,
        take=kind,  # type: ignore[arg-type]  # checked by render
        first_chunk_frames=length.first_chunk_frames,
        chunk_frames=length.chunk_frames,
        richness=RICHNESS,
        size=size,
    )
    return Take(frames=bytes_of(video.frames), truth=video.truth)


def donor_seed(kind: str, seed: int) -> int:
    """The seed of a video of the same kind whose protagonist is of another species."""
    own = plan_story(seed, 1, take=kind).species
    return next(
        other
        for other in range(seed + FIRST_DONOR, seed + FIRST_DONOR + 1000)
        if plan_story(other, 1, take=kind).species != own
    )


def bytes_of(pixels: Float[Tensor, "3 t h w"]) -> UInt8[Tensor, "t h w 3"]:
    """Pixels in [-1, 1] as bytes."""
    return ((pixels + 1) * 127.5).round_().clamp_(0, 255).byte().permute(1, 2, 3, 0).contiguous()


def facing(truth: Truth) -> list[int]:
    """Where the protagonist looks in each chunk: 1 right, -1 left. The first chunk of every video is a walk."""
    looks, found = 1, []
    for direction in truth.direction.tolist():
        looks = direction or looks
        found.append(looks)
    return found


def starts(truth: Truth) -> list[int]:
    """The first frame of each chunk, and the number of frames."""
    counts = torch.bincount(truth.chunk_of_frame)
    return [0, *counts.cumsum(0).tolist()]


def whole(subject: Bool[Tensor, "t h w"]) -> Bool[Tensor, " t"]:
    """Whether a frame shows the protagonist, and shows all of it: its mask touches no side of the picture."""
    rim = torch.ones(subject.shape[1:], dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    return subject.any(2).any(1) & ~(subject & rim).any(2).any(1)


@lru_cache(maxsize=1)
def world_digest() -> str:
    """First digits of the SHA-256 of some small pictures of every kind: figures of another world do not compare."""
    digest = hashlib.sha256()
    for kind in TAKES:
        few = Length(num_chunks=4, first_chunk_frames=5, chunk_frames=8)
        digest.update(load_take(kind, FIRST_SEED, size=32, length=few).frames.numpy().tobytes())
    return digest.hexdigest()[:12]
