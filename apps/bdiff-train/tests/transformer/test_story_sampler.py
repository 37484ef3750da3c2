"""Stories sampled with a memory and without: where a window holds the whole past, the two are the same."""

import pytest
import torch

from bdiff import Sampling
from bdiff_train.transformer import FIRST_STORY, StorySampler
from kvbank import Rolling


@pytest.fixture(scope="module")
def sampler(tiny_model):
    return StorySampler.load(
        tiny_model, transformer=tiny_model / "transformer", sampling=Sampling(steps=2, guidance=1.5, richness=0)
    )


@pytest.fixture(scope="module")
def story(sampler):
    return sampler.story(FIRST_STORY, 5)


def test_overlapping_windows_sample_what_a_rolling_memory_samples_until_something_is_forgotten(sampler, story):
    """Keys and values in a memory were made in sight of chunks that a window has dropped (chunk 4 sees 2 and 3)."""
    cached = sampler.sample(story, policy=Rolling(num_chunks=2), seed=3)
    windows = sampler.sample_without_memory(story, num_past=2, seed=3)
    first = sum(story.chunk_frames[:3])
    torch.testing.assert_close(windows.frames[:, :first], cached.frames[:, :first], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(windows.frames[:, first:], cached.frames[:, first:], rtol=1e-3, atol=1e-3)


def test_the_traces_of_both_say_the_same(sampler, story):
    cached = sampler.sample(story, policy=Rolling(num_chunks=2), seed=3).trace
    windows = sampler.sample_without_memory(story, num_past=2, seed=3).trace
    assert [(read.index, read.chunks, read.kinds) for read in windows] == [
        (read.index, read.chunks, read.kinds) for read in cached
    ]
    assert [read.spans for read in windows[1:]] == [read.spans for read in cached[1:]]


def test_any_chunk_may_be_given_to_windows(sampler, story):
    sampled = sampler.sample_without_memory(story, num_past=2, given=(0, 1, 3), seed=3)
    others = sampler.sample_without_memory(story, num_past=2, given=(0, 1), seed=3)
    assert [read.chunks for read in sampled.trace] == [(), (), (0, 1), (), (2, 3)]
    first = sum(story.chunk_frames[:3])
    torch.testing.assert_close(sampled.frames[:, :first], others.frames[:, :first], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(sampled.frames[:, first:], others.frames[:, first:], rtol=1e-3, atol=1e-3)
    true = sampler.sample_without_memory(story, num_past=2, given=range(5), seed=3)
    torch.testing.assert_close(true.frames, sampler.reconstruct(story), rtol=1e-4, atol=1e-4)


def test_takes_of_other_kinds_have_chunks_of_the_models_length(tiny_model):
    sampling = Sampling(steps=1, richness=2, latent_frames=3)
    sampler = StorySampler.load(tiny_model, transformer=tiny_model / "transformer", sampling=sampling)
    for take in ("story", "place", "walk"):
        video = sampler.story(FIRST_STORY, 2, take=take)
        assert (video.truth.take, video.chunk_frames) == (take, (9, 12))
        assert sampler.sample(video, policy=Rolling(num_chunks=2), seed=3).frames.shape == video.frames.shape


def test_a_take_that_a_models_richness_does_not_have_is_refused(sampler):
    with pytest.raises(ValueError, match="richness is 0; a walk is drawn at richness 2 only"):
        sampler.story(FIRST_STORY, 2, take="walk")
