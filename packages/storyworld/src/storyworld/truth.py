"""A rendered story and what is known about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from storyworld.paint import Array
from storyworld.scenes import Scene


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What is known about a story because it was drawn, not filmed.

    Regions number 0 sky, 1 ground, 2 landmark and 255 where a pixel shows several of them or something else (clouds,
    far hills, shadows, flowers). Colours are those of noon: ``light`` says what the hour makes of them.
    """

    species: str
    places: tuple[str, ...]
    """Names of the story's places."""
    place: Int[Tensor, " chunks"]
    """Index of the place each chunk ends in."""
    direction: Int[Tensor, " chunks"]
    """As told and as seen in the picture: 1 right, -1 left, 0 on the spot."""
    arrives: Bool[Tensor, " chunks"]
    """Whether the chunk shows another place than the one before it."""
    actions: tuple[str, ...]
    """walk, stand or jump, per chunk."""
    chunk_of_frame: Int[Tensor, " t"]
    position: Float[Tensor, "t 2"]
    """Feet of the protagonist in the picture, (x, y) in pixels."""
    subject: Bool[Tensor, "t h w"]
    """Pixels at least half covered by the protagonist."""
    visible: Bool[Tensor, " t"]
    """The protagonist covers at least 40 pixels."""
    subject_colours: Float[Tensor, "3 3"]
    """RGB in [-1, 1] of body, accent and ink."""
    pattern: str
    """plain, stripes, spots or patch: what the protagonist wears."""
    marking: Float[Tensor, " 3"]
    """RGB of the pattern; that of the body if it is plain."""
    sky: Float[Tensor, "places 3"]
    ground: Float[Tensor, "places 3"]
    landmark: Float[Tensor, "places 2 3"]
    backgrounds: Float[Tensor, "places 3 h w"]
    """Each place without visitors at noon, the camera in the middle, in [-1, 1]; see ``background_at``."""
    regions: UInt8[Tensor, "places h w"]
    """What is where on ``backgrounds``; see ``regions_at``."""
    camera: Float[Tensor, " t"]
    """How far the camera has moved to the right, in pixels of the ground at the protagonist's feet."""
    light: Float[Tensor, "t 3"]
    """Gain of red, green and blue, for colours in [0, 1]; see ``lit``."""
    companion: tuple[str | None, ...]
    """Species of the second actor, per chunk."""
    companion_mask: Bool[Tensor, "t h w"]
    """Pixels at least half covered by the second actor, less those of ``subject``."""
    companion_colours: Float[Tensor, "places 3 3"]
    """RGB of body, accent and ink of who may be met at each place; black without companions."""
    scenes: tuple[Scene, ...]
    """What ``background_at`` and ``regions_at`` draw from; empty if the camera never moves."""

    def background_at(self, frames: Sequence[int]) -> Float[Tensor, "n 3 h w"]:
        """What these frames would show without actors and their shadows, in [-1, 1]."""
        place, index = self._place_at(frames)
        if not self.scenes:
            return self.backgrounds[place]
        picture = torch.empty(len(index), *self.backgrounds.shape[1:])
        for p in place.unique().tolist():
            view = self.scenes[p].background(self.camera[index[place == p]].numpy())
            picture[place == p] = torch.from_numpy(view).permute(0, 2, 1, 3) * 2.0 - 1.0
        return (picture + 1.0) * self.light[index, :, None, None] - 1.0

    def regions_at(self, frames: Sequence[int]) -> UInt8[Tensor, "n h w"]:
        """What is where on ``background_at``."""
        place, index = self._place_at(frames)
        if not self.scenes:
            return self.regions[place]
        region = torch.empty(len(index), *self.regions.shape[1:], dtype=torch.uint8)
        for p in place.unique().tolist():
            region[place == p] = torch.from_numpy(self.scenes[p].regions(self.camera[index[place == p]].numpy()))
        return region

    def lit(self, colour: Float[Tensor, " 3"], frames: Sequence[int]) -> Float[Tensor, "n 3"]:
        """A colour in [-1, 1] as the light of these frames shows it."""
        return (colour + 1.0) * self.light[torch.as_tensor(frames)] - 1.0

    def _place_at(self, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(np.asarray(frames), dtype=torch.long).reshape(-1)
        total = len(self.chunk_of_frame)
        wrong = index[(index < 0) | (index >= total)]
        if len(wrong):
            raise ValueError(f"frame {int(wrong[0])} was asked for; the story has frames 0 to {total - 1}")
        return self.place[self.chunk_of_frame[index]], index


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryVideo:
    """A rendered story."""

    frames: Float[Tensor, "3 t h w"]
    """RGB in [-1, 1]."""
    captions: tuple[str, ...]
    """One a chunk; they name protagonist, action, direction, place and companion, and never a colour."""
    chunk_frames: tuple[int, ...]
    """Frames of each chunk."""
    fps: int
    truth: Truth


def signed(values: Array) -> Tensor:
    """RGB in [0, 1] as a tensor in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) * 2.0 - 1.0
