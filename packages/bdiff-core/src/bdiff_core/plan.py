"""From a storyboard to what every chunk is conditioned on."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .storyboard import Storyboard
from .text import TextEncoder

# Seconds whose frames can still be counted in floats.
_LONGEST = 1e300


@dataclass(frozen=True, slots=True)
class ChunkCondition:
    """What one chunk is conditioned on."""

    index: int
    """Position of the chunk in the video, from 0."""
    text: Float[Tensor, "n d"]
    """Token states of its prompt, zero-padded."""
    negative: Float[Tensor, "n d"]
    """Token states of the branch that guidance moves away from; zeros: no text at all."""
    embedding: Float[Tensor, " r"]
    """Unit vector by which past chunks are recalled."""
    image: Float[Tensor, "c h w"] | None = None
    """A picture that the chunk starts from, for models that take one."""
    prompt: str = ""
    """The prompt itself, for people and logs."""


def chunk_shots(
    storyboard: Storyboard,
    *,
    fps: float | int,
    frames_per_chunk: int,
    num_chunks: int | None = None,
    continued: bool = False,
) -> list[int]:
    """Index of the shot that each chunk shows.

    A chunk shows the shot at its middle; the causal VAE gives the first chunk 3 frames fewer. Without times there is
    one shot a chunk, stretched evenly where `num_chunks` asks for more chunks than shots, cut where it asks for fewer.

    Args:
        storyboard: the shots.
        fps: frames a second.
        frames_per_chunk: frames of every chunk after the first one.
        num_chunks: length of the video; None: as long as the storyboard.
        continued: the chunks go on after others, so that the first one is as long as the rest.
    """
    if fps <= 0 or frames_per_chunk < 4:
        raise ValueError(f"fps is {fps} and frames_per_chunk {frames_per_chunk}; expected above 0 and at least 4")
    if num_chunks is not None and num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; expected at least 1")
    num_shots = len(storyboard.shots)
    if not storyboard.is_timed:
        num_chunks = num_chunks or num_shots
        return [index * num_shots // num_chunks if num_chunks > num_shots else index for index in range(num_chunks)]
    if num_chunks is None:
        if storyboard.duration is None:
            raise ValueError("the last shot has no end: give it one, or give num_chunks")
        num_chunks = count_chunks(storyboard.duration, fps=fps, frames_per_chunk=frames_per_chunk, continued=continued)
    first = frames_per_chunk if continued else frames_per_chunk - 3
    middles = [first / 2, *(first + (index - 0.5) * frames_per_chunk for index in range(1, num_chunks))]
    return [storyboard.shot_at(frame / fps) for frame in middles]


def count_chunks(seconds: float | int, *, fps: float | int, frames_per_chunk: int, continued: bool = False) -> int:
    """How many chunks it takes to fill a time; the first one has 3 frames fewer, unless it goes on after others.

    Up to half a frame may be missing at the end, so that rounded seconds are not filled up by a whole chunk. The count
    of an absurd time is absurd, but made at once: ask for it before `chunk_shots` lists so many.
    """
    if not 0 < seconds <= _LONGEST:
        given = f"{seconds:g}" if abs(seconds) <= _LONGEST or isinstance(seconds, float) else "beyond all numbers"
        raise ValueError(f"seconds is {given}; expected a number above 0, and no more than {_LONGEST:g}")
    lacking = 0 if continued else 3
    return max(1, math.ceil((seconds * fps + lacking - 0.5) / frames_per_chunk))


def plan_chunks(
    storyboard: Storyboard,
    text_encoder: TextEncoder,
    *,
    fps: float | int,
    frames_per_chunk: int,
    num_chunks: int | None = None,
) -> list[ChunkCondition]:
    """The condition of every chunk; each distinct prompt is encoded once.

    Args:
        storyboard: the shots.
        text_encoder: turns prompts into token states and a retrieval embedding.
        fps: frames a second.
        frames_per_chunk: frames of every chunk after the first one (which has 3 fewer).
        num_chunks: length of the video; None: as long as the storyboard.
    """
    shots = chunk_shots(storyboard, fps=fps, frames_per_chunk=frames_per_chunk, num_chunks=num_chunks)
    prompts = list(dict.fromkeys(storyboard.shots[shot].prompt for shot in shots))
    states = text_encoder.encode(prompts)
    # The null branch of training is all-zero text, not an encoded empty prompt.
    negative = torch.zeros_like(states.tokens[0])
    rows = {prompt: row for row, prompt in enumerate(prompts)}
    plan = []
    for index, shot in enumerate(shots):
        prompt = storyboard.shots[shot].prompt
        text, embedding = states.tokens[rows[prompt]], states.embedding[rows[prompt]]
        plan.append(ChunkCondition(index=index, text=text, negative=negative, embedding=embedding, prompt=prompt))
    return plan
