"""The published implementations and ours give the same numbers for the same random weights.

They are an independent reference for everything that a checkpoint meets: names, layouts, levels, positions, masks.
"""

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from bdiff_core import load_transformer, save_transformer
from bdiff_core.checkpoint.names import split

diffusers = pytest.importorskip("diffusers", reason="parity with diffusers needs diffusers")

from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers  # noqa: E402
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers  # noqa: E402

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


@st.composite
def cases(draw, kind, task):
    """Sizes of a diffusers model, shape of the latents, and how it is run: blocks, a level a frame, the frame rate."""
    heads, side = draw(st.integers(1, 3)), st.integers(1, 3)
    patch, channels = (1, draw(side), draw(side)), draw(st.integers(1, 16))
    sizes = {
        "num_attention_heads": heads, "attention_head_dim": 2 * draw(st.integers(3, 16)), "patch_size": patch,
        "in_channels": channels, "out_channels": draw(st.integers(1, 16)), "text_dim": draw(st.integers(1, 24)),
        "freq_dim": 2 * draw(st.integers(2, 32)), "ffn_dim": draw(st.integers(1, 64)),
        "num_layers": draw(st.integers(1, 3)), "cross_attn_norm": draw(st.booleans()),
        "eps": draw(st.sampled_from((1e-6, 1e-5, 1e-3))),
    }  # fmt: skip
    if task == "i2v":
        tokens = 2 * draw(st.integers(1, 6))
        sizes |= {"image_dim": draw(st.integers(2, 20)), "in_channels": channels + draw(st.integers(0, 20))}
        sizes |= {"added_kv_proj_dim": heads * sizes["attention_head_dim"]}
        sizes |= {"pos_embed_seq_len": draw(st.sampled_from((None, tokens)))}
    run = {"block": 1, "levels": False, "fps": None, "images": tokens if task == "i2v" else None, "latent": channels}
    if kind == "SkyReelsV2Transformer3DModel":
        run |= {
            "block": draw(st.integers(1, 3)),
            "levels": draw(st.booleans()),
            "fps": draw(st.sampled_from((None, 16, 24))),
        }
        sizes |= {"inject_sample_info": run["fps"] is not None, "num_frame_per_block": run["block"]}
    batch = 1 if run["fps"] is not None else draw(st.integers(1, 3))  # more is not meant to work in diffusers
    frames = run["block"] * draw(st.integers(1, 3))
    return sizes, (batch, frames, patch[1] * draw(side), patch[2] * draw(side)), run


@pytest.mark.parametrize("task", ["t2v", "i2v"])
@pytest.mark.parametrize("kind", ["WanTransformer3DModel", "SkyReelsV2Transformer3DModel"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_configuration_of_either_class_and_task(pair, relative, kind, task, data):
    sizes, shape, run = data.draw(cases(kind, task))
    theirs, ours = pair(kind, **sizes)
    latents, levels, text, padded = inputs(sizes, *shape, tokens=3)
    levels = levels if run["levels"] else levels[:, :1].expand(-1, shape[1])
    given, options, images = [], {}, None
    if run["images"] is not None:
        images = torch.randn(shape[0], run["images"], sizes["image_dim"], generator=torch.Generator().manual_seed(1))
        rows = images.flatten(0, 1).unflatten(0, (2 * shape[0], -1))  # of two frames the tokens are rows of their own
        given = [rows if sizes["pos_embed_seq_len"] else images]
    if kind == "SkyReelsV2Transformer3DModel":
        options = {"enable_diffusion_forcing": run["levels"]}
    if run["fps"] is not None:
        options |= {"fps": [0 if run["fps"] == 16 else 1]}
        ours.time.fps_index = options["fps"][0]
    with torch.no_grad():
        steps = 1000 * (levels if run["levels"] else levels[:, 0])
        expected = theirs(latents, steps, padded, *given, **options).sample
        found = ours(
            latents[:, : run["latent"]],
            levels,
            text,
            frames_per_chunk=run["block"] if run["block"] > 1 else None,
            extra=latents[:, run["latent"] :],
            image_tokens=given[0] if given else None,
        )
    assert relative(found, expected) < 2e-4


@pytest.mark.parametrize("fps_embedding", [False, True])
@pytest.mark.parametrize("image", [{}, {"image_dim": 14}, {"image_dim": 14, "image_length": 10}])
def test_diffusers_reads_what_is_saved_for_it(config, random_model, tmp_path, fps_embedding, image):
    """Written for diffusers, or for Wan's own code and renamed by diffusers: both are the model that was saved."""
    model = random_model(dataclasses.replace(config, fps_embedding=fps_embedding, **image))
    save_transformer(model, tmp_path / "diffusers", format="diffusers", max_file_bytes=20_000)
    kind = diffusers.SkyReelsV2Transformer3DModel if fps_embedding else diffusers.WanTransformer3DModel
    theirs = kind.from_config(kind.load_config(tmp_path / "diffusers"))  # from_pretrained would need accelerate
    shards = sorted((tmp_path / "diffusers").glob("diffusion_pytorch_model-*.safetensors"))
    theirs.load_state_dict({name: tensor for file in shards for name, tensor in load_file(file).items()})
    expected = dict(split(model, "diffusers"))
    assert theirs.state_dict().keys() == expected.keys()
    assert all(torch.equal(p, expected[name]) for name, p in theirs.state_dict().items())
    save_transformer(model, tmp_path / "wan", format="wan")
    renamed = convert_wan_transformer_to_diffusers(load_file(tmp_path / "wan" / "diffusion_pytorch_model.safetensors"))
    # Names of SkyReels-V2 and of models of first and last frames, which its conversion of Wan leaves as they are.
    others = {"fps_projection.0.": "fps_projection.net.0.proj.", "fps_projection.2.": "fps_projection.net.2."}
    others |= {"img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed"}
    for old, new in others.items():
        renamed = {name.replace(old, new): tensor for name, tensor in renamed.items()}
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in renamed.items())


def test_loras_of_wan_mean_what_diffusers_takes_them_for(config, random_model, tmp_path):
    save_transformer(random_model(config), tmp_path / "base")
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, part in split(load_transformer(tmp_path / "base"), "wan"):
        if name.startswith("blocks") and name.endswith(".weight") and part.ndim == 2:
            stem = f"diffusion_model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_down.weight"] = torch.randn(2, part.shape[1], generator=generator)
            tensors[f"{stem}.lora_up.weight"] = torch.randn(part.shape[0], 2, generator=generator)
            tensors[f"{stem}.alpha"] = torch.tensor(0.5)
    save_file(tensors, tmp_path / "wan.safetensors")
    save_file(_convert_non_diffusers_wan_lora_to_diffusers(dict(tensors)), tmp_path / "diffusers.safetensors")
    first, second = (
        load_transformer(tmp_path / "base", loras={tmp_path / f"{style}.safetensors": 1.0}).state_dict()
        for style in ("wan", "diffusers")
    )
    for name, parameter in first.items():
        torch.testing.assert_close(parameter, second[name], rtol=1e-5, atol=1e-6, msg=name)
