"""A held-out story, and the frames of its chunks."""

import pytest
import torch

import storyworld
from bdiff_train.transformer import FIRST_STORY

NUM_CHUNKS = 9  # of the first held-out story: 7 and 8 show the place of 0 again


@pytest.fixture(scope="session")
def story():
    return storyworld.render(FIRST_STORY, NUM_CHUNKS)


@pytest.fixture(scope="session")
def frames_of():
    """Gives the frames of a chunk of a story as a slice."""

    def frames_of(story, chunk):
        starts = [0, *torch.tensor(story.chunk_frames).cumsum(0).tolist()]
        return slice(starts[chunk], starts[chunk + 1])

    return frames_of
