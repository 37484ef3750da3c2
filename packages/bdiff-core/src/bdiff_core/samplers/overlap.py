"""Windows that overlap, without a cache: the native mode of SkyReels-V2's diffusion forcing.

Each window denoises its new chunks beside the last chunks of the window before, which are encoded again at every step.
Earlier chunks are not seen. A memory is compared with this sampler.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.generate import Chunk
from bdiff_core.guidance import GuidedModel, branches
from bdiff_core.latents import Prefix, as_latents, check_prefix, given_latents
from bdiff_core.model import ChunkDiT
from bdiff_core.plan import ChunkCondition
from bdiff_core.protocols import Decoder, Noise
from bdiff_core.samplers.finished import finished
from bdiff_core.solvers import Solver, Step, StepFunction, checked_grid, euler, solver_steps

_UNSTARTED = 0.999
"""Level given to the model for frames that are still pure noise, as in the published samplers of SkyReels-V2."""


def generate_overlap(
    model: ChunkDiT,
    chunks: Sequence[ChunkCondition],
    *,
    noise: Noise,
    grid: Float[Tensor, " levels"] | Sequence[float | int],
    window: int,
    overlap: int,
    lag: int = 0,
    causal: bool = False,
    history_level: float = 0.0,
    solver: StepFunction | Solver = euler,
    decoder: Decoder | None = None,
    guidance: float = 1.0,
    prefix: Prefix | None = None,
    decoder_state: Any = None,
) -> Iterator[Chunk]:
    """Generate a video window by window (diffusion forcing, SkyReels-V2).

    The latents of a window are updated in place, as in the published samplers; with a multistep solver the numbers
    depend on it. Call it without gradients.

    Args:
        model: The transformer; its dtype and device are those of the computation.
        chunks: What each chunk shows, in order.
        noise: ``noise.chunk(index)`` gives the initial noise ``[frames, c, h, w]`` of a chunk; with a `history_level`
            also ``noise.step(index, step)``.
        grid: Levels from 1 down to 0.
        window: Chunks that the model sees at once; SkyReels-V2: 25 latent frames, 5 chunks of 5.
        overlap: How many of them are finished ones; 1 or 2 with SkyReels-V2.
        lag: Steps by which each new chunk is behind the chunk before it. With 0 all are denoised together
            (synchronous); with more (asynchronous) a chunk is yielded as soon as it is clean.
        causal: Chunks see only themselves and earlier ones, and each has its own prompt. Otherwise a window has the
            prompt of its first new chunk.
        history_level: Noise mixed into the finished chunks before the model sees them; SkyReels-V2 suggests 0.02.
        solver: One step of the sampler as a function, or a `Solver` that remembers its steps.
        decoder: Turns latents into pixels, chunk by chunk.
        guidance: Classifier-free guidance scale; 1 runs the conditional branch alone.
        prefix: Latents given instead of generated, by `ChunkCondition.index`; they must be those of the first
            ``chunks``. They are decoded, and the first window sees the last ``overlap`` of them.
        decoder_state: State of the decoder before the first chunk.

    Yields:
        A `Chunk` for each of ``chunks``; nothing is recalled, so `Chunk.recall` is None.

    Raises:
        ValueError: If window, overlap, lag, history_level, the grid or the latents of the prefix do not fit.
        TypeError: If the prefix is no mapping.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"overlap is {overlap} and window {window} chunks; expected 0 <= overlap < window")
    if lag < 0 or not 0.0 <= history_level < 1.0:
        raise ValueError(f"lag is {lag} and history_level {history_level}; expected lag >= 0 and a level in [0, 1)")
    prefix = {} if prefix is None else prefix
    check_prefix(prefix)
    levels = checked_grid(grid)

    def denoised(shown: Sequence[ChunkCondition], history: Sequence[Tensor]) -> Iterator[Tensor]:
        return _Window(
            model=model,
            chunks=tuple(shown),
            history=tuple(history),
            noise=noise,
            steps=[list(solver_steps(solver, levels, index=chunk.index)) for chunk in shown[len(history) :]],
            guidance=guidance,
            lag=lag,
            causal=causal,
            history_level=history_level,
        ).denoise()

    given = _given(prefix, chunks, noise=noise, weight=next(model.parameters()))
    latents = _window_by_window(chunks, given, denoised, window=window, overlap=overlap)
    yield from finished(chunks, latents, decoder=decoder, state=decoder_state)


def _window_by_window(
    chunks: Sequence[ChunkCondition],
    given: Iterator[Tensor],
    denoised: Callable[[Sequence[ChunkCondition], Sequence[Tensor]], Iterator[Tensor]],
    *,
    window: int,
    overlap: int,
) -> Iterator[Tensor]:
    """Clean latents of every chunk: the given ones, then those of windows that begin with the last finished chunks."""
    history: list[Tensor] = []
    num_done, made = 0, given
    while True:
        for latents in made:
            history = [*history, latents][-overlap:] if overlap else []
            num_done += 1
            yield latents
        if num_done == len(chunks):
            return
        first = num_done - len(history)
        made = denoised(chunks[first : first + window], history)


def _given(prefix: Prefix, chunks: Sequence[ChunkCondition], *, noise: Noise, weight: Tensor) -> Iterator[Tensor]:
    """Latents that ``prefix`` gives. They must be those of the first chunks: a window sees only what it follows."""
    first = next((place for place, chunk in enumerate(chunks) if chunk.index not in prefix), len(chunks))
    if later := [chunk.index for chunk in chunks[first:] if chunk.index in prefix]:
        raise ValueError(f"prefix gives chunk {later[0]} but not chunk {chunks[first].index}; expected the first ones")
    for chunk in chunks[:first]:
        like = as_latents(noise.chunk(chunk.index), like=weight)
        yield given_latents(prefix, chunk.index, like=like)


def staggered(num_chunks: int, num_steps: int, *, lag: int, num_known: int = 0) -> Iterator[list[int]]:
    """How many steps each chunk has made, after each pass of the model, until all have made `num_steps`.

    The first unfinished chunk makes one step a pass; a chunk after an unfinished one stays `lag` steps behind it.
    `num_known` chunks are finished from the start.
    """
    made = [num_steps] * num_known + [0] * (num_chunks - num_known)
    while any(count < num_steps for count in made):
        row: list[int] = []
        for place, count in enumerate(made):
            leads = place == 0 or made[place - 1] == num_steps
            row.append(min(num_steps, max(0, count + 1 if leads else row[-1] - lag)))
        made = row
        yield row


@dataclass(kw_only=True, slots=True)
class _Window:
    """The chunks that are seen at once: some known, the others to be denoised."""

    model: ChunkDiT
    chunks: tuple[ChunkCondition, ...]
    history: tuple[Tensor, ...]
    noise: Any
    steps: list[list[Step]]
    guidance: float
    lag: int
    causal: bool
    history_level: float
    _models: dict[int, GuidedModel] = field(default_factory=dict)

    def denoise(self) -> Iterator[Tensor]:
        """Clean latents of each new chunk, as soon as it and those before it are done."""
        weight = next(self.model.parameters())
        num_known, num_steps = len(self.history), len(self.steps[0])
        new = [as_latents(self.noise.chunk(chunk.index), like=weight).clone() for chunk in self.chunks[num_known:]]
        before, num_yielded = [0] * len(new), 0
        rows = staggered(len(self.chunks), num_steps, lag=self.lag, num_known=num_known)
        for number, made in enumerate(row[num_known:] for row in rows):
            shown = self._num_shown(made)
            frames = [*self._shown_history(number, weight), *new[:shown]]
            levels = [self.history_level] * num_known
            levels += [self._level(place, before[place], made[place]) for place in range(shown)]
            per_frame = [level for level, x in zip(levels, frames, strict=True) for _ in range(x.shape[2])]
            velocity = self._guided(num_known + shown, weight).velocity(torch.cat(frames, dim=2), per_frame)
            parts = velocity.split([x.shape[2] for x in frames], dim=2)[num_known:]
            for place, part in enumerate(parts):
                if made[place] > before[place]:
                    # In place, as in the published samplers: a multistep scheduler remembers this very tensor, so its
                    # corrector starts from the new sample. Copies give other latents.
                    new[place].copy_(self.steps[place][before[place]].advance(new[place], part))
            before = made
            while num_yielded < len(new) and made[num_yielded] == num_steps:
                yield new[num_yielded]
                num_yielded += 1

    def _level(self, place: int, before: int, made: int) -> float:
        """The level of a new chunk that the model gets in the pass that takes it from `before` steps to `made`."""
        if made > before:
            return self.steps[place][before].level
        return 0.0 if made else _UNSTARTED

    def _num_shown(self, made: list[int]) -> int:
        """New chunks that the model must see: with causal attention, none after the last that makes a step."""
        return sum(count > 0 for count in made) if self.causal else len(made)

    def _shown_history(self, step: int, weight: Tensor) -> Iterator[Tensor]:
        for chunk, x in zip(self.chunks[: len(self.history)], self.history, strict=True):
            if self.history_level == 0.0:
                yield x
            else:
                fresh = as_latents(self.noise.step(chunk.index, step), like=weight)
                yield (1 - self.history_level) * x + self.history_level * fresh

    def _guided(self, num_chunks: int, weight: Tensor) -> GuidedModel:
        """The model with the prompts of the first `num_chunks` chunks; prompts are embedded once for each number."""
        if num_chunks not in self._models:
            if self.causal:
                text, negative = (
                    torch.stack([getattr(chunk, name) for chunk in self.chunks[:num_chunks]])
                    for name in ("text", "negative")
                )
            else:
                first = self.chunks[len(self.history)]
                text, negative = first.text, first.negative
            self._models[num_chunks] = GuidedModel(
                self.model,
                self.model.embed_text(branches(text, negative, guidance=self.guidance).to(weight)),
                guidance=self.guidance,
                frames_per_chunk=self.noise.chunk(self.chunks[0].index).shape[0] if self.causal else None,
            )
        return self._models[num_chunks]
