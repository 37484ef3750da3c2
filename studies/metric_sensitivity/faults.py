"""Faults that grow with time: none in the first chunk, full strength in the last frame."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from studies.metric_sensitivity.clips import Clip

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Strengths that are measured."""
ANSWERS = {
    "blur": "clarity",
    "noise": "clarity",
    "colour drift": "subject",
    "flicker": "motion_smoothness",
    "frozen frames": "motion",
    "jitter": "motion",
    "subject swap": "subject",
    "background swap": "background",
}
"""The metric that should answer to each fault, stated before anything was measured."""
CONTROLS = ("re-encoding", "scaling", "cropping")
"""Changes that no metric should answer to."""

BLUR_SIGMA = 0.015
"""Share of the shorter side."""
NOISE_SIGMA = 30.0
"""Standard deviation, of 255."""
COLOUR_SHIFT = 0.6
"""Share that red gains and blue loses."""
FLICKER = 0.3
"""Share by which frames are brighter and darker in turns."""
JITTER = 0.04
"""Share of the shorter side."""
CROP = 4
"""Pixels that the control cropping takes off each side."""
SCALE = 0.75
"""Factor of the control scaling."""
FULL_STRENGTH = {
    "blur": f"a Gaussian of {BLUR_SIGMA:.1%} of the shorter side",
    "noise": f"a standard deviation of {NOISE_SIGMA:g} of 255",
    "colour drift": f"red times {1 + COLOUR_SHIFT:g}, blue times {1 - COLOUR_SHIFT:g}",
    "flicker": f"frame by frame {FLICKER:.0%} brighter and darker",
    "frozen frames": "the video stands still",
    "jitter": f"moves of up to {JITTER:.0%} of the shorter side either way",
    "subject swap": "another video where the subject is",
    "background swap": "another video around the subject in every other frame",
}
"""Strength 1 in words: what the last frame has."""


def with_fault(clip: Clip, fault: str, strength: float, *, num_chunks: int, seed: int = 0) -> Clip:
    """The clip with a fault.

    Args:
        clip: A video and the place of its subject.
        fault: One of `ANSWERS`.
        strength: From 0 to 1, reached in the last frame; the first of ``num_chunks`` chunks has no fault.
        num_chunks: Chunks that the video will be cut into.
        seed: Seed of noise and jitter.

    Raises:
        ValueError: If there is no such fault.
    """
    if fault not in FAULTS:
        raise ValueError(f"fault is {fault!r}; expected one of {', '.join(FAULTS)}")
    count = len(clip.frames)
    clean = math.ceil(count / num_chunks)
    amounts = strength * ((torch.arange(count) - clean + 1).clamp(min=0) / (count - clean)).double()
    draw = torch.Generator().manual_seed(seed)
    found = FAULTS[fault](clip, amounts, draw)
    return found if isinstance(found, Clip) else replace(clip, frames=found)


def scaled(frames: UInt8[Tensor, "t h w 3"]) -> UInt8[Tensor, "t i j 3"]:
    """Frames at three quarters of the size."""
    size = tuple(round(side * SCALE) for side in frames.shape[1:3])
    return _each(frames, lambda x, i: F.interpolate(x[None], size=size, mode="bilinear", antialias=True)[0])


def cropped(frames: UInt8[Tensor, "t h w 3"]) -> UInt8[Tensor, "t i j 3"]:
    """Frames without `CROP` pixels at every side."""
    return frames[:, CROP:-CROP, CROP:-CROP]


def _each(frames: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Frames after a change of each: of [3 h w] in 0 to 255, and the frame's number."""
    made = [change(frame.permute(2, 0, 1).float(), i) for i, frame in enumerate(frames)]
    return torch.stack([one.round().clamp(0, 255).byte().permute(1, 2, 0) for one in made])


def _blur(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Tensor:
    side = min(clip.frames.shape[1:3])

    def change(x: Tensor, i: int) -> Tensor:
        sigma = amounts[i].item() * BLUR_SIGMA * side
        if sigma < 0.05:
            return x
        reach = max(1, math.ceil(3 * sigma))
        kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).float()
        wide = F.pad(x[:, None], (reach, reach, reach, reach), mode="replicate")
        return F.conv2d(F.conv2d(wide, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]

    return _each(clip.frames, change)


def _noise(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Tensor:
    return _each(clip.frames, lambda x, i: x + amounts[i] * NOISE_SIGMA * torch.randn(x.shape, generator=draw))


def _colour_drift(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Tensor:
    tint = torch.tensor([COLOUR_SHIFT, 0.0, -COLOUR_SHIFT])[:, None, None]
    return _each(clip.frames, lambda x, i: x * (1 + amounts[i] * tint))


def _flicker(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Tensor:
    return _each(clip.frames, lambda x, i: x * (1 + amounts[i] * FLICKER * (-1) ** i))


def _frozen(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Clip:
    """A growing share of the frames repeats the frame before, and the video goes on from there: motion dies down.

    It never jumps ahead, because a video that stutters and catches up has as much motion on average as before.
    """
    steps = torch.cat([torch.zeros(1), (1 - amounts[1:])]).double()
    shown = steps.cumsum(0).round().long()
    return replace(clip, frames=clip.frames[shown], subject=clip.subject[shown])


def _jitter(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Clip:
    reach = JITTER * min(clip.frames.shape[1:3])
    moves = torch.rand(len(amounts), 2, generator=draw, dtype=torch.float64) * 2 - 1
    steps = (moves * amounts[:, None] * reach).round().int().tolist()
    frames, subject = (
        torch.stack([_moved(one, *step) for one, step in zip(many, steps, strict=True)])
        for many in (clip.frames, clip.subject)
    )
    return replace(clip, frames=frames, subject=subject)


def _moved(frame: Tensor, down: int, right: int) -> Tensor:
    """A frame that is moved; its border is repeated."""
    rows = (torch.arange(frame.shape[0]) - down).clamp(0, frame.shape[0] - 1)
    columns = (torch.arange(frame.shape[1]) - right).clamp(0, frame.shape[1] - 1)
    return frame[rows][:, columns]


def _subject_swap(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Tensor:
    return _blend(clip, amounts, where=clip.subject)


def _background_swap(clip: Clip, amounts: Float[Tensor, " t"], draw: torch.Generator) -> Tensor:
    """The background changes to that of the other video and back, more and more often, in the end in every frame.

    The metric asks whether the background stands still. It hardly sees a slow change, or a single one.
    """
    swapped = amounts.cumsum(0).floor() % 2
    return _blend(clip, swapped, where=~clip.subject)


def _blend(clip: Clip, amounts: Float[Tensor, " t"], *, where: Tensor) -> Tensor:
    """Blend in another video where the mask is, more and more."""

    def change(x: Tensor, i: int) -> Tensor:
        other = clip.other[i].permute(2, 0, 1).float()
        return torch.where(where[i], torch.lerp(x, other, amounts[i].item()), x)

    return _each(clip.frames, change)


FAULTS: dict[str, Callable[[Clip, Tensor, torch.Generator], Tensor | Clip]] = {
    "blur": _blur,
    "noise": _noise,
    "colour drift": _colour_drift,
    "flicker": _flicker,
    "frozen frames": _frozen,
    "jitter": _jitter,
    "subject swap": _subject_swap,
    "background swap": _background_swap,
}
