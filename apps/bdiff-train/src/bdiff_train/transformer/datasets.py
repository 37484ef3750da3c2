"""The stories that a transformer is trained on and evaluated on: rendered ones, or excerpts of videos."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import storyworld
from bdiff_core import CausalVAE, TextEncoder
from bdiff_train.data.stories import (
    HELD_OUT,
    StorySet,
    caption_words,
    load_stories,
    prepare_stories,
    render_story,
)
from bdiff_train.data.videos import VideoConfig, prepare_videos, read_excerpts, read_videos
from bdiff_train.engine.distributed import Ranks
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.preview import PREVIEW_STORY
from bdiff_train.transformer.story_sampler import Story
from lvbench import ManifestEntry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Datasets:
    """Encoded stories to train on, held-out ones, and the story of previews."""

    train: StorySet
    """Stories of all kinds, kind by kind."""
    held_out: Mapping[str, StorySet]
    """Held-out stories of each kind; videos are of one kind."""
    preview: Story
    words: Mapping[str, object]
    """The words that captions to train on use, as JSON."""


def load_datasets(config: ModelTrainConfig, vae: CausalVAE, encoder: TextEncoder, ranks: Ranks) -> Datasets:
    """Load the stories of a training; the first rank encodes missing ones while the others wait.

    Raises:
        ValueError: If there are too few videos, or none is long enough.
    """
    if not ranks.is_first:
        ranks.wait()
    if config.videos is None:
        datasets = _rendered(config, vae, encoder)
    else:
        datasets = _from_videos(config, config.videos, vae, encoder)
    if ranks.is_first:
        ranks.wait()
    return datasets


def _rendered(config: ModelTrainConfig, vae: CausalVAE, encoder: TextEncoder) -> Datasets:
    def prepare(take: str, seeds: range, on_story: Callable[[int], None] = lambda _: None) -> list[Path]:
        return prepare_stories(
            vae,
            seeds,
            folder=config.stories,
            take=take,
            num_chunks=config.chunks_per_story,
            latent_frames=config.latent_frames,
            richness=config.richness,
            on_story=on_story,
        )

    words = storyworld.words(config.takes, companions=config.richness == 2)
    held_out = {take: prepare(take, range(HELD_OUT, HELD_OUT + config.held_out_stories)) for take in config.takes}
    train = [
        shard
        for take in config.takes
        for shard in prepare(take, range(config.num_stories), _log_stories(config.num_stories, take))
    ]
    preview = render_story(
        PREVIEW_STORY,
        config.preview_chunks,
        take=config.takes[0],
        latent_frames=config.latent_frames,
        richness=config.richness,
    )
    return Datasets(
        train=load_stories(train, encoder),
        held_out={take: load_stories(shards, encoder) for take, shards in held_out.items()},
        preview=preview,
        words=words,
    )


def _from_videos(config: ModelTrainConfig, videos: VideoConfig, vae: CausalVAE, encoder: TextEncoder) -> Datasets:
    split = read_videos(videos.source)

    def prepare(entries: Sequence[ManifestEntry]) -> list[Path]:
        return prepare_videos(
            vae,
            split.root,
            entries,
            config=videos,
            folder=config.stories,
            num_chunks=config.chunks_per_story,
        )

    shards = [prepare(split.train), prepare(split.held_out)]
    excerpts = (
        excerpt
        for entry in split.held_out
        for excerpt in read_excerpts(split.root, entry, videos, num_chunks=config.chunks_per_story)
    )
    train, held_out = (load_stories(part, encoder) for part in shards)
    logger.info("%d excerpts to train on, %d held out", len(train.latents), len(held_out.latents))
    words = {"words": caption_words(shards[0])}
    return Datasets(train=train, held_out={"video": held_out}, preview=next(excerpts), words=words)


def _log_stories(total: int, take: str) -> Callable[[int], None]:
    def log(ready: int) -> None:
        if ready % 32 == 0 or ready >= total:
            logger.info("%d/%d stories encoded, kind of take: %s", ready, total, take)

    return log
