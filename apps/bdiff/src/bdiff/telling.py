"""A model tells a story whose truth is known: some chunks given as they are, the others generated."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff.defaults import Sampling
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
from kvbank import Float8, Int4, Int8, KVBank, Policy, RecallTrace
from lvbench import storyworld
from noisesched import NoiseStream, denoising_grid

FIRST_STORY = 2_000_000
"""Stories from here on are neither trained on nor looked at while training."""


def sampling_of(
    folder: Path,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    noise: str | None = None,
    richness: int | None = None,
) -> Sampling:
    """How a model folder wants to be sampled, but for what is given.

    Raises:
        ValueError: If its sampling.json or a given value is not valid.
    """
    given = {"steps": steps, "guidance": guidance, "noise": noise, "richness": richness}
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
        states = self.encoder.encode(list(story.captions))
        conditions = [
            ChunkCondition(index=c, text=tokens, negative=torch.zeros_like(tokens), embedding=embedding)
            for c, (tokens, embedding) in enumerate(zip(states.tokens, states.embedding, strict=True))
        ]
        config, sampling = self.vae.config, self.sampling
        latent_size = tuple(side // config.spatial_stride for side in story.frames.shape[2:])
        bank = KVBank(policy=policy, rotate=self.model.rotate, seed=seed, quantization=quantization)
        chunks = generate(
            self.model,
            conditions,
            memory=bank,
            noise=NoiseStream(
                (config.latent_channels, *latent_size), sampling.latent_frames, seed=seed, base=sampling.noise
            ),
            grid=denoising_grid(sampling.steps, shift=sampling.shift),
            decoder=self.vae,
            guidance=sampling.guidance,
            prefix=self._latents(story, given),
        )
        frames = torch.cat([chunk.frames[0].cpu() for chunk in chunks], dim=1)
        return Film(frames=frames, trace=bank.trace)

    @torch.no_grad()
    def reconstruct(self, story: storyworld.StoryVideo) -> Float[Tensor, "3 t h w"]:
        """The story as the autoencoder shows it, on the CPU: what no transformer can surpass."""
        latents, _ = self.vae.encode(story.frames[None].to(self.vae.latent_mean.device))
        return self.vae.decode(latents)[0][0].cpu()

    def _latents(self, story: storyworld.StoryVideo, given: Collection[int]) -> dict[int, Tensor]:
        """Latents of some chunks, each encoded after all chunks before it."""
        if not given:
            return {}
        seen = story.frames[None, :, : sum(story.chunk_frames[: max(given) + 1])]
        latents, _ = self.vae.encode(seen.to(self.vae.latent_mean.device))
        chunks = latents.split(self.sampling.latent_frames, dim=2)
        return {chunk: chunks[chunk] for chunk in given}
