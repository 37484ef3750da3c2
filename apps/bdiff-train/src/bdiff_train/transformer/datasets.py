"""What a transformer is trained on and looked at with: rendered stories, or one's own videos."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import storyworld
from bdiff_core import CausalVAE, TextEncoder
from bdiff_train.data.stories import StorySet, load_stories, prepare_stories
from bdiff_train.data.story_pool import HELD_OUT
from bdiff_train.data.videos import Take, VideoConfig, prepare_videos, read_takes, read_videos
from bdiff_train.engine.distributed import Ranks
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.preview import PREVIEW_STORY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """Encoded films, and one to tell in previews."""

    stories: StorySet
    held_out: StorySet
    preview: storyworld.StoryVideo | Take


def read_data(config: ModelTrainConfig, vae: CausalVAE, encoder: TextEncoder, ranks: Ranks) -> TrainingData:
    """Read what is to be trained on; the first rank encodes what is missing while the others wait.

    Raises:
        ValueError: If videos are asked for and there are too few, or none is long enough.
    """
    if not ranks.is_first:
        ranks.wait()
    data = _rendered(config, vae, encoder) if config.videos is None else _filmed(config, config.videos, vae, encoder)
    if ranks.is_first:
        ranks.wait()
    return data


def _rendered(config: ModelTrainConfig, vae: CausalVAE, encoder: TextEncoder) -> TrainingData:
    shared = {"folder": config.stories, "num_chunks": config.chunks_per_story, "richness": config.richness}
    watched = range(HELD_OUT, HELD_OUT + config.held_out_stories)
    held_out = prepare_stories(vae, watched, **shared)
    shards = prepare_stories(vae, range(config.num_stories), on_story=_log_stories(config.num_stories), **shared)
    return TrainingData(
        stories=load_stories(shards, encoder),
        held_out=load_stories(held_out, encoder),
        preview=storyworld.render(PREVIEW_STORY, config.preview_chunks, richness=config.richness),
    )


def _filmed(config: ModelTrainConfig, videos: VideoConfig, vae: CausalVAE, encoder: TextEncoder) -> TrainingData:
    split = read_videos(videos.source)
    shared = {"config": videos, "folder": config.stories, "num_chunks": config.chunks_per_story}
    shards = [prepare_videos(vae, split.root, entries, **shared) for entries in (split.train, split.held_out)]
    takes = (
        take
        for entry in split.held_out
        for take in read_takes(split.root, entry, videos, num_chunks=config.chunks_per_story)
    )
    stories, held_out = (load_stories(part, encoder) for part in shards)
    logger.info("%d takes to train on, %d held out", len(stories.latents), len(held_out.latents))
    return TrainingData(stories=stories, held_out=held_out, preview=next(takes))


def _log_stories(total: int) -> Callable[[int], None]:
    def log(ready: int) -> None:
        if ready % 32 == 0 or ready >= total:
            logger.info("%d of %d stories encoded", ready, total)

    return log
