"""Roll-outs for Self Forcing: videos from the model's own output, with as much of their graph as training can hold.

Whatever generates a chunk is a function handed in; it reads and writes the memory that it is given and walks the grid
with the solver that it is given. `bdiff_core.generate`, called for one chunk, is such a function.
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
"""``solver(x, velocity, level, next_level) -> x`` at the next level."""


@runtime_checkable
class RolloutMemory(Protocol):
    """Where chunks leave what later chunks see; `kvbank.KVBank` is one."""

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Any:
        """What chunk ``index`` sees of earlier ones."""
        ...

    def write(self, index: int, layers: Iterable[Any], *, embedding: Float[Tensor, " d"] | None) -> None:
        """Store chunk ``index``: tensors, or dataclasses, mappings or sequences of tensors, one for each layer."""
        ...

    def prefetch(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> None:
        """Announce that chunk ``index`` will be read with this embedding."""
        ...


@runtime_checkable
class ChunkGenerator(Protocol):
    """Makes one chunk and writes it to the memory."""

    def __call__(
        self, index: int, *, memory: RolloutMemory, grid: tuple[float, ...], solver: Solver
    ) -> Float[Tensor, "b c t h w"]:
        """Clean latents of chunk ``index``, from its noise along ``grid``, by one call of ``solver`` a step.

        It must not switch gradients on or off itself.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncation:
    """Which part of a roll-out's graph is kept. The defaults are those of Self Forcing; see also `last_chunks`."""

    random_exit: bool = True
    """Leave the grid at a random step and go straight to level 0, so that every step is trained; False: walk it all."""
    last_step_only: bool = True
    """Keep the gradient of the last step that a chunk takes; False: of all its steps."""
    detach_memory: bool = True
    """Store chunks without their graph, so that no gradient flows from chunk to chunk; False: through the memory."""
    last_chunks: int | None = None
    """Keep the gradient of this many chunks at the end and make those before them without; None: of all."""

    def __post_init__(self) -> None:
        if self.last_chunks is not None and self.last_chunks < 1:
            raise ValueError(f"last_chunks is {self.last_chunks}; expected at least 1, or None to truncate no chunk")


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutChunk:
    """One generated chunk of a roll-out."""

    index: int
    latents: Float[Tensor, "b c t h w"]
    """Clean latents, with whatever graph the truncation left."""
    exit_step: int
    """The last step on the grid, from 0: it went from ``grid[exit_step]`` to level 0."""
    exit_level: float
    """``grid[exit_step]``; DMD may draw its own level around it."""


SELF_FORCING = Truncation()
"""Random exit, last step only, detached memory, all chunks."""


def euler(x: Tensor, velocity: Tensor, level: float, next_level: float) -> Tensor:
    """One Euler step of dx/dt = v; to level 0 it gives the clean estimate x - level * v."""
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
    """Generate chunks one after the other from the model's own output (BlockVid section 3.2), ready for a loss.

    Nothing is generated until the iterator is asked. Join the latents in time for a loss on the video, or call
    `backward` chunk by chunk: with a detached memory no graph outlives its chunk. Gradients are kept only where the
    caller has them on.

    A truncated graph is independent of the number of chunks: with `last_chunks` it is that of the last chunks, with
    `detach_memory` that of the chunks which the caller holds. Steps before the last are run with a graph that is
    dropped at once: they cost its memory for the length of one step.

    Args:
        generate_chunk: Makes one chunk, see `ChunkGenerator`. It is told the part of the grid that the chunk walks.
        chunks: Numbers of the chunks in order: `range(n)`, or from where the memory ends.
        memory: Read and written by `generate_chunk`; what is in it beforehand (a prefix) is seen.
        grid: Levels of the sampler, decreasing to 0. It may be the short one of a distilled model.
        seed: Of the random exit steps, which are functions of (seed, chunk): give each training step its own.
        truncation: What is kept of the graph.
        solver: One step of the sampler, for example one that adds noise again.

    Yields:
        A `RolloutChunk` for each of `chunks`.
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
    """Uniform over the steps; 256 bits leave no bias that could be seen."""
    return int.from_bytes(hashlib.sha256(f"exit/{seed}/{chunk}".encode()).digest()) % num_steps


def _last_step_only(solver: Solver) -> Solver:
    def step(x: Tensor, velocity: Tensor, level: float, next_level: float) -> Tensor:
        x = solver(x, velocity, level, next_level)
        return x if next_level == 0.0 else x.detach()

    return step


class _DetachedMemory:
    """A memory that stores no graph."""

    def __init__(self, memory: RolloutMemory) -> None:
        self._memory = memory

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        return self._memory.read(index, embedding=embedding)

    def write(self, index: int, layers: Iterable[Any], *, embedding: Tensor | None) -> None:
        # Layers that are computed when asked for are computed in here: without a graph from the start.
        with torch.no_grad():
            self._memory.write(index, map(_detached, layers), embedding=embedding)

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        self._memory.prefetch(index, embedding=embedding)


def _detached(layer: Any) -> Any:
    """The layer with every tensor in it detached; what is no container and no tensor stays as it is."""
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
