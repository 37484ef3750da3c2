"""Rendering a story: pictures, captions and the truth about both."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from lvbench.storyworld.actors import FEET, PATCH, draw_actor
from lvbench.storyworld.paint import Array
from lvbench.storyworld.places import SIZE, draw_colour, draw_distinct, draw_place
from lvbench.storyworld.plot import Beat, write_plot

FPS = 8
"""Frames per second of every story."""

BASELINE = 55.0
"""Row of the protagonist's feet."""

_HOP = 9.0  # height of a jump in pixels
_STRIDE = 0.4  # radians of gait for each pixel walked


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What is known about a story because it was drawn, not filmed.

    Regions number 0 sky, 1 ground, 2 landmark and 255 where a pixel belongs to several of them.
    """

    species: str
    places: tuple[str, ...]
    """Names of the story's places."""
    place: Int[Tensor, " chunks"]
    """Index of the place each chunk ends in."""
    direction: Int[Tensor, " chunks"]
    """1 right, -1 left, 0 on the spot."""
    arrives: Bool[Tensor, " chunks"]
    """Whether the chunk shows another place than the one before it."""
    actions: tuple[str, ...]
    """walk, stand or jump, per chunk."""
    chunk_of_frame: Int[Tensor, " t"]
    position: Float[Tensor, "t 2"]
    """Feet of the protagonist, (x, y) in pixels."""
    subject: Bool[Tensor, "t h w"]
    """Pixels at least half covered by the protagonist."""
    visible: Bool[Tensor, " t"]
    """The protagonist covers at least 40 pixels."""
    subject_colours: Float[Tensor, "3 3"]
    """RGB in [-1, 1] of body, accent and ink."""
    sky: Float[Tensor, "places 3"]
    ground: Float[Tensor, "places 3"]
    landmark: Float[Tensor, "places 2 3"]
    backgrounds: Float[Tensor, "places 3 h w"]
    """Each place without its visitor, in [-1, 1]."""
    regions: UInt8[Tensor, "places h w"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryVideo:
    """A rendered story."""

    frames: Float[Tensor, "3 t h w"]
    """RGB in [-1, 1]."""
    captions: tuple[str, ...]
    """One a chunk; they name protagonist, action, direction and place, and never a colour."""
    chunk_frames: tuple[int, ...]
    """Frames of each chunk."""
    fps: int
    truth: Truth


def render(
    seed: int, num_chunks: int, *, first_chunk_frames: int = 17, chunk_frames: int = 20, richness: int = 1
) -> StoryVideo:
    """Render the story of ``seed``: a protagonist travels between a few places and comes back to them.

    Colours, horizon and landmarks of a place and the look of the protagonist are drawn per video and are not in the
    captions: only who remembers the first visit can draw the second. A pure function of its arguments; the first
    chunks of a longer story are the shorter story.

    Args:
        seed: Any non-negative integer.
        num_chunks: Number of chunks, at least 1.
        first_chunk_frames: Frames of the first chunk (a causal video autoencoder wants 4n - 3).
        chunk_frames: Frames of every later chunk.
        richness: 0 flat colours; 1 gradients and landmarks.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(seed, num_chunks, first_chunk_frames, chunk_frames, richness)
    plot = write_plot(seed, num_chunks)
    lengths = [first_chunk_frames] + [chunk_frames] * (num_chunks - 1)
    rng = np.random.default_rng([seed, 2])
    body = draw_colour(rng, saturation=(0.6, 0.9), value=(0.65, 0.95))
    accent = draw_distinct(rng, [body], distance=0.35, saturation=(0.0, 0.35), value=(0.75, 0.95))
    ink = np.full(3, 0.15, dtype=np.float32)
    places = [
        draw_place(name, np.random.default_rng([seed, 3, i]), avoid=[body, accent], richness=richness)
        for i, name in enumerate(plot.places)
    ]
    motion = _motion(plot.beats, lengths)
    backdrop = np.stack([p.picture for p in places])[np.repeat([beat.place for beat in plot.beats], lengths)]
    colours = np.stack([body, accent if richness else body, ink])
    paint, alpha = draw_actor(
        plot.species, colours=colours, facing=motion["facing"], gait=motion["gait"], offset=_subpixel(motion)
    )
    frames, subject = _composite(backdrop, paint, alpha, motion)
    return StoryVideo(
        frames=_signed(frames).permute(3, 0, 1, 2).contiguous(),
        captions=tuple(beat.caption for beat in plot.beats),
        chunk_frames=tuple(lengths),
        fps=FPS,
        truth=Truth(
            species=plot.species,
            places=plot.places,
            place=torch.tensor([beat.place for beat in plot.beats]),
            direction=torch.tensor([beat.direction for beat in plot.beats]),
            arrives=torch.tensor([beat.arrives for beat in plot.beats]),
            actions=tuple(beat.action for beat in plot.beats),
            chunk_of_frame=torch.from_numpy(np.repeat(np.arange(num_chunks), lengths)),
            position=torch.from_numpy(np.stack([motion["x"], motion["y"]], 1)),
            subject=torch.from_numpy(subject > 0.5),
            visible=torch.from_numpy((subject > 0.5).sum((1, 2)) >= 40),
            subject_colours=_signed(colours),
            sky=_signed(np.stack([p.sky for p in places])),
            ground=_signed(np.stack([p.ground for p in places])),
            landmark=_signed(np.stack([p.landmark for p in places])),
            backgrounds=_signed(np.stack([p.picture for p in places])).permute(0, 3, 1, 2).contiguous(),
            regions=torch.from_numpy(np.stack([p.region for p in places])),
        ),
    )


def _check(seed: int, num_chunks: int, first_chunk_frames: int, chunk_frames: int, richness: int) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a non-negative integer")
    if num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; a story has at least 1 chunk")
    if min(first_chunk_frames, chunk_frames) < 4:
        raise ValueError(f"chunks of {first_chunk_frames} and {chunk_frames} frames; a chunk needs at least 4 frames")
    if richness not in (0, 1):
        raise ValueError(f"richness is {richness}; expected 0 (flat colours) or 1 (gradients and landmarks)")


def _signed(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) * 2.0 - 1.0


def _motion(beats: tuple[Beat, ...], lengths: list[int]) -> dict[str, Array]:
    """Position, facing and gait of every frame."""
    parts: list[dict[str, Array]] = []
    facing, phase = float(beats[0].direction or 1), 0.0
    for beat, length in zip(beats, lengths, strict=True):
        done = np.arange(1, length + 1, dtype=np.float32) / length
        facing = float(beat.direction) if beat.direction else facing
        x = beat.start + (beat.end - beat.start) * done
        gait = phase + _STRIDE * np.abs(x - beat.start)
        hop = _HOP * np.abs(np.sin(2.0 * np.pi * done)) if beat.action == "jump" else np.zeros_like(done)
        parts.append({"x": x, "y": BASELINE - hop, "gait": gait, "facing": np.full(length, facing)})
        phase = float(gait[-1])
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in parts[0]}


def _subpixel(motion: dict[str, Array]) -> Array:
    x, y = motion["x"], motion["y"]
    return np.stack([x - np.floor(x), y - np.floor(y)], 1)


def _composite(backdrop: Array, paint: Array, alpha: Array, motion: dict[str, Array]) -> tuple[Array, Array]:
    """Lay the protagonist's patch over every frame; what leaves the picture is cut off."""
    margin = PATCH
    left = np.floor(motion["x"]).astype(int) - PATCH // 2 + margin
    top = np.floor(motion["y"]).astype(int) - int(FEET) + margin
    padded = np.zeros((len(alpha), SIZE + 2 * margin, SIZE + 2 * margin, 4), dtype=np.float32)
    for t in range(len(alpha)):
        window = padded[t, top[t] : top[t] + PATCH, left[t] : left[t] + PATCH]
        window[..., :3], window[..., 3] = paint[t], alpha[t]
    layer = padded[:, margin:-margin, margin:-margin]
    subject = layer[..., 3]
    return backdrop * (1.0 - subject[..., None]) + layer[..., :3], subject
