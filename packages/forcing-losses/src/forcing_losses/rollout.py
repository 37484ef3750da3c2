"""Roll-outs for Self Forcing: videos that the model makes from its own output, with a truncated graph.

The caller gives a function that generates one chunk. It uses the memory, the grid and the solver that it is given.
`bdiff_core.generate`, called for one chunk, is such a function.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Solver = Callable[[Tensor, Tensor, float, float], Tensor]
"""``solver(x, velocity, level, next_level) -> x at next_level``."""


@runtime_checkable
class RolloutMemory(Protocol):
    """A memory that chunks write and later chunks read. `kvbank.KVBank` is one."""

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Any:
        """What chunk ``index`` sees of earlier chunks."""
        ...

    def write(self, index: int, layers: Iterable[Any], *, embedding: Float[Tensor, " d"] | None) -> None:
        """Store chunk ``index``. Each layer is a tensor, or a dataclass, mapping or sequence of tensors."""
        ...

    def prefetch(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> None:
        """Announce that chunk ``index`` will be read with this embedding."""
        ...


@runtime_checkable
class ChunkGenerator(Protocol):
    """A function that makes one chunk and writes it to the memory."""

    def __call__(
        self, index: int, *, memory: RolloutMemory, grid: tuple[float, ...], solver: Solver
    ) -> Float[Tensor, "b c t h w"]:
        """Make the clean latents of chunk ``index`` from its noise.

        It calls ``solver`` once for each step of ``grid``. It must not switch gradients on or off.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncation:
    """Which part of the graph of a roll-out is kept. The defaults are those of Self Forcing."""

    random_exit: bool = True
    """After a random step go straight to level 0, so that every step is trained. False: take all steps of the grid."""
    last_step_only: bool = True
    """Keep the gradient of the last step of each chunk only. False: keep that of all its steps."""
    detach_memory: bool = True
    """Store chunks without their graph. False: gradients flow from chunk to chunk through the memory."""
    last_chunks: int | None = None
    """Keep the gradient of this many chunks at the end. Earlier chunks are made without. None: keep that of all."""

    def __post_init__(self) -> None:
        if self.last_chunks is not None and self.last_chunks < 1:
            raise ValueError(f"last_chunks is {self.last_chunks}; expected at least 1, or None to truncate no chunk")


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutChunk:
    """One generated chunk of a roll-out."""

    index: int
    """Index of the chunk."""
    latents: Float[Tensor, "b c t h w"]
    """Clean latents, with the graph that the truncation keeps."""
    exit_step: int
    """Index of the last step, from 0. It went from ``grid[exit_step]`` to level 0."""
    exit_level: float
    """``grid[exit_step]``. For DMD a level near it may be drawn."""


SELF_FORCING = Truncation()
"""Random exit, last step only, detached memory, all chunks."""


def euler(x: Tensor, velocity: Tensor, level: float, next_level: float) -> Tensor:
    """One Euler step of dx/dt = v. A step to level 0 gives the clean estimate x - level * v."""
    return x + (next_level - level) * velocity


def self_forcing_rollout(
    generate_chunk: ChunkGenerator,
    chunks: Iterable[int],
    *,
    memory: RolloutMemory,
    grid: Float[Tensor, " levels"] | Sequence[float | int],
    seed: int,
    truncation: Truncation = SELF_FORCING,
    solver: Solver = euler,
) -> Iterator[RolloutChunk]:
    """Generate chunks one after the other from the model's own output (BlockVid section 3.2), for a loss.

    A chunk is generated when the iterator is asked for it. For a loss on the whole video, concatenate the latents in
    time. Or call `backward` chunk by chunk: with a detached memory, the graph of a chunk does not reach other chunks.
    Gradients are kept only if the caller has them switched on.

    The size of a truncated graph does not depend on the number of chunks. With `last_chunks` it is the graph of the
    last chunks. With `detach_memory` it is the graph of the chunks that the caller keeps. Steps before the last one
    make a graph that is dropped at once, so they need its memory for one step only.

    Args:
        generate_chunk: Makes one chunk, see `ChunkGenerator`. It gets the part of the grid that the chunk uses.
        chunks: Indexes of the chunks in order: `range(n)`, or from the end of the memory on.
        memory: Read and written by `generate_chunk`. Chunks that it already holds, a prefix, are seen too.
        grid: Levels of the sampler, decreasing to 0. It may be the short grid of a distilled model.
        seed: Seed of the random exit steps, which are functions of (seed, chunk). Use another in each training step.
        truncation: Which part of the graph is kept.
        solver: One step of the sampler, for example one that adds noise again.

    Yields:
        One `RolloutChunk` for each of `chunks`.
    """
    levels = tuple(float(level) for level in grid)
    if len(levels) < 2 or any(after >= level for level, after in pairwise(levels)) or levels[-1] != 0.0:
        raise ValueError(f"grid is {list(levels)}; expected at least two decreasing levels that end at 0")
    if truncation.detach_memory:
        memory = _DetachedMemory(memory)
    if truncation.last_step_only:
        solver = _last_step_only(solver)
    return _rollout(
        generate_chunk, tuple(chunks), memory=memory, levels=levels, seed=seed, truncation=truncation, solver=solver
    )


def _rollout(
    generate_chunk: ChunkGenerator,
    chunks: tuple[int, ...],
    *,
    memory: RolloutMemory,
    levels: tuple[float, ...],
    seed: int,
    truncation: Truncation,
    solver: Solver,
) -> Iterator[RolloutChunk]:
    num_steps = len(levels) - 1
    first_kept = 0 if truncation.last_chunks is None else len(chunks) - truncation.last_chunks
    for place, index in enumerate(chunks):
        step = _exit_step(seed, index, num_steps) if truncation.random_exit else num_steps - 1
        walked = (*levels[: step + 1], 0.0)
        with torch.set_grad_enabled(torch.is_grad_enabled() and place >= first_kept):
            latents = generate_chunk(index, memory=memory, grid=walked, solver=solver)
        yield RolloutChunk(index=index, latents=latents, exit_step=step, exit_level=levels[step])


def _exit_step(seed: int, chunk: int, num_steps: int) -> int:
    """A uniformly random step. With 256 random bits the bias of the remainder does not matter."""
    return int.from_bytes(hashlib.sha256(f"exit/{seed}/{chunk}".encode()).digest()) % num_steps


def _last_step_only(solver: Solver) -> Solver:
    """The solver with the graph detached after every step but the one to level 0."""

    def step(x: Tensor, velocity: Tensor, level: float, next_level: float) -> Tensor:
        x = solver(x, velocity, level, next_level)
        return x if next_level == 0.0 else x.detach()

    return step


class _DetachedMemory:
    """A memory that stores chunks without their graph."""

    def __init__(self, memory: RolloutMemory) -> None:
        self._memory = memory

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        return self._memory.read(index, embedding=embedding)

    def write(self, index: int, layers: Iterable[Any], *, embedding: Tensor | None) -> None:
        # Layers may be computed lazily; then they are computed here, without a graph.
        with torch.no_grad():
            self._memory.write(index, map(_detached, layers), embedding=embedding)

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        self._memory.prefetch(index, embedding=embedding)


def _detached(layer: Any) -> Any:
    """The layer with all its tensors detached. Anything but tensors and containers of them stays unchanged."""
    if isinstance(layer, Tensor):
        return layer.detach()
    if is_dataclass(layer) and not isinstance(layer, type):
        parts = {field.name: _detached(getattr(layer, field.name)) for field in fields(layer) if field.init}
        return replace(layer, **parts)
    if isinstance(layer, Mapping):
        return {name: _detached(part) for name, part in layer.items()}
    if isinstance(layer, list | tuple):
        return tuple(map(_detached, layer))
    return layer
