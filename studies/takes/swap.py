"""Put the protagonist of one video into another one: cut out by its mask, set down where the other one stands."""

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from torch import Tensor

from studies.takes.videos import Take, facing, starts, whole

Picture = NDArray[np.float32]

SCREEN = 64.0
"""Units of the truth's lengths to the side of a picture."""
GROW = 2.5 / 256
"""How far around the old protagonist the picture is replaced, as a share of its side."""
SHADE_REACH = 8.0 / 256
"""From how far the shade of the ground is taken where the old protagonist stood, as a share of the side."""


def swap_from(take: Take, donor: Take, first: int) -> tuple[UInt8[Tensor, "t h w 3"], Bool[Tensor, "t h w"]]:
    """Frames and masks of a video in which the protagonist is another one from a frame on.

    The place is drawn anew where the old protagonist was, with the shade that the ground around it has. The new one
    does the same action in the same direction, its feet are where the old one's were, and it has the light of the
    place.

    Args:
        take: The video.
        donor: A video of the same size with the other protagonist.
        first: The first frame to change.
    """
    frames, masks = take.frames.clone(), take.truth.subject.clone()
    later = range(first, len(frames))
    places = (take.truth.background_at(later).permute(0, 2, 3, 1).numpy() + 1) * 127.5
    poses = matching_frames(take, donor)
    for frame, place in zip(later, places, strict=True):
        empty = _without_protagonist(take, frame, place)
        colour, cover = _cut(take, donor, frame, *poses[frame])
        mixed = empty + cover[..., None] * (colour - empty)
        frames[frame] = torch.from_numpy(mixed.round().clip(0, 255).astype(np.uint8))
        masks[frame] = torch.from_numpy(cover >= 0.5)
    return frames, masks


def matching_frames(take: Take, donor: Take) -> list[tuple[int, bool]]:
    """For each frame the frame of the donor whose pose fits, and whether it must be mirrored.

    It is as late in a chunk of the same action; in a walk if the donor has no such chunk. Frames in which the donor's
    protagonist is cut off by the picture's side are replaced by the nearest ones that show all of it.
    """
    usable = whole(donor.truth.subject).nonzero()[:, 0]
    own_starts, donor_starts = starts(take.truth), starts(donor.truth)
    own_looks, donor_looks = facing(take.truth), facing(donor.truth)
    found = []
    for chunk, action in enumerate(take.truth.actions):
        alike = [i for i, other in enumerate(donor.truth.actions) if other == action]
        alike = alike or [i for i, other in enumerate(donor.truth.actions) if other == "walk"]
        chosen = alike[chunk % len(alike)]
        mirrored = own_looks[chunk] != donor_looks[chosen]
        for late in range(own_starts[chunk + 1] - own_starts[chunk]):
            wanted = min(donor_starts[chosen] + late, donor_starts[chosen + 1] - 1)
            nearest = usable[(usable - wanted).abs().argmin()].item()
            found.append((int(nearest), mirrored))
    return found


def _without_protagonist(take: Take, frame: int, place: Picture) -> Picture:
    """A frame with the place where the protagonist was; a companion stays where it is seen."""
    import cv2

    side = place.shape[0]
    shown = take.frames[frame].numpy().astype(np.float32)
    own = take.truth.subject[frame].numpy().astype(np.uint8)
    friend = take.truth.companion_mask[frame].numpy().astype(np.uint8)
    reach = max(1, round(GROW * side))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    gone = cv2.dilate(own, brush)
    known = (1 - np.maximum(gone, cv2.dilate(friend, brush))).astype(np.float32)
    shade = (shown.mean(2) + 1) / (place.mean(2) + 1) * known
    near = (0, 0), SHADE_REACH * side
    filled = cv2.GaussianBlur(shade, *near) / np.maximum(cv2.GaussianBlur(known, *near), 1e-6)
    filled = np.where(cv2.GaussianBlur(known, *near) > 1e-3, filled.clip(0, 1), 1.0)
    hidden = cv2.GaussianBlur(gone.astype(np.float32), (0, 0), 0.7)
    hidden = np.where((friend > 0) & (own == 0), 0.0, hidden)[..., None]
    made: Picture = (shown + hidden * (place * filled[..., None] - shown)).astype(np.float32)
    return made


def _cut(take: Take, donor: Take, frame: int, pose: int, mirrored: bool) -> tuple[Picture, Picture]:
    """The donor's protagonist where the old one stands: colours in the light of the frame, and how much they cover."""
    import cv2

    side = donor.frames.shape[1]
    light = take.truth.light[frame] / donor.truth.light[pose]
    colour = donor.frames[pose].numpy().astype(np.float32) * light.numpy()
    inside = donor.truth.subject[pose].numpy().astype(np.float32)
    if side >= 128:  # the outermost pixels have the donor's background in them
        inside = np.asarray(cv2.erode(inside, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))), dtype=np.float32)
    cover: Picture = np.asarray(cv2.GaussianBlur(inside, (0, 0), 0.6), dtype=np.float32)
    x, y = (donor.truth.position[pose] * side / SCREEN).tolist()
    if mirrored:
        colour, cover, x = colour[:, ::-1], cover[:, ::-1], side - x
    to_x, to_y = (take.truth.position[frame] * side / SCREEN).tolist()
    right, down = round(to_x - x), round(to_y - y)
    return _moved(colour, down, right), _moved(cover, down, right)


def _moved(picture: Picture, down: int, right: int) -> Picture:
    """A picture that is moved; what comes in from outside is 0."""
    made = np.zeros_like(picture)
    height, width = picture.shape[:2]
    made[max(down, 0) : height + down, max(right, 0) : width + right] = picture[
        max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return made
