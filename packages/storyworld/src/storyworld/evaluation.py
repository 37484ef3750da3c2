"""Judging a generated video by the truth of the story it was asked to tell.

The judge knows the protagonist's colours (from the story's truth: give the first chunk to the model, so that it knows
them too), when it should be seen, which way it should move, which place is which, and the light of every hour. It is
calibrated on the true pictures: how many pixels of its colour the protagonist shows when nothing is wrong. Where the
camera pans and the light changes, two looks at a place are compared at the shift and the gain that suit them best.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from storyworld.truth import StoryVideo, Truth

WINDOW = (31, 31)
"""Rows and columns that hold a protagonist."""

_TOLERANCE = 0.36  # distance from the body's colour, pixels in [-1, 1]
_SHARES = 0.5, 2.0  # of the true number of body pixels: less is a trace of it, more is something else
_LEAST_WAY = 6.0  # pixels: less is standing
_PAN = 0.6  # pixels that landmarks shift for one of camera


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a generated story got right."""

    visible: Bool[Tensor, " t"]
    """Frames in which the protagonist is found."""
    should_be_visible: Bool[Tensor, " t"]
    direction: Int[Tensor, " chunks"]
    """Seen direction: 1 right, -1 left, 0 on the spot."""
    true_direction: Int[Tensor, " chunks"]
    place: Int[Tensor, " chunks"]
    """Place whose first showing in this very video looks most like the chunk; -1 on a first visit."""
    true_place: Int[Tensor, " chunks"]

    @property
    def visible_share(self) -> float:
        """Share of the frames that should show the protagonist in which it is found."""
        return self.visible[self.should_be_visible].float().mean().item()

    @property
    def direction_share(self) -> float:
        """Share of the chunks whose direction of motion is as told."""
        return (self.direction == self.true_direction).float().mean().item()

    @property
    def place_share(self) -> float:
        """Share of the returns to a place on which the video shows that place again; nan without returns."""
        returns = self.place >= 0
        return (self.place == self.true_place)[returns].float().mean().item()


def evaluate(frames: Float[Tensor, "3 t h w"], story: StoryVideo) -> Evaluation:
    """Compare a video with the story it should tell.

    Args:
        frames: The video, in [-1, 1], of the story's size and length.
        story: The story as rendered, with its truth.

    Raises:
        ValueError: If the video has another size than the story.
    """
    if frames.shape != story.frames.shape:
        raise ValueError(
            f"the video has shape {tuple(frames.shape)}, the story {tuple(story.frames.shape)}; render alike"
        )
    truth = story.truth
    usual = _find(story.frames, truth)[0][truth.visible].median()
    count, centre = _find(frames, truth)
    found = (count >= _SHARES[0] * usual) & (count <= _SHARES[1] * usual)
    place = _places(frames, truth)
    return Evaluation(
        visible=found,
        should_be_visible=truth.visible,
        direction=_directions(centre, found, truth),
        true_direction=truth.direction,
        place=place,
        true_place=truth.place,
    )


def _find(frames: Tensor, truth: Truth) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Most body-coloured pixels in a window, and the mean column of those pixels, per frame."""
    body = truth.lit(truth.subject_colours[0], range(frames.shape[1])).T[:, :, None, None]
    near = ((frames - body).square().sum(0).sqrt() < _TOLERANCE).float()
    rows, columns = WINDOW
    padding = (columns // 2, columns // 2, rows // 2, rows // 2)
    ones = torch.ones(1, 1, rows, columns)
    counts = F.conv2d(F.pad(near[:, None], padding), ones)[:, 0].flatten(1)
    most, where = counts.max(1)
    middle = (where % frames.shape[-1]).float()
    column = torch.arange(frames.shape[-1], dtype=torch.float32)
    inside = near.sum(1) * ((column - middle[:, None]).abs() <= columns // 2)
    centre = (inside * column).sum(1) / inside.sum(1).clamp_min(1.0)
    return most, centre


def _directions(centre: Tensor, found: Tensor, truth: Truth) -> Int[Tensor, " chunks"]:
    """Direction of each chunk from where the protagonist is found; 2 where it is not found."""
    seen = []
    for chunk in range(len(truth.place)):
        at = centre[(truth.chunk_of_frame == chunk) & found]
        way = float(at[-2:].mean() - at[:2].mean()) if len(at) >= 4 else float("nan")
        seen.append(2 if way != way else 0 if abs(way) < _LEAST_WAY else 1 if way > 0 else -1)
    return torch.tensor(seen)


def _places(frames: Tensor, truth: Truth) -> Int[Tensor, " chunks"]:
    """For every return to a place: the place whose first showing looks most alike."""
    looks: dict[int, Tensor] = {}
    answers = []
    previous = -1
    pan = math.ceil(_PAN * float(truth.camera.max() - truth.camera.min()))
    most = float((truth.light.amax(0) / truth.light.amin(0)).max())
    for chunk, place in enumerate(truth.place.tolist()):
        still = (frames[:, truth.chunk_of_frame == chunk].median(1).values + 1.0) / 2.0
        back = place in looks and previous != place
        answers.append(min(looks, key=lambda p: _unlikeness(looks[p], still, pan, most)) if back else -1)
        looks.setdefault(place, still)
        previous = place
    return torch.tensor(answers)


def _unlikeness(one: Tensor, other: Tensor, pan: int, most: float) -> float:
    """Mean difference of two pictures [3, h, w] in [0, 1] at the best shift up to ``pan`` and gains up to ``most``."""
    width = one.shape[-1]
    differences = []
    for shift in range(-pan, pan + 1):
        a = one[..., max(shift, 0) : width + min(shift, 0)]
        b = other[..., max(-shift, 0) : width + min(-shift, 0)]
        gain = ((a * b).sum((1, 2)) / b.square().sum((1, 2)).clamp_min(1e-6)).clamp(1.0 / most, most)
        differences.append(float((a - b * gain[:, None, None]).abs().mean()))
    return min(differences)
