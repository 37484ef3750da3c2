"""Roll-outs: a model in training generates part of a story; the first chunks are given, the rest is sampled."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff import Sampling
from bdiff.run import ChunkNoise, make_memory, make_solver
from bdiff_core import ChunkCondition, ChunkDiT, generate
from bdiff_train.data.stories import StorySet
from forcing_losses import ChunkGenerator, RolloutMemory, Truncation, self_forcing_rollout
from kvbank import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """How a model in training generates."""

    chunks: int = 6
    """Number of chunks, cut from a story at a random place."""
    given: int = 1
    """Number of chunks at the start that are the story's own."""
    steps: int = 4
    """Steps of the denoising grid; a chunk leaves it at a random step, and takes half of them on average."""
    shift: float = 3.0
    """Shift of the denoising grid towards noise."""
    last_chunks: int | None = None
    """Number of chunks at the end that gradients flow through; None: all generated ones."""

    def __post_init__(self) -> None:
        if not 0 <= self.given < self.chunks or self.steps < 1:
            raise ValueError(
                f"chunks is {self.chunks}, given {self.given}, steps {self.steps}; expected fewer given chunks than "
                "chunks, and at least 1 step"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The part of a story that a roll-out generates, and the seed of its noise."""

    story: int
    start: int
    seed: int

    @classmethod
    def draw(cls, stories: StorySet, chunks: int, *, generator: torch.Generator) -> "Window":
        """Draw a place in a random story.

        Raises:
            ValueError: If the stories are shorter than the roll-out.
        """
        if chunks > stories.num_chunks:
            raise ValueError(f"a roll-out has {chunks} chunks; the stories have {stories.num_chunks}")
        story = int(torch.randint(len(stories.latents), (), generator=generator))
        start = int(torch.randint(stories.num_chunks - chunks + 1, (), generator=generator))
        return cls(story=story, start=start, seed=int(torch.randint(2**31, (), generator=generator)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """A generated video beside the real one."""

    real: Float[Tensor, "1 c t h w"]
    generated: Float[Tensor, "1 c t h w"]
    """The generated latents, with the graph that truncation left."""
    story: StorySet
    """`generated` as a story of its own, from which batches can be drawn."""


def roll_out(
    model: ChunkDiT, stories: StorySet, window: Window, *, config: RolloutConfig, policy: Policy, bfloat16: bool = False
) -> Rollout:
    """Generate a window of a story; the caller switches gradients on or off.

    Args:
        model: The transformer.
        stories: The stories that the window is part of.
        window: Which chunks to generate.
        config: Length, grid and truncation.
        policy: Which past chunks a chunk sees.
        bfloat16: Matrix products in bfloat16.
    """
    length, chunks = stories.frames_per_chunk, range(window.start, window.start + config.chunks)
    device = next(model.parameters()).device
    frames = slice(chunks.start * length, chunks.stop * length)
    real = stories.latents[window.story, frames].float().transpose(0, 1)[None].to(device)
    rows = stories.caption[window.story, chunks.start : chunks.stop]
    noise = ChunkNoise([window.seed] * config.chunks, (real.shape[1], *real.shape[3:]), length, base="fresh")
    _, grid = make_solver(Sampling(steps=config.steps, shift=config.shift), noise)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        rolled_out = self_forcing_rollout(
            _generator(model, stories, rows, real, noise=noise, num_given=config.given),
            range(config.chunks),
            memory=make_memory(policy, model, seed=window.seed),
            grid=grid,
            seed=window.seed,
            truncation=Truncation(last_chunks=config.last_chunks),
        )
        generated = torch.cat([chunk.latents for chunk in rolled_out], dim=2).float()
    story = StorySet(
        latents=generated.transpose(1, 2), caption=rows[None], tokens=stories.tokens, embedding=stories.embedding
    )
    return Rollout(real=real, generated=generated, story=story)


def _generator(
    model: ChunkDiT, stories: StorySet, rows: Tensor, real: Tensor, *, noise: ChunkNoise, num_given: int
) -> ChunkGenerator:
    """Make the function that generates one chunk by the sampler's own loop; given chunks only fill the memory."""
    tokens = stories.tokens[rows].to(real)
    conditions = [
        ChunkCondition(index=c, text=text, negative=torch.zeros_like(text), embedding=embedding)
        for c, (text, embedding) in enumerate(zip(tokens, stories.embedding[rows], strict=True))
    ]
    given = dict(enumerate(real.split(stories.frames_per_chunk, dim=2)[:num_given]))

    def generate_chunk(
        index: int,
        *,
        memory: RolloutMemory,
        grid: tuple[float, ...],
        solver: Callable[[Tensor, Tensor, float, float], Tensor],
    ) -> Tensor:
        chunks = generate(
            model, [conditions[index]], memory=memory, noise=noise, grid=grid, solver=solver, prefix=given
        )
        return next(chunks).latents

    return generate_chunk
