"""What is measured in one video: the truth has no error, and errors are counted where they are made."""

import math
from types import SimpleNamespace

import pytest
import torch

import storyworld
from bdiff_bench.memory.colours import REGIONS, region_masks
from bdiff_bench.memory.measures import given_chunks, measure, measure_random_place, token_shares
from bdiff_train.transformer import FIRST_STORY

NUM_CHUNKS = 9  # of the first held-out story: 7 and 8 show the place of 0 again


def test_first_visits_are_given_or_the_first_chunk_alone():
    places = [0, 0, 1, 0, 2, 2, 1]
    assert given_chunks("given", places) == (0, 1, 2, 4, 5)
    assert given_chunks("free", places) == (0,)


@pytest.mark.parametrize("richness", [0, 1])
def test_the_truth_has_no_error(richness):
    story = storyworld.render(FIRST_STORY, NUM_CHUNKS, richness=richness)
    records = measure(story.frames, story, "given")
    assert [r["chunk"] for r in records] == [7, 8]
    for record in records:
        assert record["colour"] == record["subject"] == 0.0
        assert math.isnan(record["landmark"]) == (richness == 0)
    for record in measure(story.frames, story, "free"):
        assert record["palette"] < 0.005 < 0.05 < record["elsewhere"]  # the actor hides different parts of a gradient
        assert record["subject"] == 0.0


def test_a_shift_of_all_colours_is_the_error(story):
    """Frames are in [-1, 1], errors in [0, 1]."""
    for record in measure(story.frames + 0.2, story, "given"):
        for name in (*REGIONS, "colour", "subject"):
            assert record[name] == pytest.approx(0.1, abs=1e-4)


def test_a_return_in_other_colours_is_its_distance(story, frames_of):
    """Free: only the change since the first visit counts, not the distance to the truth."""
    frames = story.frames + 0.4
    for plain, moved in zip(measure(story.frames, story, "free"), measure(frames, story, "free"), strict=True):
        assert moved["palette"] == pytest.approx(plain["palette"], abs=1e-5)
    for chunk in (7, 8):
        frames[:, frames_of(story, chunk)] += 0.2
    for record in measure(frames, story, "free"):
        assert record["palette"] == pytest.approx(0.1, abs=5e-3)


def test_a_broken_video_is_refused(story):
    broken = story.frames.clone()
    broken[0, 3] = float("nan")
    for video in (broken, story.frames[:, 1:]):
        with pytest.raises(ValueError, match="expected the same, and finite"):
            measure(video, story, "given")


def test_a_random_place_is_the_mean_over_the_other_places(story, frames_of):
    records = measure_random_place(story, "given")
    truth, span = story.truth, frames_of(story, 7)
    own = int(truth.place[7])
    masks = region_masks(truth, span)
    errors = []
    for other in range(len(truth.places)):
        if other != own:
            difference = (truth.backgrounds[other] - truth.backgrounds[own]).abs().mean(0) / 2
            errors.append(torch.stack([difference.expand(masks[0].shape)[mask].mean() for mask in masks]).nanmean())
    assert records[0]["colour"] == pytest.approx(torch.stack(errors).mean().item(), abs=1e-5)
    assert records[0]["colour"] > 0.05
    free = measure_random_place(story, "free")[0]
    assert free["palette"] > 0.05
    assert math.isnan(free["elsewhere"])


def test_shares_of_tokens():
    reads = [
        SimpleNamespace(index=0, chunks=(), spans=()),
        SimpleNamespace(index=1, chunks=(0,), spans=((8,), (4,))),
        SimpleNamespace(index=2, chunks=(0, 1), spans=((8, 6), (4, 2))),
    ]
    shares = token_shares(reads, tokens_per_chunk=8, window=2)
    assert shares["kept"] == pytest.approx([22 / 24, 10 / 24])
    assert shares["shown"] == pytest.approx((14 + 6) / 2)
    assert token_shares(reads[:1], tokens_per_chunk=8, window=2) == {"kept": None, "shown": 0.0}
