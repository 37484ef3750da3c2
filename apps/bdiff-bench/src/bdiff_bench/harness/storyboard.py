"""A storyboard of any length, for benches that time chunks and do not look at them."""

from bdiff_core import Storyboard
from storyworld import plan_story

STORY = 3_000_000
"""Seed of the story."""


def long_storyboard(num_chunks: int) -> Storyboard:
    """The captions of one story of the synthetic world, a prompt for each chunk."""
    return Storyboard.from_prompts([chunk.caption for chunk in plan_story(STORY, num_chunks).chunks])
