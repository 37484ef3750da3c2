"""A rendered story and the truth about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from storyworld.elements import SCREEN
from storyworld.paint import Array
from storyworld.scenes import Scene


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What a story shows: known exactly, because every frame is drawn from it.

    Lengths are in units of 1/64 of the picture's side, so they are the same at every size of the picture. Masks,
    regions and backgrounds have its size.

    Regions are numbered 0 sky, 1 ground and 2 landmark. 255 marks pixels that show several of them or something else
    (clouds, far hills, shadows, flowers). Colours are RGB in [-1, 1] as they look at noon; ``lit`` gives the colour
    that a frame shows.
    """

    species: str
    """Species of the protagonist."""
    take: str
    """Kind of the video: story, place or walk."""
    places: tuple[str, ...]
    """Names of the places; in a walk, of the spots that it passes."""
    setting: str
    """Kind of the wide place of a walk; else empty."""
    width: float
    """Columns of the world, in units: one screen of 64 but in a walk."""
    place: Int[Tensor, " chunks"]
    """Index of the place that each chunk shows; in a walk, of the spot that the protagonist is nearest to."""
    direction: Int[Tensor, " chunks"]
    """Where the protagonist walks in each chunk: 1 right, -1 left, 0 on the spot."""
    arrives: Bool[Tensor, " chunks"]
    """Whether the chunk shows another place than the one before it."""
    actions: tuple[str, ...]
    """walk, stand, jump or pace, for each chunk."""
    chunk_of_frame: Int[Tensor, " t"]
    """Index of the chunk that each frame belongs to."""
    position: Float[Tensor, "t 2"]
    """Feet of the protagonist in the picture, (x, y) in units."""
    subject: Bool[Tensor, "t h w"]
    """Pixels at least half covered by the protagonist."""
    visible: Bool[Tensor, " t"]
    """Whether the protagonist covers at least 40 square units."""
    subject_colours: Float[Tensor, "3 3"]
    """The protagonist's colours: body, accent and ink (eyes)."""
    pattern: str
    """Pattern on the protagonist: plain, stripes, spots or patch."""
    marking: Float[Tensor, " 3"]
    """Colour of the pattern; for a plain protagonist, of the body."""
    sky: Float[Tensor, "places 3"]
    """Colour of each place at the top of the picture."""
    ground: Float[Tensor, "places 3"]
    """Colour of each place at the bottom of the picture."""
    landmark: Float[Tensor, "places 2 3"]
    """Main colour of each place's landmark, and the colour of its details."""
    backgrounds: Float[Tensor, "places 3 h w"]
    """Each place without characters, at noon and with the camera in its middle; see ``background_at``."""
    regions: UInt8[Tensor, "places h w"]
    """Region of each pixel of ``backgrounds``; see ``regions_at``."""
    camera: Float[Tensor, " t"]
    """How far the camera has moved to the right, in units of the ground at the protagonist's feet. In a walk the camera
    starts at the left end of the world."""
    light: Float[Tensor, "t 3"]
    """Gain of red, green and blue that the daylight gives to colours in [0, 1]; see ``lit``."""
    companion: tuple[str | None, ...]
    """Species of the companion in each chunk, or None."""
    companion_mask: Bool[Tensor, "t h w"]
    """Pixels at least half covered by the companion and not by the protagonist."""
    inhabitants: tuple[str, ...]
    """Species of the companions: of the one that may be met at each place, or of those that pass by."""
    companion_colours: Float[Tensor, "inhabitants 3 3"]
    """Body, accent and ink of each of them; black for each place of a poorer world, where nobody is met."""
    scenes: tuple[Scene, ...]
    """The places in layers, from which ``background_at`` and ``regions_at`` draw; empty at richness 0 and 1."""

    @property
    def view(self) -> Float[Tensor, "t 2"]:
        """The columns of the world that each frame shows of the ground at the protagonist's feet, first and last.

        They are in units. Farther things move less: see ``background_at``.
        """
        return torch.stack([self.camera, self.camera + SCREEN], dim=1)

    def background_at(self, frames: Sequence[int] | Int[Tensor, " asked"]) -> Float[Tensor, "n 3 h w"]:
        """Frames as they would be without the characters and their shadows, in [-1, 1].

        Args:
            frames: Indexes of frames of the story.

        Raises:
            ValueError: If the story has no such frame.
        """
        index = self._check_frames(frames)
        place = self.place[self.chunk_of_frame[index]]
        if not self.scenes:
            return self.backgrounds[place]
        picture = torch.empty(len(index), *self.backgrounds.shape[1:])
        for p in set(place.tolist()):
            view = self.scenes[p].background(self.camera[index[place == p]].numpy())
            picture[place == p] = torch.from_numpy(view).permute(0, 2, 1, 3) * 2.0 - 1.0
        return (picture + 1.0) * self.light[index, :, None, None] - 1.0

    def regions_at(self, frames: Sequence[int] | Int[Tensor, " asked"]) -> UInt8[Tensor, "n h w"]:
        """Region of each pixel of ``background_at``.

        Args:
            frames: Indexes of frames of the story.

        Raises:
            ValueError: If the story has no such frame.
        """
        index = self._check_frames(frames)
        place = self.place[self.chunk_of_frame[index]]
        if not self.scenes:
            return self.regions[place]
        region = torch.empty(len(index), *self.regions.shape[1:], dtype=torch.uint8)
        for p in set(place.tolist()):
            region[place == p] = torch.from_numpy(self.scenes[p].regions(self.camera[index[place == p]].numpy()))
        return region

    def lit(self, colour: Float[Tensor, " 3"], frames: Sequence[int] | Int[Tensor, " asked"]) -> Float[Tensor, "n 3"]:
        """A colour as the daylight of these frames shows it.

        Args:
            colour: RGB in [-1, 1] at noon.
            frames: Indexes of frames of the story.

        Raises:
            ValueError: If the story has no such frame.
        """
        return (colour + 1.0) * self.light[self._check_frames(frames)] - 1.0

    def _check_frames(self, frames: Sequence[int] | Int[Tensor, " asked"]) -> Int[Tensor, " n"]:
        index = torch.as_tensor(np.asarray(frames), dtype=torch.long).reshape(-1)
        total = len(self.chunk_of_frame)
        wrong = index[(index < 0) | (index >= total)]
        if len(wrong):
            raise ValueError(f"frame {int(wrong[0])} was asked for; the story has frames 0 to {total - 1}")
        return index


class DrawnTruth(TypedDict):
    """The fields of ``Truth`` that are known only when the frames are drawn."""

    position: Float[Tensor, "t 2"]
    subject: Bool[Tensor, "t h w"]
    subject_colours: Float[Tensor, "3 3"]
    pattern: str
    marking: Float[Tensor, " 3"]
    sky: Float[Tensor, "places 3"]
    ground: Float[Tensor, "places 3"]
    landmark: Float[Tensor, "places 2 3"]
    backgrounds: Float[Tensor, "places 3 h w"]
    regions: UInt8[Tensor, "places h w"]
    camera: Float[Tensor, " t"]
    light: Float[Tensor, "t 3"]
    companion_mask: Bool[Tensor, "t h w"]
    companion_colours: Float[Tensor, "inhabitants 3 3"]
    scenes: tuple[Scene, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryVideo:
    """A rendered story."""

    frames: Float[Tensor, "3 t h w"]
    """RGB in [-1, 1]."""
    captions: tuple[str, ...]
    """One for each chunk. They name protagonist, action, direction, place and companion, and never a colour."""
    chunk_frames: tuple[int, ...]
    """Number of frames of each chunk."""
    fps: int
    """Frames per second."""
    truth: Truth
    """What the frames show."""


def signed(values: Array) -> Float[Tensor, "..."]:
    """RGB in [0, 1] as a tensor in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) * 2.0 - 1.0
