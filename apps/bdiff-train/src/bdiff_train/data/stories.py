"""Stories of storyworld as training data: latents and captions, encoded once and kept as safetensors shards."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

import storyworld
from bdiff.files import save_whole
from bdiff_core import CausalVAE, TextEncoder
from kvbank import ExactIndex

STORIES_PER_SHARD = 8

HELD_OUT = 1_000_000
"""The first seed of held-out stories: those from here on are never trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StorySet:
    """Encoded stories in memory."""

    latents: Float[Tensor, "stories t c h w"]
    """Normalised latents in half precision, the chunks of a story one after another."""
    caption: Int[Tensor, "stories chunks"]
    """Row in `tokens` and `embedding` of each chunk's caption."""
    tokens: Float[Tensor, "captions n d"]
    """Token states of each distinct caption, in half precision."""
    embedding: Float[Tensor, "captions r"]
    """Retrieval embedding of each distinct caption."""

    @property
    def num_chunks(self) -> int:
        """Number of chunks in each story."""
        return self.caption.shape[1]

    @property
    def frames_per_chunk(self) -> int:
        """Number of latent frames in each chunk."""
        return self.latents.shape[1] // self.num_chunks

    def similarity(self, story: int, chunk: int) -> list[float]:
        """Compute the cosine similarity of a chunk's caption to that of each chunk before it."""
        return past_similarity(self.embedding[self.caption[story, : chunk + 1]])


def past_similarity(embedding: Float[Tensor, "chunks r"]) -> list[float]:
    """Compute the cosine similarity of the last chunk's caption to each one before it, by the memory's own search.

    In a plain matrix product, equal rows give results that differ in the last bits. The memory treats equal captions as
    equal, and ties go to the newest chunk.
    """
    index = ExactIndex()
    for chunk, row in enumerate(embedding[:-1]):
        index.add(chunk, row)
    found = index.search(embedding[-1])
    return [found[chunk] for chunk in range(len(found))]


def prepare_stories(
    vae: CausalVAE,
    seeds: Sequence[int],
    *,
    folder: Path,
    num_chunks: int = 25,
    richness: int = 1,
    on_story: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Render and encode the stories that ``folder`` does not hold yet; a shard appears complete or not at all.

    Args:
        vae: The autoencoder. Its weights are part of the names of shards.
        seeds: The stories; they are grouped into shards in this order.
        folder: Folder of the shards.
        num_chunks: Chunks of a story.
        richness: How much there is to see in the stories, see ``storyworld.render``.
        on_story: Called after each shard with the number of stories that are ready.

    Returns:
        The shards, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, weights = [], fingerprint(vae)
    for first in range(0, len(seeds), STORIES_PER_SHARD):
        group = seeds[first : first + STORIES_PER_SHARD]
        shard = folder / f"stories-r{richness}-{group[0]:07d}-{len(group)}x{num_chunks}-{weights}.safetensors"
        if not shard.exists():
            _write_shard(vae, group, shard, num_chunks=num_chunks, richness=richness)
        shards.append(shard)
        on_story(first + len(group))
    return shards


def load_stories(shards: Sequence[Path], text_encoder: TextEncoder) -> StorySet:
    """Read shards into memory and encode each distinct caption once."""
    latents, captions = [], []
    for shard in shards:
        stories, listed = _read_shard(shard)
        latents.append(stories)
        captions.extend(listed)
    distinct = sorted({caption for story in captions for caption in story})
    row = {caption: i for i, caption in enumerate(distinct)}
    states = [text_encoder.encode(distinct[i : i + 256]) for i in range(0, len(distinct), 256)]
    return StorySet(
        latents=torch.cat(latents),
        caption=torch.tensor([[row[caption] for caption in story] for story in captions]),
        tokens=torch.cat([state.tokens.half() for state in states]),
        embedding=torch.cat([state.embedding.float() for state in states]),
    )


def _read_shard(shard: Path) -> tuple[Float[Tensor, "stories t c h w"], list[list[str]]]:
    try:
        with safe_open(shard, framework="pt") as file:
            return file.get_tensor("latents"), json.loads(file.metadata()["captions"])
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise ValueError(f"{shard} is damaged; delete it, and the next run encodes it again") from None


def write_shard(latents: Sequence[Float[Tensor, "t c h w"]], captions: Sequence[Sequence[str]], shard: Path) -> None:
    """Write a shard, complete or not at all: the latents of some stories in half precision, and their captions.

    Args:
        latents: One tensor a story, all of one length.
        captions: The captions of each story's chunks.
        shard: The file.
    """
    stacked = torch.stack([story.half() for story in latents]).contiguous()
    save_whole(shard, {"latents": stacked}, {"captions": json.dumps([list(story) for story in captions])})


def fingerprint(vae: CausalVAE) -> str:
    """Compute a short name of an autoencoder's weights, which keeps latents of different ones apart."""
    digest = hashlib.sha256()
    for value in vae.state_dict().values():
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def _write_shard(vae: CausalVAE, seeds: Sequence[int], shard: Path, *, num_chunks: int, richness: int) -> None:
    latents, captions = [], []
    for seed in seeds:
        story = storyworld.render(seed, num_chunks, richness=richness)
        encoded, _ = vae.encode(story.frames[None])
        latents.append(encoded[0].transpose(0, 1))
        captions.append(story.captions)
    write_shard(latents, captions, shard)
