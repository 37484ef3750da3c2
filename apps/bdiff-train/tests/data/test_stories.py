"""Encoded stories are kept apart by autoencoder; equal captions are equally similar."""

import pytest
import torch
from safetensors.torch import load_file

from bdiff_core import CausalVAE
from bdiff_core.vae import VAEConfig
from bdiff_train.data import StorySet, prepare_stories


def test_stories_of_two_autoencoders_are_not_mixed(tmp_path):
    shards = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        shards += prepare_stories(CausalVAE(VAEConfig()), [5], folder=tmp_path, num_chunks=2)
    first, other, again = shards
    assert first == again != other
    one, two = (load_file(shard)["latents"] for shard in (first, other))
    assert not torch.equal(one, two)


def test_equal_captions_are_equally_similar():
    """Products of equal rows of a matrix differ in their last bits, and the memory would choose others for them."""
    generator = torch.Generator().manual_seed(0)
    stories = StorySet(
        latents=torch.zeros(40, 25, 1, 1, 1),
        caption=torch.randint(6, (40, 25), generator=generator),
        tokens=torch.zeros(6, 1, 1),
        embedding=torch.nn.functional.normalize(torch.randn(6, 384, generator=generator), dim=1),
    )
    exact = stories.embedding.double() @ stories.embedding.double().T
    for story in range(40):
        of = stories.caption[story].tolist()
        for chunk in range(25):
            found = stories.similarity(story, chunk)
            assert found == pytest.approx(exact[of[chunk], of[:chunk]].tolist(), abs=1e-6)
            assert len(set(zip(of[:chunk], found, strict=True))) == len(set(of[:chunk]))
