"""Films that a model in training tells: part of a story, its beginning given, the rest by `bdiff_core.generate`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core import ChunkCondition, ChunkDiT, generate
from bdiff_train.data.stories import StorySet
from forcing_losses import ChunkGenerator, RolloutMemory, Truncation, self_forcing_rollout
from kvbank import KVBank, Policy
from noisesched import NoiseStream, denoising_grid


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """How a model in training generates."""

    chunks: int = 6
    """Of a film, cut from a story at a random place."""
    given: int = 1
    """Chunks at its beginning that are the story's own."""
    steps: int = 4
    """Of the grid; with a random exit a chunk takes half of them on average."""
    shift: float = 3.0
    """Of the grid towards noise."""
    last_chunks: int | None = None
    """Chunks at the end through which gradients flow; None: all that are generated."""

    def __post_init__(self) -> None:
        if not 0 <= self.given < self.chunks or self.steps < 1:
            raise ValueError(
                f"chunks is {self.chunks}, given {self.given}, steps {self.steps}; expected fewer given chunks than "
                "there are, and at least 1 step"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Which part of a story is told, and the seed of its noise."""

    story: int
    start: int
    seed: int

    @classmethod
    def draw(cls, stories: StorySet, chunks: int, *, generator: torch.Generator) -> "Window":
        """A place in a random story."""
        if chunks > stories.num_chunks:
            raise ValueError(f"a roll-out has {chunks} chunks; the stories have {stories.num_chunks}")
        story = int(torch.randint(len(stories.latents), (), generator=generator))
        start = int(torch.randint(stories.num_chunks - chunks + 1, (), generator=generator))
        return cls(story=story, start=start, seed=int(torch.randint(2**31, (), generator=generator)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """A roll-out beside the truth."""

    real: Float[Tensor, "1 c t h w"]
    made: Float[Tensor, "1 c t h w"]
    """With the graph that truncation left."""
    story: StorySet
    """`made` as a story of its own, so that gather batches can be drawn from it."""


def roll_out(
    model: ChunkDiT, stories: StorySet, window: Window, *, config: RolloutConfig, policy: Policy, bfloat16: bool = False
) -> Film:
    """Let a model tell a window of a story; gradients are the caller's to switch on.

    Args:
        model: Generates.
        stories: Where the window is.
        window: What is told.
        config: Length, grid and truncation.
        policy: Which past chunks a chunk sees.
        bfloat16: Matrix products in bfloat16.
    """
    length, chunks = stories.frames_per_chunk, range(window.start, window.start + config.chunks)
    device = next(model.parameters()).device
    frames = slice(chunks.start * length, chunks.stop * length)
    real = stories.latents[window.story, frames].float().transpose(0, 1)[None].to(device)
    rows = stories.caption[window.story, chunks.start : chunks.stop]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        told = self_forcing_rollout(
            _generator(model, stories, rows, real, config=config, seed=window.seed),
            range(config.chunks),
            memory=KVBank(policy=policy, rotate=model.rotate, seed=window.seed),
            grid=denoising_grid(config.steps, shift=config.shift),
            seed=window.seed,
            truncation=Truncation(last_chunks=config.last_chunks),
        )
        made = torch.cat([chunk.latents for chunk in told], dim=2)
    story = StorySet(
        latents=made.float().transpose(1, 2), caption=rows[None], tokens=stories.tokens, embedding=stories.embedding
    )
    return Film(real=real, made=made.float(), story=story)


def _generator(
    model: ChunkDiT, stories: StorySet, rows: Tensor, real: Tensor, *, config: RolloutConfig, seed: int
) -> ChunkGenerator:
    """One chunk by the sampler's own loop; given ones only fill the memory."""
    tokens, length = stories.tokens[rows].to(real), stories.frames_per_chunk
    conditions = [
        ChunkCondition(index=c, text=text, negative=torch.zeros_like(text), embedding=embedding)
        for c, (text, embedding) in enumerate(zip(tokens, stories.embedding[rows], strict=True))
    ]
    noise = NoiseStream((real.shape[1], *real.shape[3:]), length, seed=seed, base="fresh")
    given = dict(enumerate(real.split(length, dim=2)[: config.given]))

    def generate_chunk(
        index: int,
        *,
        memory: RolloutMemory,
        grid: tuple[float, ...],
        solver: Callable[[Tensor, Tensor, float, float], Tensor],
    ) -> Tensor:
        made = generate(model, [conditions[index]], memory=memory, noise=noise, grid=grid, solver=solver, prefix=given)
        return next(made).latents

    return generate_chunk
