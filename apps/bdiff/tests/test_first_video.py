"""The shipped storyboard keeps to the world that the shipped model knows."""

from itertools import pairwise

import pytest

from bdiff import defaults
from bdiff_core import SentenceTextEncoder, Storyboard
from kvbank import SemanticSparse
from storyworld import PLACES, plan_story

PROMPTS = [shot.prompt for shot in Storyboard.load(defaults.STORYBOARD).shots]
PLACE = [next(place for place in PLACES if place in prompt) for prompt in PROMPTS]
SECONDS = 2.5


@pytest.fixture(scope="module")
def known_words():
    captions = (chunk.caption for seed in range(60) for chunk in plan_story(seed, 25).chunks)
    return {word for caption in captions for word in caption.replace(",", "").split()}


def test_it_has_a_minute_of_chunks():
    assert len(PROMPTS) == 25


def test_it_speaks_the_words_of_the_world(known_words):
    assert {word for prompt in PROMPTS for word in prompt.replace(",", "").split()} <= known_words


def test_every_place_is_visited_again_after_more_than_twenty_seconds():
    for place in set(PLACE):
        visits = [index for index, found in enumerate(PLACE) if found == place]
        gaps = [(later - earlier - 1) * SECONDS for earlier, later in pairwise(visits)]
        assert max(gaps) > 20, place


def test_the_fox_leaves_over_the_nearer_side_and_stays_in_the_picture():
    position = 26.0
    for index, prompt in enumerate(PROMPTS):
        arrives = index > 0 and PLACE[index] != PLACE[index - 1]
        way = 1 if "right" in prompt else -1 if "left" in prompt else 0
        if arrives:
            assert way == (1 if position >= 32 else -1), prompt
            position = 31.0 if way == 1 else 33.0
        else:
            position += 19 * way
        assert 10 <= position <= 54, prompt


def test_meaning_finds_the_right_place_on_every_return():
    embedding = SentenceTextEncoder().encode(PROMPTS).embedding
    policy = SemanticSparse()
    for index, place in enumerate(PLACE):
        similarity = (embedding[:index] @ embedding[index]).tolist()
        recalled = [c for c in policy.select(index, similarity) if policy.kind(index, c) == "recalled"]
        if place in PLACE[: max(0, index - 2)]:
            assert place in [PLACE[chunk] for chunk in recalled], PROMPTS[index]
