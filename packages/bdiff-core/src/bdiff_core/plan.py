"""The condition of every chunk, made from a storyboard."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.storyboard import Storyboard, chunk_shots
from bdiff_core.text import TextEncoder


@dataclass(frozen=True, slots=True)
class ChunkCondition:
    """What one chunk is conditioned on."""

    index: int
    """Position of the chunk in the video, from 0."""
    text: Float[Tensor, "n d"]
    """Token states of its prompt, zero-padded."""
    negative: Float[Tensor, "n d"]
    """Token states of the branch that guidance moves away from; zeros stand for no text."""
    embedding: Float[Tensor, " r"]
    """Unit vector by which past chunks are recalled."""
    image: Float[Tensor, "c h w"] | None = None
    """A picture that the chunk starts from, for models that take one."""
    prompt: str = ""
    """The prompt as text, for people and logs."""


def plan_chunks(
    storyboard: Storyboard,
    text_encoder: TextEncoder,
    *,
    fps: float | int,
    frames_per_chunk: int,
    num_chunks: int | None = None,
    first_frames: int | None = None,
) -> list[ChunkCondition]:
    """The condition of every chunk; each distinct prompt is encoded once.

    Args:
        storyboard: the shots.
        text_encoder: turns prompts into token states and a retrieval embedding.
        fps: frames a second.
        frames_per_chunk: frames of every chunk after the first one.
        num_chunks: length of the video; None: as long as the storyboard.
        first_frames: frames of the first chunk; None: 3 fewer than in the others.
    """
    shots = chunk_shots(
        storyboard, fps=fps, frames_per_chunk=frames_per_chunk, num_chunks=num_chunks, first_frames=first_frames
    )
    prompts = list(dict.fromkeys(storyboard.shots[shot].prompt for shot in shots))
    states = text_encoder.encode(prompts)
    # In training the branch without text sees zeros, not an encoded empty prompt.
    negative = torch.zeros_like(states.tokens[0])
    rows = {prompt: row for row, prompt in enumerate(prompts)}
    plan = []
    for index, shot in enumerate(shots):
        prompt = storyboard.shots[shot].prompt
        text, embedding = states.tokens[rows[prompt]], states.embedding[rows[prompt]]
        plan.append(ChunkCondition(index=index, text=text, negative=negative, embedding=embedding, prompt=prompt))
    return plan
