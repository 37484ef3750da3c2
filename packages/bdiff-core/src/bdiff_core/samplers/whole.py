"""All frames at once under one prompt: the native mode of bidirectional models such as Wan 2.1."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.generate import Chunk
from bdiff_core.guidance import GuidedModel, branches
from bdiff_core.latents import as_latents
from bdiff_core.model import ChunkDiT
from bdiff_core.plan import ChunkCondition
from bdiff_core.protocols import Decoder, Noise
from bdiff_core.samplers.finished import finished
from bdiff_core.solvers import Solver, StepFunction, checked_grid, euler, solver_steps


def generate_whole(
    model: ChunkDiT,
    chunks: Sequence[ChunkCondition],
    *,
    noise: Noise,
    grid: Float[Tensor, " levels"] | Sequence[float | int],
    solver: StepFunction | Solver = euler,
    decoder: Decoder | None = None,
    guidance: float = 1.0,
    extra: Float[Tensor, "1 extra t h w"] | None = None,
    image_tokens: Float[Tensor, "1 m clip"] | None = None,
    decoder_state: Any = None,
) -> Iterator[Chunk]:
    """Generate a video whose frames are denoised together; its chunks come out when all are done.

    Args:
        model: The transformer; its dtype and device are those of the computation.
        chunks: What to show. A bidirectional model takes one prompt, so all chunks must have the same.
        noise: ``noise.chunk(index)`` gives the initial noise ``[frames, c, h, w]`` of a chunk.
        grid: Levels from 1 down to 0.
        solver: One step of the sampler as a function, or a `Solver` that remembers its steps.
        decoder: Turns latents into pixels, chunk by chunk.
        guidance: Classifier-free guidance scale; 1 runs the conditional branch alone.
        extra: Channels beside the latents of an image-to-video model.
        image_tokens: CLIP tokens of its image.
        decoder_state: State of the decoder before the first chunk.

    Yields:
        A `Chunk` for each of ``chunks``; nothing is recalled, so `Chunk.recall` is None.

    Raises:
        ValueError: If the prompts differ or the grid does not decrease to 0.
    """
    _check_one_prompt(chunks)
    levels = checked_grid(grid)
    weight = next(model.parameters())
    parts = [as_latents(noise.chunk(chunk.index), like=weight) for chunk in chunks]
    text = branches(chunks[0].text, chunks[0].negative, guidance=guidance).to(weight)
    if image_tokens is not None:
        image_tokens = image_tokens.to(weight).expand(len(text), -1, -1)
    states, extra = model.embed_text(text, image_tokens=image_tokens), None if extra is None else extra.to(weight)
    guided = GuidedModel(model, states, guidance=guidance, extra=extra)
    # Each chunk has steps of its own, so that a solver that draws noise draws that of the chunk.
    for steps in zip(*(solver_steps(solver, levels, index=chunk.index) for chunk in chunks), strict=True):
        velocity = guided.velocity(torch.cat(parts, dim=2), steps[0].level)
        split = velocity.split([part.shape[2] for part in parts], dim=2)
        parts = [step.advance(*part) for step, *part in zip(steps, parts, split, strict=True)]
    yield from finished(chunks, parts, decoder=decoder, state=decoder_state)


def _check_one_prompt(chunks: Sequence[ChunkCondition]) -> None:
    if not chunks:
        raise ValueError("chunks is empty; expected at least one chunk to generate")
    for chunk in chunks[1:]:
        if not torch.equal(chunk.text, chunks[0].text):
            raise ValueError(
                f"chunk {chunk.index} has another prompt than chunk {chunks[0].index}; whole mode tells the model one "
                "prompt: use the overlap or cached mode for a storyboard"
            )
