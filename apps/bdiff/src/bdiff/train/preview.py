"""A look at a model in training: a held-out story, generated, under the truth."""

from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bdiff_core import CausalVAE, ChunkCondition, ChunkDiT, TextEncoder, generate
from kvbank import KVBank, SemanticSparse
from lvbench import storyworld
from noisesched import NoiseStream, denoising_grid

PREVIEW_STORY = 1_000_007
"""A held-out story."""

NUM_STEPS = 16


@torch.no_grad()
def sample_story(
    model: ChunkDiT,
    vae: CausalVAE,
    encoder: TextEncoder,
    *,
    story: storyworld.StoryVideo,
    given_chunks: int = 1,
    policy: SemanticSparse | None = None,
    num_steps: int = NUM_STEPS,
    guidance: float = 2.0,
    seed: int = 0,
) -> Float[Tensor, "3 t h w"]:
    """Generate the story that a rendered one tells, its first chunks given as true latents.

    Returns:
        All frames in [-1, 1], the decoded given ones included.
    """
    states = encoder.encode(list(story.captions))
    conditions = [
        ChunkCondition(index=c, text=tokens, negative=torch.zeros_like(tokens), embedding=embedding)
        for c, (tokens, embedding) in enumerate(zip(states.tokens, states.embedding, strict=True))
    ]
    latents, _ = (
        vae.encode(story.frames[None, :, : sum(story.chunk_frames[:given_chunks])]) if given_chunks else (None, None)
    )
    side = story.frames.shape[-1] // vae.config.spatial_stride
    frames_per_chunk = story.chunk_frames[-1] // vae.config.temporal_stride
    chunks = generate(
        model,
        conditions,
        memory=KVBank(policy=policy or SemanticSparse(), rotate=model.rotate, seed=seed),
        noise=NoiseStream((model.config.in_channels, side, side), frames_per_chunk, seed=seed, base="fresh"),
        grid=denoising_grid(num_steps, shift=3.0),
        decoder=vae,
        guidance=guidance,
        prefix=latents,
    )
    return torch.cat([chunk.frames[0] for chunk in chunks], dim=1)


def write_preview(
    model: ChunkDiT, vae: CausalVAE, encoder: TextEncoder, *, story: storyworld.StoryVideo, path: Path
) -> None:
    """Write three frames of each chunk as a PNG: the truth above what the model makes of it."""
    made = sample_story(model, vae, encoder, story=story)
    ends = torch.tensor(story.chunk_frames).cumsum(0)
    chosen = torch.cat([ends - 17, ends - 9, ends - 1]).sort().values
    rows = torch.cat([story.frames[:, chosen], made[:, chosen]], dim=2)
    # two lines of chunks, each with the truth above
    lines = [_line(line) for line in rows.chunk(2, dim=1)]
    sheet = torch.cat(lines).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    partial = path.with_name(f".{path.name}.tmp")
    Image.fromarray(sheet.numpy()).save(partial, format="png")
    partial.replace(path)


def _line(frames: Float[Tensor, "3 n h w"]) -> Float[Tensor, "h nw 3"]:
    return frames.permute(2, 1, 3, 0).flatten(1, 2)
