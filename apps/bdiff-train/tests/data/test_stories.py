"""Encoded stories are kept apart by autoencoder, kind and length of chunk; equal captions are equally similar."""

import pytest
import torch
from safetensors.torch import load_file

from bdiff_core import CausalVAE
from bdiff_core.vae import VAEConfig
from bdiff_train.data import StorySet, prepare_stories
from bdiff_train.data.stories import caption_words, fingerprint, write_shard


def test_stories_of_two_autoencoders_are_not_mixed(tmp_path):
    shards = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        shards += prepare_stories(CausalVAE(VAEConfig()), [5], folder=tmp_path, num_chunks=2)
    first, other, again = shards
    assert first == again != other
    one, two = (load_file(shard)["latents"] for shard in (first, other))
    assert not torch.equal(one, two)


def test_names_say_the_kind_of_take_and_the_length_of_chunks_where_they_are_not_the_usual_ones(tmp_path):
    torch.manual_seed(0)
    widths = {"encoder_widths": (4, 4), "decoder_widths": (4, 4, 4)}
    vae = CausalVAE(VAEConfig(latent_channels=2, **widths, encoder_blocks=(1, 1), decoder_blocks=(1, 1, 1))).eval()
    settings = ({}, {"take": "place"}, {"latent_frames": 8}, {"take": "walk", "latent_frames": 2})
    shards = [prepare_stories(vae, [5], folder=tmp_path, num_chunks=2, richness=2, **one)[0] for one in settings]
    weights = fingerprint(vae)
    assert [shard.name for shard in shards] == [
        f"{start}-r2-0000005-1x2-{weights}.safetensors" for start in ("stories", "place", "stories-f8", "walk-f2")
    ]
    latents = [load_file(shard)["latents"] for shard in shards]
    assert [found.shape[1] for found in latents] == [10, 10, 16, 4]
    assert not torch.equal(latents[0], latents[1])


def test_words_are_those_of_all_captions_in_lower_case_each_once(tmp_path):
    write_shard([torch.zeros(2, 1, 1, 1)], [["A swan's lake, ein Wald-Weg.", "The swan dips 2 times"]], tmp_path / "a")
    write_shard([torch.zeros(2, 1, 1, 1)], [["a swan", "Übermut"]], tmp_path / "b")
    words = caption_words([tmp_path / "a", tmp_path / "b"])
    assert words == ["2", "a", "dips", "ein", "lake", "swan", "swan's", "the", "times", "wald-weg", "übermut"]
    (tmp_path / "b").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="b is damaged; delete it"):
        caption_words([tmp_path / "b"])


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
