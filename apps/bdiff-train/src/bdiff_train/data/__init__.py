"""Stories and videos to train on: rendered or read, encoded once, and kept as safetensors shards."""

from bdiff_train.data.pools import FramePool, StoryPool, VideoPool
from bdiff_train.data.stories import (
    HELD_OUT,
    STORIES_PER_SHARD,
    StorySet,
    load_stories,
    past_similarity,
    prepare_stories,
)
from bdiff_train.data.videos import Excerpt, VideoConfig, prepare_videos, read_excerpts, read_videos

__all__ = [  # noqa: RUF022 (grouped by use)
    # encoded stories
    "StorySet",
    "load_stories",
    "past_similarity",
    "prepare_stories",
    "HELD_OUT",
    "STORIES_PER_SHARD",
    # videos
    "VideoConfig",
    "Excerpt",
    "prepare_videos",
    "read_excerpts",
    "read_videos",
    # frames for the autoencoder
    "FramePool",
    "StoryPool",
    "VideoPool",
]
