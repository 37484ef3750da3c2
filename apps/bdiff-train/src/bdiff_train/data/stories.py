"""Stories of storyworld as training data: latents and captions, encoded once and kept as safetensors shards."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

LATENT_FRAMES = 5
"""Latent frames of a chunk, where nothing else is said."""

LEAST_LATENT_FRAMES = 2
"""Fewest latent frames of a chunk of a rendered story: the first chunk has 4n - 3 frames, and storyworld draws 4."""

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


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


def check_takes(takes: Sequence[str], richness: int) -> None:
    """Refuse kinds of takes that storyworld does not have.

    Args:
        takes: The kinds.
        richness: How much there is to see in them.

    Raises:
        ValueError: If there are none, one is unknown or named twice, or one does not exist at this richness.
    """
    if not takes or len(set(takes)) < len(takes) or not set(takes) <= set(storyworld.TAKES):
        raise ValueError(f"takes is {','.join(takes)!r}; expected some of {', '.join(storyworld.TAKES)}, each once")
    others = [take for take in takes if take != "story"]
    if others and richness != 2:
        raise ValueError(f"richness is {richness}; takes of kind {others[0]} have richness 2: give --richness 2")


def chunk_frames(num_chunks: int, latent_frames: int) -> list[int]:
    """Return the frames of each chunk: an autoencoder that shortens time by 4 makes `latent_frames` of them."""
    return [4 * latent_frames - 3] + [4 * latent_frames] * (num_chunks - 1)


def render_story(
    seed: int, num_chunks: int, *, take: str = "story", latent_frames: int = LATENT_FRAMES, richness: int = 1
) -> storyworld.StoryVideo:
    """Render a story whose chunks an autoencoder that shortens time by 4 makes `latent_frames` of."""
    kind: Any = take  # `check_takes` knows it; its type there is a literal one
    first, later = chunk_frames(2, latent_frames)
    return storyworld.render(
        seed, num_chunks, take=kind, first_chunk_frames=first, chunk_frames=later, richness=richness
    )


def prepare_stories(
    vae: CausalVAE,
    seeds: Sequence[int],
    *,
    folder: Path,
    take: str = "story",
    num_chunks: int = 25,
    latent_frames: int = LATENT_FRAMES,
    richness: int = 1,
    on_story: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Render and encode the stories that ``folder`` does not hold yet; a shard appears complete or not at all.

    Args:
        vae: The autoencoder. Its weights are part of the names of shards.
        seeds: The stories; they are grouped into shards in this order.
        folder: Folder of the shards.
        take: Kind of take, one of ``storyworld.TAKES``.
        num_chunks: Chunks of a story.
        latent_frames: Latent frames of a chunk.
        richness: How much there is to see in the stories, see ``storyworld.render``.
        on_story: Called after each shard with the number of stories that are ready.

    Returns:
        The shards, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, weights = [], fingerprint(vae)
    kind = "stories" if take == "story" else take
    if latent_frames != LATENT_FRAMES:
        kind += f"-f{latent_frames}"
    for first in range(0, len(seeds), STORIES_PER_SHARD):
        group = seeds[first : first + STORIES_PER_SHARD]
        shard = folder / f"{kind}-r{richness}-{group[0]:07d}-{len(group)}x{num_chunks}-{weights}.safetensors"
        if not shard.exists():
            stories = (
                render_story(seed, num_chunks, take=take, latent_frames=latent_frames, richness=richness)
                for seed in group
            )
            _write_shard(vae, stories, shard)
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


def caption_words(shards: Sequence[Path]) -> list[str]:
    """List the words of all captions in shards, in lower case, each once."""
    captions: set[str] = set()
    for shard in shards:
        with _opened(shard) as file:
            captions.update(caption for story in _captions(file) for caption in story)
    return sorted({word for caption in captions for word in _WORD.findall(caption.lower())})


def _read_shard(shard: Path) -> tuple[Float[Tensor, "stories t c h w"], list[list[str]]]:
    with _opened(shard) as file:
        return file.get_tensor("latents"), _captions(file)


def _captions(file: Any) -> list[list[str]]:
    """The captions of an open shard: those of each story's chunks."""
    found: list[list[str]] = json.loads(file.metadata()["captions"])
    return found


@contextmanager
def _opened(shard: Path) -> Iterator[Any]:
    try:
        with safe_open(shard, framework="pt") as file:
            yield file
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
def _write_shard(vae: CausalVAE, stories: Iterable[storyworld.StoryVideo], shard: Path) -> None:
    latents, captions = [], []
    for story in stories:
        encoded, _ = vae.encode(story.frames[None])
        latents.append(encoded[0].transpose(0, 1))
        captions.append(story.captions)
    write_shard(latents, captions, shard)
