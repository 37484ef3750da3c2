"""Checkpoints that are known and not read are refused by one line that names their family."""

import io
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from bdiff_core import ModelConfig, load_transformer, save_transformer
from bdiff_core.checkpoint import open_checkpoint

CONFIG = ModelConfig(
    dim=128, num_layers=1, num_heads=1, ffn_dim=24, in_channels=4, out_channels=4, text_dim=12, freq_dim=16,
    native_mode="cached",
)  # fmt: skip
WHAT_IS_READ = "expected a transformer of Wan 2.1 or SkyReels-V2, or one trained from these, such as Self-Forcing"


@pytest.fixture(scope="module")
def weights(random_model, published):
    return published.wan(random_model(CONFIG))


def refused(path, *words):
    with pytest.raises(ValueError, match=r"not read here|has two transformers|is a LoRA") as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    assert len(message) < 400 + len(str(path))


def gated(weights, owner=""):
    """OmniMem's: Wan's names, and in each block a gate for each head over three ways to attend."""
    gates = {"blocks.0.self_attn.g_proj.weight": torch.zeros(3, 128), "blocks.0.self_attn.g_proj.bias": torch.zeros(3)}
    return {owner + name: tensor for name, tensor in (weights | gates).items()}


def test_omnimem_by_its_class(weights, tmp_path):
    config = {"_class_name": "CausalWanNSAModel", "dim": 128, "num_heads": 1, "num_layers": 1, "enable_nsa": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(gated(weights), tmp_path / "diffusion_pytorch_model.safetensors")
    refused(tmp_path, "OmniMem (CausalWanNSAModel)", WHAT_IS_READ)
    refused(tmp_path / "diffusion_pytorch_model.safetensors", "OmniMem (CausalWanNSAModel)", WHAT_IS_READ)


@pytest.mark.parametrize("owner", ["", "model.", "model._fsdp_wrapped_module."])
def test_omnimem_by_its_names(weights, tmp_path, owner):
    torch.save({"generator": gated(weights, owner)}, tmp_path / "omnimem.pt")
    refused(tmp_path / "omnimem.pt", "OmniMem (CausalWanNSAModel)", WHAT_IS_READ)


MAGI = {
    "x_embedder.weight": (128, 16, 1, 2, 2),
    "t_embedder.mlp.0.weight": (32, 16), "y_embedder.y_proj_xattn.0.bias": (8,),
    "videodit_blocks.layers.0.self_attention.linear_qkv.q.weight": (128, 128),
    "videodit_blocks.final_layernorm.weight": (128,), "final_linear.linear.weight": (64, 128), "rope.bands": (8,),
}  # fmt: skip


@pytest.mark.parametrize("shards", [1, 2])
def test_magi(tmp_path, shards):
    tensors = {name: torch.zeros(shape) for name, shape in MAGI.items()}
    for number in range(1, shards + 1):
        part = dict(list(tensors.items())[number - 1 :: shards])
        save_file(part, tmp_path / f"model-{number:05}-of-{shards:05}.safetensors")
    refused(tmp_path, "MAGI-1 (videodit_blocks)", WHAT_IS_READ)


@pytest.mark.parametrize("mark", ["extra state", "state in a file", "fused module", "format"])
def test_transformer_engine(weights, tmp_path, mark):
    """Modules keep a state beside their weight: a tensor, in earlier versions a file; some are fused with the norm."""
    file = tmp_path / "model_te.pt"
    content = {f"model.{name}": tensor for name, tensor in weights.items()}
    beside = {}
    if mark == "format":
        beside = {"checkpoint_format": "longlive_generator_te_nvfp4"}
    elif mark == "fused module":
        content["model.blocks.0.layernorm_linear.layer_norm_weight"] = torch.zeros(128)
    else:
        state = torch.zeros(0, dtype=torch.uint8) if mark == "extra state" else io.BytesIO(b"state")
        content["model.blocks.0.self_attn.q.linear._extra_state"] = state
    torch.save({"generator": content, **beside}, file)
    words = {
        "extra state": "(blocks.0.self_attn.q.linear._extra_state)",
        "state in a file": "(_io.BytesIO)",
        "fused module": "(blocks.0.layernorm_linear.layer_norm_weight)",
        "format": "(checkpoint_format longlive_generator_te_nvfp4)",
    }[mark]
    refused(file, "Transformer Engine", words, "take the file of the same model in bfloat16, such as model_bf16.pt")


def test_four_over_six(weights, tmp_path):
    """The other of LongLive 2.0's files in four bits."""
    content = {f"model.{name}": tensor for name, tensor in weights.items() if name != "blocks.0.ffn.0.weight"}
    content["model.blocks.0.ffn.0.quantized_weight_values"] = torch.zeros(12, 128, dtype=torch.uint8)
    content["model.blocks.0.ffn.0.quantized_weight_scale_factors"] = torch.zeros(24, 8, dtype=torch.uint8)
    torch.save({"generator": content}, tmp_path / "model_4o6.pt")
    refused(tmp_path / "model_4o6.pt", "NVFP4 of FourOverSix", "take the file of the same model in bfloat16")


def test_a_lora_alone_is_no_transformer(tmp_path):
    factors = {
        f"base_model.model.blocks.0.self_attn.q.lora_{x}.weight": torch.zeros(shape)
        for x, shape in (("A", (4, 128)), ("B", (128, 4)))
    }
    torch.save({"generator_lora": factors, "critic_lora": factors, "step": 1}, tmp_path / "lora.pt")
    torch.save(factors, tmp_path / "bare.pt")
    save_file(
        {name.replace("base_model.model", "pipe.dit"): x for name, x in factors.items()}, tmp_path / "x.safetensors"
    )
    for name in ("lora.pt", "bare.pt", "x.safetensors"):
        refused(tmp_path / name, "is a LoRA, which changes a transformer and is none", "--lora of bdiff convert")


FIVE_B = ModelConfig(
    dim=128, num_layers=1, num_heads=1, ffn_dim=24, in_channels=48, out_channels=48, text_dim=12, freq_dim=16,
    native_mode="cached",
)  # fmt: skip
CHANNELS = "a transformer of Wan 2.2 (48 channels), whose autoencoder is not read here"


@pytest.mark.parametrize("form", ["Wan", "diffusers", "ComfyUI"])
def test_the_channels_of_wan_2_2(random_model, published, tmp_path, form):
    model, path = random_model(FIVE_B), tmp_path / "5B"
    path.mkdir()
    if form == "ComfyUI":
        owned = {f"model.diffusion_model.{name}": tensor for name, tensor in published.wan(model).items()}
        path = path / "ti2v_5B.safetensors"
        save_file(owned, path)
    else:
        save_transformer(model, path, format="wan" if form == "Wan" else "diffusers")
        told = json.loads((path / "config.json").read_text())
        kind = "WanModel" if form == "Wan" else "WanTransformer3DModel"
        del told["_bdiff"]
        (path / "config.json").write_text(json.dumps(told | {"_class_name": kind}))
    refused(path, CHANNELS, WHAT_IS_READ)


def test_a_transformer_of_that_many_channels_that_makes_chunks_is_read(random_model, published, tmp_path):
    """LongLive 2.0 in bfloat16, and what is our own; also one that takes 48 channels and gives others is another."""
    model = random_model(FIVE_B)
    torch.save({"generator": {f"model.{n}": t for n, t in published.wan(model).items()}}, tmp_path / "model_bf16.pt")
    assert load_transformer(tmp_path / "model_bf16.pt").config == FIVE_B
    own = random_model(replace(FIVE_B, native_mode="whole"))
    for format in ("bdiff", "wan", "diffusers"):
        save_transformer(own, tmp_path / format, format=format)
    assert load_transformer(tmp_path / "bdiff").config == own.config
    control = random_model(replace(FIVE_B, out_channels=16, native_mode="whole"))
    save_file(published.wan(control), tmp_path / "control.safetensors")
    assert load_transformer(tmp_path / "control.safetensors").config == control.config


TWO = "has two transformers, as Wan 2.2 does; expected a pipeline of Wan 2.1 or SkyReels-V2"


@pytest.mark.parametrize("index", [{"transformer_2": ["diffusers", "X"]}, {"boundary_ratio": 0.875}])
def test_a_pipeline_of_two_transformers(random_model, tmp_path, index):
    for part in ("transformer", "transformer_2"):
        save_transformer(random_model(CONFIG), tmp_path / part, format="diffusers")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"} | index))
    for path in (tmp_path, tmp_path / "transformer", tmp_path / "transformer_2"):
        with pytest.raises(ValueError, match=TWO) as caught:
            open_checkpoint(path)
        assert str(caught.value) == f"{tmp_path} {TWO}"
    none = {"_class_name": "WanPipeline", "transformer_2": [None, None], "boundary_ratio": None}
    (tmp_path / "model_index.json").write_text(json.dumps(none))
    assert open_checkpoint(tmp_path).format == "diffusers"


def test_the_original_folder_of_two_experts(random_model, tmp_path, monkeypatch):
    for part in ("high_noise_model", "low_noise_model"):
        save_transformer(random_model(CONFIG), tmp_path / part, format="wan")
        refused(tmp_path / part, "is by its name one of the two transformers of Wan 2.2", WHAT_IS_READ, "rename it")
        refused(tmp_path / part / "diffusion_pytorch_model.safetensors", "one of the two transformers of Wan 2.2")
    (tmp_path / "Wan2.1_VAE.pth").touch()
    refused(tmp_path, TWO)
    monkeypatch.chdir(tmp_path / "high_noise_model")
    refused(".", "one of the two transformers of Wan 2.2")


EXPERTS = (
    "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "Wan2_2-T2V-A14B_HIGH_fp8_e4m3fn_scaled_KJ.safetensors",
    "Wan2_2-I2V-A14B-LOW_bf16.safetensors", "backbone_low_noise.pth", "high_noise.pt",
)  # fmt: skip


@pytest.mark.parametrize("name", EXPERTS)
def test_files_that_are_experts_by_their_name(weights, tmp_path, name):
    save_file(weights, tmp_path / name)
    refused(tmp_path / name, "is by its name one of the two transformers of Wan 2.2", "rename it")
    (tmp_path / name).rename(tmp_path / "renamed")
    assert open_checkpoint(tmp_path / "renamed").style == "wan"


@pytest.mark.parametrize("name", ["highnoisette.pt", "wan2.1_high.pt", "low.pt", "Wan2.1-Shallow_noise.safetensors"])
def test_other_names_say_nothing(weights, tmp_path, name):
    save_file(weights, tmp_path / name)
    assert open_checkpoint(tmp_path / name).style == "wan"


def test_a_folder_of_ours_may_have_any_name(random_model, tmp_path):
    save_transformer(random_model(CONFIG), tmp_path / "low_noise")
    assert open_checkpoint(tmp_path / "low_noise").format == "bdiff"
