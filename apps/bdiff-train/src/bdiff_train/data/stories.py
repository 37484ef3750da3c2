"""Storyworld as training data: latents and captions, encoded once and kept as safetensors shards."""

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
from bdiff.files.checked import save_whole
from bdiff_core import CausalVAE, TextEncoder
from kvbank import ExactIndex

STORIES_PER_SHARD = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class StorySet:
    """Encoded stories in memory."""

    latents: Float[Tensor, "stories t c h w"]
    """Normalised latents in half precision, chunk after chunk."""
    caption: Int[Tensor, "stories chunks"]
    """Row of each chunk's caption in ``tokens`` and ``embedding``."""
    tokens: Float[Tensor, "captions n d"]
    """Token states of every distinct caption, in half precision."""
    embedding: Float[Tensor, "captions r"]
    """Retrieval embedding of every distinct caption."""

    @property
    def num_chunks(self) -> int:
        """Chunks in each story."""
        return self.caption.shape[1]

    @property
    def frames_per_chunk(self) -> int:
        """Latent frames in each chunk."""
        return self.latents.shape[1] // self.num_chunks

    def similarity(self, story: int, chunk: int) -> list[float]:
        """Cosine similarity of a chunk's caption to those of all chunks before it."""
        return past_similarity(self.embedding[self.caption[story, : chunk + 1]])


def past_similarity(embedding: Float[Tensor, "chunks r"]) -> list[float]:
    """Cosine similarity of the last chunk's caption to each before it, by the memory's own search.

    Products of equal rows differ in their last bits, by the place of a row in its matrix; a memory takes equal captions
    for equal, and ties go to the newest.
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
    """Render and encode the stories that ``folder`` does not hold yet; a shard is written whole or not at all.

    Args:
        vae: Encodes the frames; shards of different weights have different names.
        seeds: One a story; they are grouped into shards in the order given.
        folder: Where the shards lie.
        num_chunks: Chunks of a story.
        richness: Richness of the world.
        on_story: Called with the number of stories that are ready.

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
    """Read shards into memory and encode every distinct caption once."""
    latents, captions = [], []
    for shard in shards:
        film, told = _read_shard(shard)
        latents.append(film)
        captions.extend(told)
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
        raise ValueError(f"{shard} is damaged; delete it, and it is encoded again") from None


def write_shard(latents: Sequence[Float[Tensor, "t c h w"]], captions: Sequence[Sequence[str]], shard: Path) -> None:
    """Write films of one length, in half precision, and the captions of their chunks; whole or not at all."""
    stacked = torch.stack([film.half() for film in latents]).contiguous()
    save_whole(shard, {"latents": stacked}, {"captions": json.dumps([list(film) for film in captions])})


def fingerprint(vae: CausalVAE) -> str:
    """A name for an autoencoder's weights: latents of different ones are not to be mixed."""
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
