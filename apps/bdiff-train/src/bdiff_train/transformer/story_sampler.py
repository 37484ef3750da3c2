"""A model tells a story whose truth is known: some chunks given as they are, the others generated."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import storyworld
from bdiff.defaults import Sampling
from bdiff_core import (
    CausalVAE,
    ChunkCondition,
    ChunkDiT,
    SentenceTextEncoder,
    TextEncoder,
    generate,
    generate_overlap,
    load_transformer,
    load_vae,
)
from kvbank import Float8, Int4, Int8, KVBank, Policy, RecallTrace
from noisesched import NoiseStream, denoising_grid

FIRST_STORY = 2_000_000
"""Stories from here on are neither trained on nor looked at while training."""


def sampling_of(
    folder: Path,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    noise: str | None = None,
    seniority: float | None = None,
    num_sink: int | None = None,
    richness: int | None = None,
) -> Sampling:
    """How a model folder wants to be sampled, but for what is given.

    Raises:
        ValueError: If its sampling.json or a given value is not valid.
    """
    given = {"steps": steps, "guidance": guidance, "noise": noise, "richness": richness}
    given |= {"seniority": seniority, "num_sink": num_sink}
    return replace(Sampling.of_model(folder), **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """A told story."""

    frames: Float[Tensor, "3 t h w"]
    """RGB in [-1, 1], on the CPU; given chunks as the autoencoder shows them."""
    trace: tuple[RecallTrace, ...]
    """What each chunk was shown of the past."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Teller:
    """A model and how it is sampled."""

    model: ChunkDiT
    vae: CausalVAE
    encoder: TextEncoder
    sampling: Sampling

    @classmethod
    def load(cls, folder: Path, *, transformer: Path, sampling: Sampling, device: str = "cpu") -> "Teller":
        """Read the autoencoder of a model folder and a transformer, in float32."""
        model = load_transformer(transformer, dtype=torch.float32, device=device).eval()
        return cls(
            model=model,
            vae=load_vae(folder, device=device),
            encoder=SentenceTextEncoder(text_length=model.config.text_length),
            sampling=sampling,
        )

    def story(self, seed: int, num_chunks: int) -> storyworld.StoryVideo:
        """Render a story whose chunks are as long as this model's, of the richness that it knows.

        Raises:
            ValueError: If the model draws pictures of another size than storyworld.
        """
        length, richness = self.sampling.frames_per_chunk, self.sampling.richness
        story = storyworld.render(
            seed, num_chunks, first_chunk_frames=length - 3, chunk_frames=length, richness=richness
        )
        wanted, drawn = (self.sampling.height, self.sampling.width), tuple(story.frames.shape[2:])
        if wanted != drawn:
            raise ValueError(f"the model draws pictures of {wanted} pixels; the stories have {drawn}")
        return story

    @torch.no_grad()
    def tell(
        self,
        story: storyworld.StoryVideo,
        *,
        policy: Policy,
        given: Collection[int] = (0,),
        seed: int,
        quantization: Int8 | Float8 | Int4 | None = None,
    ) -> Film:
        """Generate a story.

        Args:
            story: Its captions are told.
            policy: Which past chunks a chunk sees.
            given: Chunks that are not generated but taken from the story, as latents.
            seed: Of the noise; a chunk's noise does not depend on which others are given.
            quantization: How the past is packed; None: not at all.
        """
        bank = KVBank(policy=policy, rotate=self.model.rotate, seed=seed, quantization=quantization)
        chunks = generate(
            self.model,
            self._conditions(story),
            memory=bank,
            noise=self._noise(story, seed),
            grid=self._grid,
            decoder=self.vae,
            guidance=self.sampling.guidance,
            prefix=self._latents(story, given),
        )
        frames = torch.cat([chunk.frames[0].cpu() for chunk in chunks], dim=1)
        return Film(frames=frames, trace=bank.trace)

    @torch.no_grad()
    def tell_without_memory(
        self, story: storyworld.StoryVideo, *, num_past: int, given: Collection[int] = (0,), seed: int
    ) -> Film:
        """Generate a story by windows that overlap: each chunk beside the last ones, encoded anew at every step.

        Args:
            story: Its captions are told.
            num_past: Chunks of the past that a window holds, all their tokens; of what was before, nothing is known.
            given: As in `tell`.
            seed: As in `tell`; so is the noise.
        """
        conditions, noise, known = self._conditions(story), self._noise(story, seed), self._latents(story, given)
        latents: dict[int, Tensor] = {}
        for chunk in range(len(conditions)):
            first = max(0, chunk - num_past)
            # one new chunk a window, so that any chunk may be given
            window = generate_overlap(
                self.model,
                conditions[first : chunk + 1],
                noise=noise,
                grid=self._grid,
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
            frames.append(pixels[0].cpu())
        trace = tuple(self._window_trace(story, c, 0 if c in known else num_past) for c in range(len(conditions)))
        return Film(frames=torch.cat(frames, dim=1), trace=trace)

    @torch.no_grad()
    def reconstruct(self, story: storyworld.StoryVideo) -> Float[Tensor, "3 t h w"]:
        """The story as the autoencoder shows it, on the CPU: what no transformer can surpass."""
        latents, _ = self.vae.encode(story.frames[None].to(self.vae.latent_mean.device))
        return self.vae.decode(latents)[0][0].cpu()

    @property
    def _grid(self) -> Float[Tensor, " levels"]:
        return denoising_grid(self.sampling.steps, shift=self.sampling.shift)

    def _conditions(self, story: storyworld.StoryVideo) -> list[ChunkCondition]:
        states = self.encoder.encode(list(story.captions))
        return [
            ChunkCondition(index=c, text=tokens, negative=torch.zeros_like(tokens), embedding=embedding)
            for c, (tokens, embedding) in enumerate(zip(states.tokens, states.embedding, strict=True))
        ]

    def _latent_size(self, story: storyworld.StoryVideo) -> tuple[int, int]:
        height, width = (side // self.vae.config.spatial_stride for side in story.frames.shape[2:])
        return height, width

    def _noise(self, story: storyworld.StoryVideo, seed: int) -> NoiseStream:
        shape = (self.vae.config.latent_channels, *self._latent_size(story))
        return NoiseStream(shape, self.sampling.latent_frames, seed=seed, base=self.sampling.noise)

    def _window_trace(self, story: storyworld.StoryVideo, chunk: int, num_past: int) -> RecallTrace:
        """What a window without a memory shows to its last chunk."""
        shown, config = tuple(range(max(0, chunk - num_past), chunk)), self.model.config
        tokens = config.num_tokens(self.sampling.latent_frames, *self._latent_size(story))
        return RecallTrace(
            index=chunk,
            chunks=shown,
            kinds=("recent",) * len(shown),
            similarity=(None,) * len(shown),
            spans=((tokens,) * len(shown),) * config.num_layers,
            shares=(1.0,) * len(shown),
            kept=((range(tokens),) * len(shown),) * config.num_layers,
        )

    def _latents(self, story: storyworld.StoryVideo, given: Collection[int]) -> dict[int, Tensor]:
        """Latents of some chunks, each encoded after all chunks before it."""
        if not given:
            return {}
        seen = story.frames[None, :, : sum(story.chunk_frames[: max(given) + 1])]
        latents, _ = self.vae.encode(seen.to(self.vae.latent_mean.device))
        chunks = latents.split(self.sampling.latent_frames, dim=2)
        return {chunk: chunks[chunk] for chunk in given}
