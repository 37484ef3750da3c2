"""A stand-in for stories that is quick to draw."""

from types import SimpleNamespace

import pytest
import torch

import storyworld


@pytest.fixture
def moving_shapes(monkeypatch):
    """Stands in for the story renderer: a square of random colour that walks over random ground."""

    def render(seed, num_chunks, *, richness, take="story", first_chunk_frames=17, chunk_frames=20):
        generator = torch.Generator().manual_seed(seed)
        ground, square = 2 * torch.rand(2, 3, 1, 1, 1, generator=generator) - 1
        length = first_chunk_frames + chunk_frames * (num_chunks - 1)
        frames = ground.expand(3, length, 64, 64).clone()
        for t in range(length):
            frames[:, t, 20:40, t % 48 : t % 48 + 16] = square[:, 0]
        return SimpleNamespace(frames=frames)

    monkeypatch.setattr(storyworld, "render", render)
