"""Sampling of a story whose truth is known: some chunks are given as they are, the others are generated."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import storyworld
from bdiff import Sampling
from bdiff.run import ChunkNoise, make_memory, make_solver
from bdiff_core import (
    CausalVAE,
    ChunkCondition,
    ChunkDiT,
    SentenceTextEncoder,
    TextEncoder,
    generate,
    load_transformer,
    load_vae,
)
from bdiff_core.samplers import generate_overlap
from bdiff_train.data.stories import render_story
from bdiff_train.data.videos import Excerpt
from kvbank import Float8, Int4, Int8, Policy, RecallTrace
from kvbank.policies import Kind

FIRST_STORY = 2_000_000
"""The first seed of stories that are neither trained on nor used while training."""

Story = storyworld.StoryVideo | Excerpt
"""A video with captions that can be sampled anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledStory:
    """A story as a model samples it."""

    frames: Float[Tensor, "3 t h w"]
    """RGB in [-1, 1], on the CPU; given chunks as the autoencoder reconstructs them."""
    trace: tuple[RecallTrace, ...]
    """What each chunk saw of the past."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StorySampler:
    """A model, and how it samples stories."""

    model: ChunkDiT
    vae: CausalVAE
    encoder: TextEncoder
    sampling: Sampling

    @classmethod
    def load(cls, folder: Path, *, transformer: Path, sampling: Sampling, device: str = "cpu") -> "StorySampler":
        """Read the autoencoder of a model folder, and a transformer, in float32."""
        model = load_transformer(transformer, dtype=torch.float32, device=device).eval()
        return cls(
            model=model,
            vae=load_vae(folder, device=device),
            encoder=SentenceTextEncoder(text_length=model.config.text_length),
            sampling=sampling,
        )

    def story(self, seed: int, num_chunks: int, *, take: str = "story") -> storyworld.StoryVideo:
        """Render a story with chunks of this model's length, of the richness that the model was trained on.

        Args:
            seed: Its seed.
            num_chunks: Number of chunks.
            take: Kind of the video, one of ``storyworld.TAKES``.

        Raises:
            ValueError: If the model makes frames of another size than storyworld, or its richness has no such kind.
        """
        story = render_story(
            seed, num_chunks, take=take, latent_frames=self.sampling.latent_frames, richness=self.sampling.richness
        )
        expected, found = (self.sampling.height, self.sampling.width), tuple(story.frames.shape[2:])
        if expected != found:
            raise ValueError(f"the model makes frames of {expected} pixels; the stories have {found}")
        return story

    @torch.no_grad()
    def sample(
        self,
        story: Story,
        *,
        policy: Policy,
        given: Collection[int] = (0,),
        seed: int,
        quantization: Int8 | Float8 | Int4 | None = None,
    ) -> SampledStory:
        """Sample a story from its captions.

        Args:
            story: The story.
            policy: Which past chunks a chunk sees.
            given: Chunks that are not generated but encoded from the story.
            seed: Seed of the noise; a chunk's noise does not depend on which others are given.
            quantization: How keys and values of the past are packed; None: not at all.
        """
        memory = make_memory(policy, self.model, seed=seed, quantization=quantization)
        noise = self._noise(story, seed)
        solver, grid = make_solver(self.sampling, noise)
        chunks = generate(
            self.model,
            self._conditions(story),
            memory=memory,
            noise=noise,
            grid=grid,
            solver=solver,
            decoder=self.vae,
            guidance=self.sampling.guidance,
            prefix=self._latents(story, given),
        )
        frames = torch.cat([self._frames(chunk.frames) for chunk in chunks], dim=1)
        return SampledStory(frames=frames, trace=memory.trace)

    @torch.no_grad()
    def sample_without_memory(
        self, story: Story, *, num_past: int, given: Collection[int] = (0,), seed: int
    ) -> SampledStory:
        """Sample a story in overlapping windows: each chunk beside the last ones, encoded anew at each step.

        Args:
            story: The story.
            num_past: Number of past chunks in a window, with all their tokens; earlier chunks are not seen.
            given: As in `sample`.
            seed: As in `sample`; the noise is the same, too.
        """
        conditions, noise, known = self._conditions(story), self._noise(story, seed), self._latents(story, given)
        solver, grid = make_solver(self.sampling, noise)
        latents: dict[int, Tensor] = {}
        for chunk in range(len(conditions)):
            first = max(0, chunk - num_past)
            # one new chunk a window, so that any chunk may be given
            window = generate_overlap(
                self.model,
                conditions[first : chunk + 1],
                noise=noise,
                grid=grid,
                solver=solver,
                window=num_past + 1,
                overlap=num_past,
                causal=True,
                guidance=self.sampling.guidance,
                prefix={index: latents[index] for index in range(first, chunk)},
            )
            latents[chunk] = known[chunk] if chunk in known else list(window)[-1].latents
        frames, state = [], None
        for x in latents.values():
            pixels, state = self.vae.decode(x, state)
            frames.append(self._frames(pixels))
        trace = tuple(self._window_trace(story, c, 0 if c in known else num_past) for c in range(len(conditions)))
        return SampledStory(frames=torch.cat(frames, dim=1), trace=trace)

    @torch.no_grad()
    def reconstruct(self, story: Story) -> Float[Tensor, "3 t h w"]:
        """Encode and decode a story, and return it on the CPU: the best that any transformer could reach."""
        latents, _ = self.vae.encode(story.frames[None].to(self.vae.latent_mean.device))
        return self._frames(self.vae.decode(latents)[0])

    def _frames(self, decoded: Float[Tensor, "1 3 t h w"] | None) -> Float[Tensor, "3 t h w"]:
        """The frames of one video on the CPU."""
        assert decoded is not None  # a decoder is given
        return decoded[0].cpu()

    def _conditions(self, story: Story) -> list[ChunkCondition]:
        states = self.encoder.encode(list(story.captions))
        return [
            ChunkCondition(index=c, text=tokens, negative=torch.zeros_like(tokens), embedding=embedding)
            for c, (tokens, embedding) in enumerate(zip(states.tokens, states.embedding, strict=True))
        ]

    def _latent_size(self, story: Story) -> tuple[int, int]:
        height, width = (side // self.vae.config.spatial_stride for side in story.frames.shape[2:])
        return height, width

    def _noise(self, story: Story, seed: int) -> ChunkNoise:
        shape = (self.vae.config.latent_channels, *self._latent_size(story))
        return ChunkNoise([seed] * len(story.captions), shape, self.sampling.latent_frames, base=self.sampling.noise)

    def _window_trace(self, story: Story, chunk: int, num_past: int) -> RecallTrace:
        """Describe what a window without a memory shows its last chunk."""
        shown, config = tuple(range(max(0, chunk - num_past), chunk)), self.model.config
        tokens = config.num_tokens(self.sampling.latent_frames, *self._latent_size(story))
        recent: Kind = "recent"
        return RecallTrace(
            index=chunk,
            chunks=shown,
            kinds=(recent,) * len(shown),
            similarity=(None,) * len(shown),
            spans=((tokens,) * len(shown),) * config.num_layers,
            shares=(1.0,) * len(shown),
            kept=((range(tokens),) * len(shown),) * config.num_layers,
        )

    def _latents(self, story: Story, given: Collection[int]) -> dict[int, Tensor]:
        """Encode the given chunks, each after all chunks before it."""
        if not given:
            return {}
        seen = story.frames[None, :, : sum(story.chunk_frames[: max(given) + 1])]
        latents, _ = self.vae.encode(seen.to(self.vae.latent_mean.device))
        chunks = latents.split(self.sampling.latent_frames, dim=2)
        return {chunk: chunks[chunk] for chunk in given}
