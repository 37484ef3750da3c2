"""Evaluation of a generated video against the truth of the story that it should show.

The truth says which colours the protagonist has, in which frames it is visible, which way it walks, which place each
chunk shows, and the daylight of each frame. A model can know the protagonist's colours only if it was given the first
chunk. The expected number of pixels in the protagonist's colour is counted in the true frames. Two pictures of a place
are compared at the shift and the gain at which they differ least, because the camera pans and the daylight changes.

In a walk the camera follows the protagonist, so its way is measured by how far the landmarks move, and a spot that
comes back into view is compared as the camera saw it from the same side. Larger videos are averaged down to 64 pixels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from storyworld.layers import SIZE
from storyworld.truth import StoryVideo, Truth

WINDOW = (31, 31)
"""Height and width in pixels of the window in which the protagonist is counted."""

_TOLERANCE = 0.36  # largest distance from the body's colour, in RGB in [-1, 1]
_SHARES = 0.5, 2.0  # of the true number of body pixels: outside of these, the protagonist counts as not found
_SHORTEST_WALK = 6.0  # pixels in a chunk; less counts as standing
_PAN = 0.6  # pixels that landmarks shift when the camera moves by one
_SHORTEST_WAY = 12.0  # units in a chunk of a walk, camera included; less counts as standing
_STEP = 4  # frames between two pictures by which the camera's way is measured
_FARTHEST = 10  # pixels that landmarks may move in so many frames
_SIGHT = slice(8, 36)  # rows in which landmarks stand
_LOOSE = 4  # pixels by which a spot may be out of place when it comes back into view


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a generated video shows, beside what it should show."""

    visible: Bool[Tensor, " t"]
    """Whether the protagonist is found in the frame."""
    should_be_visible: Bool[Tensor, " t"]
    """Whether the story shows the protagonist in the frame."""
    direction: Int[Tensor, " chunks"]
    """Direction in which the protagonist moves: 1 right, -1 left, 0 on the spot, 2 not found."""
    true_direction: Int[Tensor, " chunks"]
    """Direction in the story."""
    place: Int[Tensor, " chunks"]
    """On a return: the place (in a walk, the spot) whose first visit in the same video looks most like it; else -1."""
    true_place: Int[Tensor, " chunks"]
    """Place in the story."""

    @property
    def visible_share(self) -> float:
        """Share of the frames that should show the protagonist in which it is found."""
        return self.visible[self.should_be_visible].float().mean().item()

    @property
    def direction_share(self) -> float:
        """Share of the chunks with the direction of the story."""
        return (self.direction == self.true_direction).float().mean().item()

    @property
    def place_share(self) -> float:
        """Share of the returns to a place on which the video shows that place again; NaN if there are no returns."""
        returns = self.place >= 0
        return (self.place == self.true_place)[returns].float().mean().item()


def evaluate(frames: Float[Tensor, "3 t h w"], story: StoryVideo) -> Evaluation:
    """Compare a generated video with the story that it should show.

    Args:
        frames: The generated video, RGB in [-1, 1], with the shape of the story's frames.
        story: The rendered story.

    Raises:
        ValueError: If the video has another shape than the story.
    """
    if frames.shape != story.frames.shape:
        raise ValueError(
            f"the video has shape {tuple(frames.shape)}, the story {tuple(story.frames.shape)}; "
            "render the story with the video's number of chunks and frames per chunk"
        )
    truth = story.truth
    frames, true_frames = (
        F.adaptive_avg_pool2d(video.transpose(0, 1), SIZE).transpose(0, 1) if video.shape[-1] != SIZE else video
        for video in (frames, story.frames)
    )
    usual = _find(true_frames, truth)[0][truth.visible].median()
    count, centre = _find(frames, truth)
    found = (count >= _SHARES[0] * usual) & (count <= _SHARES[1] * usual)
    walk = truth.take == "walk"
    place = _spots(frames, truth) if walk else _places(frames, truth)
    return Evaluation(
        visible=found,
        should_be_visible=truth.visible,
        direction=_directions(centre, found, truth, way=_camera_way(frames, centre) if walk else None),
        true_direction=truth.direction,
        place=place,
        true_place=truth.place,
    )


def _find(frames: Tensor, truth: Truth) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Per frame: the number of body-coloured pixels in the window with most of them, and their mean column."""
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


def _directions(centre: Tensor, found: Tensor, truth: Truth, *, way: Tensor | None) -> Int[Tensor, " chunks"]:
    """Direction of each chunk, from the columns of the protagonist; 2 if it is found in fewer than 4 frames.

    In a walk the way [t] of the camera is added.
    """
    shortest = _SHORTEST_WALK if way is None else _SHORTEST_WAY
    at = centre if way is None else centre + way
    seen = []
    for chunk in range(len(truth.place)):
        columns = at[(truth.chunk_of_frame == chunk) & found]
        if len(columns) < 4:
            seen.append(2)
            continue
        walked = float(columns[-2:].mean() - columns[:2].mean())
        seen.append(0 if abs(walked) < shortest else 1 if walked > 0 else -1)
    return torch.tensor(seen)


def _camera_way(frames: Tensor, centre: Tensor) -> Float[Tensor, " t"]:
    """How far the camera has moved to the right, in units of the ground, by the shift of what stands on the horizon.

    The columns around the protagonist are left out.
    """
    columns = torch.arange(frames.shape[-1], dtype=torch.float32)
    way, total = torch.zeros(frames.shape[1]), 0.0
    for t in range(0, frames.shape[1] - 1, _STEP):
        after = min(t + _STEP, frames.shape[1] - 1)
        free = (columns - centre[t]).abs() > WINDOW[1] // 2
        before, now = frames[:, t, _SIGHT], frames[:, after, _SIGHT]
        shift = min(range(-_FARTHEST, _FARTHEST + 1), key=lambda s: (_shifted(before, now, free, s), abs(s)))
        way[t : after + 1] = total + torch.linspace(0.0, 1.0, after + 1 - t) * shift / _PAN
        total = float(way[after])
    return way


def _shifted(before: Tensor, now: Tensor, free: Tensor, shift: int) -> float:
    """Mean difference of two pictures if the camera moved ``shift`` pixels to the right between them."""
    width = before.shape[-1]
    old, new = slice(max(shift, 0), width + min(shift, 0)), slice(max(-shift, 0), width + min(-shift, 0))
    difference = (before[..., old] - now[..., new]).abs().mean((0, 1))
    return float(difference[free[old]].mean())


def _spots(frames: Tensor, truth: Truth) -> Int[Tensor, " chunks"]:
    """For every return to a spot of a walk: the spot whose first sight looks most like it; -1 for other chunks.

    A return is judged in the frame that sees the spot best, beside the first frame of an earlier visit that saw it from
    the same side; without such a frame it is not judged. The other spots are seen from that side, too, or nearly.
    """
    aside = truth.camera[None] - torch.tensor([scene.middle for scene in truth.scenes])[:, None]
    most = float((truth.light.amax(0) / truth.light.amin(0)).max())
    pictures = (frames + 1.0) / 2.0
    visits: dict[int, list[Tensor]] = {}  # the frames of each spot's visits, before the current visit
    current: list[Tensor] = []
    answers = []
    for chunk, spot in enumerate(truth.place.tolist()):
        seen = (truth.chunk_of_frame == chunk).nonzero()[:, 0]
        arrives = bool(truth.arrives[chunk])
        if arrives:
            visits.setdefault(int(truth.place[chunk - 1]), []).extend(current)
            current = []
        best = seen[aside[spot, seen].abs().argmin()]
        views = {q: _first_from(aside[q], torch.cat(earlier), aside[spot, best]) for q, earlier in visits.items()}
        judged = arrives and spot in views and bool((aside[spot, views[spot]] - aside[spot, best]).abs() <= _LOOSE / 2)
        unlike = {q: _difference(pictures[:, t], pictures[:, best], _LOOSE, most) for q, t in views.items() if judged}
        answers.append(min(unlike, key=unlike.__getitem__) if judged else -1)
        current.append(seen)
    return torch.tensor(answers)


def _first_from(aside: Tensor, visits: Int[Tensor, " n"], side: Tensor) -> Tensor:
    """The first of some frames from which a spot is seen from a side, or else the one that is nearest to it."""
    gaps = (aside[visits] - side).abs()
    return visits[(gaps <= max(_LOOSE / 2, float(gaps.min()))).nonzero()[0, 0]]


def _places(frames: Tensor, truth: Truth) -> Int[Tensor, " chunks"]:
    """For every return to a place: the place whose first visit looks most like it; -1 for other chunks."""
    first_views: dict[int, Tensor] = {}
    answers = []
    previous = -1
    pan = math.ceil(_PAN * float(truth.camera.max() - truth.camera.min()))
    most = float((truth.light.amax(0) / truth.light.amin(0)).max())
    for chunk, place in enumerate(truth.place.tolist()):
        still = (frames[:, truth.chunk_of_frame == chunk].median(1).values + 1.0) / 2.0
        back = place in first_views and previous != place
        answers.append(min(first_views, key=lambda p: _difference(first_views[p], still, pan, most)) if back else -1)
        first_views.setdefault(place, still)
        previous = place
    return torch.tensor(answers)


def _difference(one: Tensor, other: Tensor, pan: int, most: float) -> float:
    """Mean difference of two pictures [3, h, w] in [0, 1], at the shift up to ``pan`` and the gain that make it least.

    Gains lie between 1 / ``most`` and ``most``.
    """
    width = one.shape[-1]
    differences = []
    for shift in range(-pan, pan + 1):
        a = one[..., max(shift, 0) : width + min(shift, 0)]
        b = other[..., max(-shift, 0) : width + min(-shift, 0)]
        gain = ((a * b).sum((1, 2)) / b.square().sum((1, 2)).clamp_min(1e-6)).clamp(1.0 / most, most)
        differences.append(float((a - b * gain[:, None, None]).abs().mean()))
    return min(differences)
