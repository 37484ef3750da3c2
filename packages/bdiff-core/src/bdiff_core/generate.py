"""The loop that makes a video: one chunk after the other, each denoised while it sees what the memory recalls for it.

Read this file first. Everything else in the package serves one line of it: `plan_chunks` makes the chunks,
`prepare_context` the context, `ChunkDiT` the velocity, a solver the steps, a `Decoder` the pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from bdiff_core.context import prepare_context
from bdiff_core.guidance import GuidedModel, branches
from bdiff_core.latents import Prefix, as_latents, check_prefix, given_latents
from bdiff_core.lengths import Lengths
from bdiff_core.model import ChunkDiT
from bdiff_core.plan import ChunkCondition
from bdiff_core.prompt_switch import PromptChange, PromptSwitch
from bdiff_core.protocols import Decoder, Memory, Noise
from bdiff_core.solvers import Solver, StepFunction, check_context_noise, checked_grid, euler, solver_steps


@dataclass(frozen=True, slots=True)
class Chunk:
    """One finished chunk."""

    index: int
    """Position of the chunk in the video, from 0."""
    latents: Float[Tensor, "1 c t h w"]
    """Clean latents."""
    frames: Float[Tensor, "1 3 T h_px w_px"] | None
    """Pixels in [-1, 1]; None without a decoder."""
    recall: Any
    """What the memory gave for this chunk."""
    decoder_state: Any = None
    """What the decoder carries on; hand it to `generate` to go on after this chunk."""


def generate(
    model: ChunkDiT,
    chunks: Iterable[ChunkCondition],
    *,
    memory: Memory,
    noise: Noise,
    grid: Float[Tensor, " steps"] | Sequence[float | int],
    solver: StepFunction | Solver = euler,
    decoder: Decoder | None = None,
    guidance: float = 1.0,
    positions: Literal["slots", "absolute"] = "slots",
    prefix: Prefix | None = None,
    decoder_state: Any = None,
    context_noise: float = 0.0,
    prompt_switch: PromptSwitch = "keep",
    before: Sequence[ChunkCondition] = (),
    past_latents: Mapping[int, Tensor] | None = None,
) -> Iterator[Chunk]:
    """Generate a video chunk by chunk (BlockVid Alg. 1 and Eq. 10).

    Grad mode is the caller's: training roll-outs run this very loop. Every random draw comes from ``noise`` and is a
    function of (seed, chunk), so a video may be continued from any chunk: pass the remaining ``chunks``, the memory as
    it was and the last `Chunk.decoder_state`. If prompts change, pass what is ``before``, too.

    Chunks may have different numbers of latent frames: each has as many as its noise.

    Args:
        model: The transformer; its dtype and device are those of the computation.
        chunks: What each chunk shows, in order, see `plan_chunks`. An iterator is asked for a chunk when it is to be
            made, not sooner.
        memory: Read before and written after every chunk. While a chunk of a sequence is made, the memory is told
            which chunk will be read next.
        noise: ``noise.chunk(index)`` gives the initial noise ``[frames, c, h, w]``. It may also have a method
            ``num_frames(index)``; otherwise it is asked for the noise of earlier chunks where their length is needed.
        grid: Levels from 1 down to 0, see ``noisesched.denoising_grid``.
        solver: One step of the sampler as a function, or a `Solver` that remembers its steps.
        decoder: Turns latents into pixels, carrying state from chunk to chunk.
        guidance: Classifier-free guidance scale; 1 runs the conditional branch alone.
        positions: "slots" (relative, unbounded length) or "absolute", see `prepare_context`.
        prefix: Latents given instead of generated, by `ChunkCondition.index`; they fill the memory and are decoded.
        decoder_state: State of the decoder after the chunk before the first of ``chunks``.
        context_noise: Level that the model is told when it makes the keys and values of a finished chunk, whose
            latents stay clean (Self-Forcing's ``context_noise`` / 1000); its own is 0.
        prompt_switch: What happens to the last chunks when the prompt changes: `keep`, `recompute` or `flush`, see
            `PromptChange`.
        before: The chunks before the first of ``chunks``, for `recompute` and `flush`.
        past_latents: For `recompute`, latents of the last chunks before the first of ``chunks``: those that the last
            one saw as recent, and its own.

    Yields:
        A `Chunk` for each of ``chunks``.

    Raises:
        ValueError: If the grid, the latents of the prefix, the positions, the context noise or what happens at a change
            of the prompt do not fit.
        TypeError: If the prefix is no mapping.
    """
    prefix = {} if prefix is None else prefix
    check_prefix(prefix)
    check_context_noise(context_noise)
    levels = checked_grid(grid)
    weight = next(model.parameters())
    lengths = Lengths(noise)
    change = PromptChange(prompt_switch, positions=positions, lengths=lengths, before=before, latents=past_latents)
    for place, chunk in enumerate(chunks):
        text = branches(chunk.text, chunk.negative, guidance=guidance).to(weight)
        guided = GuidedModel(model, model.embed_text(text), guidance=guidance)
        change.arrive(chunk, guided, memory, level=context_noise)

        recall = memory.read(chunk.index, embedding=chunk.embedding)
        if isinstance(chunks, Sequence) and place + 1 < len(chunks):
            memory.prefetch(chunks[place + 1].index, embedding=chunks[place + 1].embedding)
        recall, frames_per_chunk = change.shown(recall)

        x = as_latents(noise.chunk(chunk.index), like=weight)
        context = prepare_context(
            recall, model=model, index=chunk.index, positions=positions, frames_per_chunk=frames_per_chunk
        )
        start = lengths.before(chunk.index) if positions == "absolute" else 0
        guided = replace(guided, context=context, start=start)

        if chunk.index in prefix:
            x = given_latents(prefix, chunk.index, like=x)
        else:
            for step in solver_steps(solver, levels, index=chunk.index):
                x = step.advance(x, guided.velocity(x, step.level))  # with euler: x + (after - level) * velocity

        memory.write(chunk.index, guided.keys_values(x, level=context_noise), embedding=chunk.embedding)
        change.leave(chunk, x, recall)
        frames = None
        if decoder is not None:
            frames, decoder_state = decoder.decode(x, decoder_state)
        yield Chunk(index=chunk.index, latents=x, frames=frames, recall=recall, decoder_state=decoder_state)
