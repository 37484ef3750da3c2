"""How far a video's colours are from the true ones, for places and for the protagonist.

All errors are mean absolute differences of red, green and blue, with colours in [0, 1]; frames are in [-1, 1], so
differences are halved.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from storyworld import Truth

REGIONS = ("sky", "ground", "landmark")
"""Names of regions, in the order of their numbers in ``Truth.regions``."""

MARGIN = 2
"""Pixels around the true actors that belong to no region."""


def at_places(truth: Truth, place: Int[Tensor, " chunks"]) -> Truth:
    """The truth as if every chunk showed another place, under the same camera and light."""
    return replace(truth, place=place)


def region_masks(truth: Truth, frames: slice) -> Bool[Tensor, "regions t h w"]:
    """Pixels of sky, ground and landmark in some frames, without the actors and `MARGIN` pixels around them.

    Args:
        truth: The story's truth, which says where the actors are.
        frames: A range of the story's frames.
    """
    actors = (truth.subject[frames] | truth.companion_mask[frames]).float()
    near = F.max_pool2d(actors[:, None], 2 * MARGIN + 1, stride=1, padding=MARGIN)[:, 0] > 0
    regions = truth.regions_at(range(frames.start, frames.stop))
    return torch.stack([(regions == number) & ~near for number in range(len(REGIONS))])


def region_errors(
    frames: Float[Tensor, "3 t h w"], true: Float[Tensor, "3 t h w"], masks: Bool[Tensor, "regions t h w"]
) -> Float[Tensor, " regions"]:
    """Mean absolute colour error over the pixels of each region; nan where a region has none."""
    difference = (frames - true).abs().mean(0) / 2
    return (difference * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3))


def palette(frames: Float[Tensor, "3 t h w"], masks: Bool[Tensor, "regions t h w"]) -> Float[Tensor, "regions 3"]:
    """Mean colour of each region, in [0, 1]; nan where a region has no pixels."""
    # in float64: sums over a hundred thousand pixels lose the fifth digit in float32
    total = torch.einsum("cthw,rthw->rc", (frames.double() + 1) / 2, masks.double())
    return (total / masks.sum((1, 2, 3))[:, None]).to(frames.dtype)


def palette_distance(one: Float[Tensor, "regions 3"], other: Float[Tensor, "regions 3"]) -> float:
    """Mean absolute difference of two palettes over the regions that both have; nan if there are none."""
    return (one - other).abs().nanmean().item()


def subject_errors(
    frames: Float[Tensor, "3 t h w"], true: Float[Tensor, "3 t h w"], subject: Bool[Tensor, "t h w"]
) -> Float[Tensor, " t"]:
    """Colour error of the protagonist in each frame, wherever it is drawn.

    The true protagonist is cut out along its silhouette and laid over the frame at every place where it fits into the
    picture, as it is and mirrored. At the place of the least squared difference, the error is the mean absolute
    difference on the silhouette. Where a video shows no protagonist, it is the distance to the background.

    Args:
        frames: The video.
        true: The true frames.
        subject: Pixels of the true protagonist; frames without any give nan.
    """
    return torch.tensor([_cut_out_error(frames[:, t], true[:, t], subject[t]) for t in range(len(subject))])


def found_subject(
    frames: Float[Tensor, "3 t h w"], true: Float[Tensor, "3 t h w"], subject: Bool[Tensor, "t h w"]
) -> Bool[Tensor, "t h w"]:
    """The silhouette of the protagonist in each frame, at the place where `subject_errors` finds it.

    Args:
        frames: The video.
        true: The true frames.
        subject: Pixels of the true protagonist; frames without any have no silhouette.
    """
    found = torch.zeros_like(subject)
    for t in subject.any((1, 2)).nonzero()[:, 0].tolist():
        shapes, cuts = _cut_outs(true[:, t], subject[t])
        side, top, left = _best_fit(frames[:, t], shapes, cuts)
        found[t, top : top + shapes.shape[1], left : left + shapes.shape[2]] = shapes[side] > 0
    return found


def _cut_out_error(frame: Float[Tensor, "3 h w"], true: Float[Tensor, "3 h w"], subject: Bool[Tensor, "h w"]) -> float:
    if not subject.any():
        return float("nan")
    shapes, cuts = _cut_outs(true, subject)
    side, top, left = _best_fit(frame, shapes, cuts)
    window = frame[:, top : top + shapes.shape[1], left : left + shapes.shape[2]]
    difference = (window - cuts[side]).abs().mean(0) * shapes[side]
    return (difference.sum() / shapes[0].sum() / 2).item()


def _cut_outs(
    true: Float[Tensor, "3 h w"], subject: Bool[Tensor, "h w"]
) -> tuple[Float[Tensor, "2 a b"], Float[Tensor, "2 3 a b"]]:
    """The silhouette of the protagonist and its colours, as they are and mirrored."""
    rows, columns = subject.any(1).nonzero()[:, 0], subject.any(0).nonzero()[:, 0]
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    shape, cut = subject[box].float(), true[:, *box] * subject[box]
    return torch.stack([shape, shape.flip(-1)]), torch.stack([cut, cut.flip(-1)])


def _best_fit(
    frame: Float[Tensor, "3 h w"], shapes: Float[Tensor, "n a b"], cuts: Float[Tensor, "n 3 a b"]
) -> tuple[int, int, int]:
    """Which cut-out fits best, and the row and column of its corner."""
    squares = _squared_differences(frame, shapes, cuts)
    side, top, left = torch.unravel_index(squares.argmin(), squares.shape)
    return int(side), int(top), int(left)


def _squared_differences(
    frame: Float[Tensor, "3 h w"], shapes: Float[Tensor, "n a b"], cuts: Float[Tensor, "n 3 a b"]
) -> Float[Tensor, "n rows columns"]:
    """Squared difference of a frame and each cut-out at every place, up to a constant."""
    size = frame.shape[1:]
    picture = torch.fft.rfft2(torch.cat([frame, frame.square().sum(0, keepdim=True)]))
    kernels = torch.fft.rfft2(torch.cat([-2 * cuts, shapes[:, None]], dim=1), s=size)
    squares = torch.fft.irfft2((picture * kernels.conj()).sum(1), s=size)
    return squares[:, : size[0] - shapes.shape[1] + 1, : size[1] - shapes.shape[2] + 1]
