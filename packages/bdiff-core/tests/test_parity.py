"""The published implementations and ours give the same numbers for the same random weights.

They are an independent reference for everything that a checkpoint meets: names, layouts, levels, positions, masks.
"""

import pytest
import torch
from torch.nn import functional as F

from bdiff_core import load_transformer

diffusers = pytest.importorskip("diffusers", reason="parity with diffusers needs diffusers")

SMALL = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "text_dim": 20,
    "freq_dim": 32, "ffn_dim": 48, "num_layers": 2,
}  # fmt: skip


@pytest.fixture
def pair(tmp_path):
    """Makes a diffusers model with every parameter random, and ours read from the directory it saves."""

    def make(kind, *, seed=0, max_shard_size="10GB", **sizes):
        theirs = getattr(diffusers, kind)(**SMALL | sizes)
        generator = torch.Generator().manual_seed(seed)
        for name, p in theirs.named_parameters():
            scale = 0.3 if p.ndim < 2 or "table" in name or "embed.weight" in name else p[0].numel() ** -0.5
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.data = offset + scale * torch.randn(p.shape, generator=generator)
        theirs.save_pretrained(tmp_path / kind, max_shard_size=max_shard_size)
        ours = load_transformer(tmp_path / kind)
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
        return theirs.eval(), ours

    return make


def inputs(sizes, batch, frames, height, width, *, tokens=9, seed=0):
    sizes, generator = SMALL | sizes, torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, sizes["in_channels"], frames, height, width, generator=generator)
    text = torch.randn(batch, tokens, sizes["text_dim"], generator=generator)
    # The published pipelines count levels in thousandths and pad prompts with zeros to 512 tokens.
    return latents, torch.rand(batch, frames, generator=generator), text, F.pad(text, (0, 0, 0, 512 - tokens))


# Sizes of the model; batch, frames, height and width of the latents.
CAUSAL = [
    ({"attention_head_dim": 12, "num_frame_per_block": 2}, (2, 4, 4, 6)),
    ({"attention_head_dim": 20, "num_frame_per_block": 3}, (1, 9, 2, 8)),
    ({"attention_head_dim": 36, "num_frame_per_block": 5}, (2, 10, 6, 2)),
    ({"num_attention_heads": 3, "num_layers": 4, "num_frame_per_block": 2}, (1, 8, 4, 4)),
    ({"text_dim": 33, "ffn_dim": 31, "num_frame_per_block": 3}, (3, 6, 2, 4)),
    ({"cross_attn_norm": False, "num_frame_per_block": 5}, (1, 5, 8, 2)),
    ({"eps": 1e-3, "out_channels": 6, "in_channels": 5, "num_frame_per_block": 2}, (2, 6, 2, 2)),
    ({"num_attention_heads": 1, "attention_head_dim": 64, "num_frame_per_block": 3}, (1, 6, 4, 10)),
]


@pytest.mark.parametrize(("sizes", "shape"), CAUSAL)
def test_block_causal_skyreels(pair, relative, sizes, shape):
    theirs, ours = pair("SkyReelsV2Transformer3DModel", **sizes)
    latents, levels, text, padded = inputs(sizes, *shape)
    with torch.no_grad():
        expected = theirs(latents, levels * 1000, padded, enable_diffusion_forcing=True).sample
        found = ours(latents, levels, text, frames_per_chunk=sizes["num_frame_per_block"])
    assert relative(found, expected) < 2e-4


def test_the_frame_rate_of_skyreels(pair, relative):
    theirs, ours = pair("SkyReelsV2Transformer3DModel", inject_sample_info=True, num_frame_per_block=2)
    latents, levels, text, padded = inputs({}, 1, 4, 4, 4)
    with torch.no_grad():
        at_24 = theirs(latents, levels * 1000, padded, enable_diffusion_forcing=True, fps=[1]).sample
        at_16 = theirs(latents, levels * 1000, padded, enable_diffusion_forcing=True, fps=[0]).sample
        assert relative(at_16, at_24) > 0.01
        assert relative(ours(latents, levels, text, frames_per_chunk=2), at_24) < 2e-4
        ours.time.fps_index = 0
        assert relative(ours(latents, levels, text, frames_per_chunk=2), at_16) < 2e-4


BIDIRECTIONAL = [
    ("WanTransformer3DModel", {"attention_head_dim": 12, "num_layers": 3}),
    ("WanTransformer3DModel", {"attention_head_dim": 20, "text_dim": 11, "cross_attn_norm": False}),
    ("WanTransformer3DModel", {"attention_head_dim": 36, "in_channels": 7, "out_channels": 3}),
    ("SkyReelsV2Transformer3DModel", {"attention_head_dim": 44, "freq_dim": 20}),
    ("SkyReelsV2Transformer3DModel", {"patch_size": (1, 1, 3), "num_layers": 1}),
]


@pytest.mark.parametrize(("kind", "sizes"), BIDIRECTIONAL)
def test_one_level_a_video(pair, relative, kind, sizes):
    theirs, ours = pair(kind, **sizes)
    latents, levels, text, padded = inputs(sizes, 2, 3, 4, 6)
    levels = levels[:, :1].expand(-1, 3)
    with torch.no_grad():
        expected = theirs(latents, levels[:, 0] * 1000, padded).sample
        found = ours(latents, levels, text)
    assert relative(found, expected) < 2e-4


def test_a_level_for_each_frame_of_wan(pair, relative):
    """Wan 2.2 takes one level a token: here all tokens of a frame share theirs."""
    theirs, ours = pair("WanTransformer3DModel", attention_head_dim=20)
    latents, levels, text, padded = inputs({}, 2, 3, 4, 6)
    with torch.no_grad():
        expected = theirs(latents, levels.repeat_interleave(6, dim=1) * 1000, padded).sample
        found = ours(latents, levels, text)
    assert relative(found, expected) < 2e-4


@pytest.mark.parametrize("kind", ["WanTransformer3DModel", "SkyReelsV2Transformer3DModel"])
@pytest.mark.parametrize("learned_positions", [False, True])
def test_image_to_video(pair, relative, kind, learned_positions):
    sizes = {"in_channels": 9, "image_dim": 14, "added_kv_proj_dim": 32}
    sizes |= {"pos_embed_seq_len": 10} if learned_positions else {}
    theirs, ours = pair(kind, **sizes)
    latents, levels, text, padded = inputs(sizes, 2, 3, 4, 6)
    images = torch.randn(2, 10, 14, generator=torch.Generator().manual_seed(1))
    levels = levels[:, :1].expand(-1, 3)
    with torch.no_grad():
        # With learned positions diffusers takes the tokens of first and last frame as rows of their own.
        given = images.view(4, 5, 14) if learned_positions else images
        expected = theirs(latents, levels[:, 0] * 1000, padded, given).sample
        found = ours(latents[:, :4], levels, text, extra=latents[:, 4:], image_tokens=images)
    assert relative(found, expected) < 2e-4


def test_sharded_checkpoints(pair, relative):
    theirs, ours = pair("WanTransformer3DModel", max_shard_size="20KB")
    latents, levels, text, padded = inputs({}, 1, 2, 4, 4)
    levels = levels[:, :1].expand(-1, 2)
    with torch.no_grad():
        expected = theirs(latents, levels[:, 0] * 1000, padded).sample
        assert relative(ours(latents, levels, text), expected) < 2e-4
