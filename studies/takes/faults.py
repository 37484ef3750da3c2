"""Drift that is planted into true videos: blur and colour that grow with time, and another protagonist at the end."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from studies.takes.swap import swap_from
from studies.takes.videos import Take
from vde_metrics import chunk_boundaries

RATES = {
    "blur": (0.5, 1.0, 2.0, 4.0),
    "colour": (0.025, 0.05, 0.1, 0.2),
    "swap": (1 / 15, 3 / 15, 6 / 15, 12 / 15),
}
"""Rates of each fault, from weak to strong."""
UNITS = {
    "blur": "a Gaussian blur whose sigma grows to so many pixels of a picture of 256",
    "colour": "red gains and blue loses a share that grows to this",
    "swap": "another protagonist in this share of the chunks, the last ones",
}
"""What the rate of a fault is."""


def rate_words(fault: str, rate: float) -> str:
    """A rate as the page says it."""
    if fault == "blur":
        return f"{rate:g} pixel{'s' * (rate != 1)}"
    return f"{100 * rate:g}%" if fault == "colour" else f"{round(15 * rate)}/15"


@dataclass(frozen=True, kw_only=True, slots=True)
class Faulty:
    """A video with a fault."""

    frames: UInt8[Tensor, "t h w 3"]
    """RGB, 0 to 255."""
    subject: Bool[Tensor, "t h w"]
    """Where its protagonist is."""
    first: int
    """The first frame that is not as in the true video."""


def with_fault(take: Take, fault: str, rate: float, *, num_chunks: int, donor: Take | None = None) -> Faulty:
    """A video with planted drift.

    Blur and colour are absent in the first chunk, and grow linearly to the rate in the last frame.

    Args:
        take: The true video.
        fault: One of `RATES`.
        rate: The rate, see `UNITS`.
        num_chunks: Chunks that the video is cut into.
        donor: The video with the other protagonist, for ``swap``.

    Raises:
        ValueError: If there is no such fault, or the donor is missing.
    """
    if fault not in RATES:
        raise ValueError(f"fault is {fault!r}; expected one of {', '.join(RATES)}")
    count, subject = len(take.frames), take.truth.subject
    if fault == "swap":
        if donor is None:
            raise ValueError("swap needs a donor: give the video that has the other protagonist")
        first = chunk_boundaries(count, num_chunks)[num_chunks - max(1, round(rate * num_chunks))]
        frames, subject = swap_from(take, donor, first)
        return Faulty(frames=frames, subject=subject, first=first)
    first = math.ceil(count / num_chunks)
    frames = take.frames.clone()
    for frame in range(first, count):
        amount = rate * (frame - first + 1) / (count - first)
        changed = blurred(frames[frame], amount) if fault == "blur" else tinted(frames[frame], amount)
        frames[frame] = changed
    return Faulty(frames=frames, subject=subject, first=first)


def blurred(frame: UInt8[Tensor, "h w 3"], sigma: float) -> UInt8[Tensor, "h w 3"]:
    """A frame after a Gaussian blur; sigma is in pixels of a picture of 256."""
    import cv2

    deviation = sigma * frame.shape[0] / 256
    pixels = cv2.GaussianBlur(frame.numpy().astype(np.float32), (0, 0), deviation)
    return torch.from_numpy(pixels.round().clip(0, 255).astype(np.uint8))


def tinted(frame: UInt8[Tensor, "h w 3"], share: float) -> UInt8[Tensor, "h w 3"]:
    """A frame whose red is larger and whose blue is smaller by a share."""
    return (frame.float() * torch.tensor([1 + share, 1.0, 1 - share])).round().clamp(0, 255).byte()
