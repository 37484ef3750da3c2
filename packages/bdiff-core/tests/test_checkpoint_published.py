"""Checkpoints in the forms in which they are published make what the plain form makes, in the mode of training."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from bdiff_core import ModelConfig, load_transformer, save_transformer
from bdiff_core.checkpoint import open_checkpoint

# One head of 128, so that a file alone tells all sizes.
CONFIG = ModelConfig(
    dim=128, num_layers=2, num_heads=1, ffn_dim=24, in_channels=4, out_channels=4, text_dim=12, freq_dim=16,
    native_mode="cached",
)  # fmt: skip
FASTVIDEO = {
    "_class_name": "CausalWanTransformer3DModel", "_diffusers_version": "0.33.0.dev0", "added_kv_proj_dim": None,
    "attention_head_dim": 128, "cross_attn_norm": True, "eps": 1e-06, "ffn_dim": 24, "freq_dim": 16, "image_dim": None,
    "in_channels": 4, "num_attention_heads": 1, "num_layers": 2, "out_channels": 4, "patch_size": [1, 2, 2],
    "pos_embed_seq_len": None, "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 1024, "text_dim": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(CONFIG)


@pytest.fixture(scope="module")
def made(random_video):
    """What a model makes of a video; equal weights make equal numbers."""
    video = random_video(CONFIG, chunks=2, frames=1, batch=1)

    def make(model):
        with torch.no_grad():
            return model(video.latents, video.levels, video.prompts[:, :1, :5])

    return make


def test_the_layouts_written_here_are_those_that_the_package_writes(model, published, tmp_path):
    from safetensors.torch import load_file

    for style in ("wan", "diffusers"):
        save_transformer(model, tmp_path / style, format=style)
        found = load_file(tmp_path / style / "diffusion_pytorch_model.safetensors")
        written = getattr(published, style)(model)
        assert set(found) == set(written)
        assert all(torch.equal(found[name], tensor) for name, tensor in written.items())


def of_self_forcing(weights, other, published):
    """Of its trainer: an average under the names of FSDP, the critic and the optimisers, and a step."""
    return {
        "generator": {f"model.{name}": tensor for name, tensor in other.items()},
        "generator_ema": {published.wrapped(name): tensor for name, tensor in weights.items()},
        "critic": {f"model.{name}": tensor for name, tensor in other.items()},
        "generator_optimizer": {"state": {0: {"step": 1.0}}, "param_groups": [{"lr": 1e-6, "params": [0]}]},
        "step": 600,
    }


# What is in a .pt, of weights in Wan's names and of others that must not be read.
FORMS = {
    "self_forcing_dmd": of_self_forcing,
    "causal_forcing": lambda weights, other, published: {
        "generator": {published.wrapped(n): t for n, t in weights.items()}
    },
    "ema alone": lambda weights, other, published: {"generator_ema": {f"model.{n}": t for n, t in weights.items()}},
    "longlive_base": lambda weights, other, published: {"generator": {f"model.{n}": t for n, t in weights.items()}},
    "merged": lambda weights, other, published: {
        "generator": {f"model.{n}": t for n, t in weights.items()},
        "checkpoint_format": "longlive_generator_merged_lora",
        "merged_lora": True,
    },
    "causvid": lambda weights, other, published: {"model": weights, "step": 3},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["file", "folder", "beside Wan"])
def test_files_of_projects_that_train_chunk_by_chunk(model, random_model, published, made, tmp_path, form, place):
    other = published.wan(random_model(CONFIG, seed=1))
    torch.save(FORMS[form](published.wan(model), other, published), tmp_path / "checkpoint.pt")
    if place == "beside Wan":
        for companion in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "models_clip_open-clip.pth"):
            torch.save({"x": torch.ones(1)}, tmp_path / companion)
        words = {"dim": 128, "ffn_dim": 24, "num_heads": 1, "num_layers": 2, "in_dim": 4, "out_dim": 4, "eps": 1e-6}
        (tmp_path / "config.json").write_text(json.dumps({"_class_name": "WanModel", "text_len": 512} | words))
    path = tmp_path / "checkpoint.pt" if place == "file" else tmp_path
    found = open_checkpoint(path)
    assert (found.config, found.format, found.style) == (CONFIG, "pt", "wan")
    assert torch.equal(made(found.load()), made(model))


OWNERS = ("", "model.", "model.diffusion_model.", "diffusion_model.", "generator.", "generator_ema.", "module.model.")
ENTRIES = ("generator", "generator_ema", "model", "state_dict", None)


@settings(max_examples=30, deadline=None)
@given(owner=st.sampled_from(OWNERS), entry=st.sampled_from(ENTRIES), safetensors=st.booleans())
def test_the_native_mode_is_of_the_form_of_a_file_and_not_of_a_prefix(
    model, published, tmp_path_factory, owner, entry, safetensors
):
    weights = {owner + name: tensor for name, tensor in published.wan(model).items()}
    file = tmp_path_factory.mktemp("mode") / "checkpoint"
    save_file(weights, file) if safetensors else torch.save(weights if entry is None else {entry: weights}, file)
    cached = not safetensors and entry in ("generator", "generator_ema", "model")
    assert open_checkpoint(file).config.native_mode == ("cached" if cached else "whole")


@pytest.mark.parametrize("kind", ["CausalWanModel", "WanModel"])
def test_the_class_of_a_wan_folder_tells_its_mode(model, published, made, tmp_path, kind):
    save_file(published.wan(model), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": kind, "num_heads": 1}))
    found = load_transformer(tmp_path)
    assert found.config.native_mode == ("cached" if kind.startswith("Causal") else "whole")
    assert torch.equal(made(found), made(model))


@pytest.mark.parametrize("named", ["by its config", "by the pipeline", "by both"])
def test_fastvideos_folders_are_of_diffusers_and_cached(model, published, made, tmp_path, named):
    folder = tmp_path / "transformer"
    folder.mkdir()
    save_file(published.diffusers(model), folder / "diffusion_pytorch_model.safetensors")
    kind = {} if named != "by the pipeline" else {"_class_name": "WanTransformer3DModel"}
    (folder / "config.json").write_text(json.dumps(FASTVIDEO | kind))
    if named != "by its config":
        index = {"_class_name": "WanCausalDMDPipeline", "transformer": ["diffusers", "CausalWanTransformer3DModel"]}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    for path in (tmp_path, folder):
        found = open_checkpoint(path)
        assert (found.config, found.format) == (CONFIG, "diffusers")
        assert torch.equal(made(found.load()), made(model))


def scaled(weights, scales, *, ending):
    """Matrices of the blocks in 8 bits over one scale each, as ComfyUI's files hold them; and what they stand for."""
    stored, numbers = {}, dict(weights)
    for name, tensor in weights.items():
        stored[name] = tensor
        if name.startswith("blocks.") and tensor.ndim == 2:
            scale = tensor.abs().max() / 448
            stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
            stored[name.removesuffix(".weight") + ending] = scale
            stored |= {name.removesuffix(".weight") + end: value.clone() for end, value in scales.items()}
            numbers[name] = stored[name].float() * scale
    return stored, numbers


NOTE = torch.tensor(list(b'{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}'), dtype=torch.uint8)
HEADER = {
    "_quantization_metadata": json.dumps({"format_version": "1.0", "layers": {"blocks.0.ffn.0": {"format": "x"}}})
}
COMFY = {
    "fp8_scaled": (".scale_weight", {".scale_input": torch.tensor(1.5)}, torch.zeros(0), None),
    "fp8_scaled, two zeros": (".scale_weight", {}, torch.zeros(2), None),
    "mixed": (".weight_scale", {".comfy_quant": NOTE, ".input_scale": torch.tensor(1.5)}, None, HEADER),
}


@pytest.mark.parametrize("form", COMFY)
@pytest.mark.parametrize("owner", ["model.diffusion_model.", ""])
def test_scaled_files_of_comfyui_make_what_their_numbers_make(model, published, made, tmp_path, form, owner):
    ending, scales, marker, header = COMFY[form]
    stored, numbers = scaled(published.wan(model), scales, ending=ending)
    if marker is not None:
        stored["scaled_fp8"] = marker.to(torch.float8_e4m3fn)
    save_file(
        {owner + name: tensor for name, tensor in stored.items()}, tmp_path / "comfy.safetensors", metadata=header
    )
    save_file(numbers, tmp_path / "plain.safetensors")
    found = load_transformer(tmp_path / "comfy.safetensors", dtype=torch.float32)
    assert found.config.native_mode == "whole"
    assert torch.equal(made(found), made(load_transformer(tmp_path / "plain.safetensors")))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_scale_beside_a_weight_of_16_bits_may_be_one(model, published, tmp_path, scale):
    """Some tools put a scale beside every weight, also beside those that they did not quantise."""
    weights = {name: tensor.bfloat16() for name, tensor in published.wan(model).items()}
    save_file(weights | {"blocks.0.ffn.0.scale_weight": torch.tensor(scale)}, tmp_path / "a.safetensors")
    if scale == 1.0:
        found = load_transformer(tmp_path / "a.safetensors").blocks[0].ffn_in.weight
        assert torch.equal(found, weights["blocks.0.ffn.0.weight"])
        return
    with pytest.raises(ValueError, match=r"quantised as bfloat16 with a scale \(blocks\.0\.ffn\.0\.weight\)"):
        load_transformer(tmp_path / "a.safetensors")


OLD, NEW = "diffusion_pytorch_model.safetensors", "self_forcing_dmd.pt"


@pytest.mark.parametrize("kind", ["WanModel", "WanTransformer3DModel", "ChunkDiT"])
def test_a_pickle_beside_old_weights_is_never_passed_over(model, random_model, published, tmp_path, kind):
    """One line names both, and each is read by its own name, with its own mode."""
    old = random_model(CONFIG, seed=1)
    format = {"WanModel": "wan", "WanTransformer3DModel": "diffusers", "ChunkDiT": "bdiff"}[kind]
    save_transformer(old, tmp_path, format=format)
    name = "model.safetensors" if format == "bdiff" else OLD
    torch.save({"generator": {f"model.{n}": t for n, t in published.wan(model).items()}}, tmp_path / NEW)
    with pytest.raises(ValueError, match=rf"weights of two kinds, {name} and {NEW}; name the file that is meant, or"):
        open_checkpoint(tmp_path)
    assert torch.equal(load_transformer(tmp_path / NEW).head.table, model.head.table)
    (tmp_path / NEW).rename(tmp_path / "optimizer.pt")
    assert torch.equal(load_transformer(tmp_path).head.table, old.head.table)


@pytest.mark.parametrize("shards", [None, 200_000])
def test_safetensors_of_two_names_in_one_folder_are_refused(model, tmp_path, shards):
    save_transformer(model, tmp_path, format="wan")
    (tmp_path / OLD).rename(tmp_path / "aside")
    save_transformer(model, tmp_path, format="bdiff", max_file_bytes=shards)
    (tmp_path / "aside").rename(tmp_path / OLD)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=rf"weights of two kinds, {OLD} and model[\w-]*\.safetensors; name the file"):
        open_checkpoint(tmp_path)


COMPANIONS = (
    "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    "wan_2.1_vae.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "clip_vision_h.safetensors", "taew2_1.pth",
    "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_state.pt", "diffusion_pytorch_model.bin",
)  # fmt: skip


def test_what_lies_beside_a_transformer_by_its_nature_is_no_second_one(model, tmp_path):
    save_transformer(model, tmp_path, format="wan")
    for name in COMPANIONS:
        (tmp_path / name).write_bytes(b"not read")
    assert open_checkpoint(tmp_path).files == (tmp_path / OLD,)
