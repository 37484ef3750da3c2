"""LoRAs of every key style change the weights as their product says, and nothing else."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from bdiff_core import load_transformer, save_transformer
from bdiff_core.checkpoint.names import split

RANK, ALPHA = 3, 5.0
# The same module in the names of diffusers and of Wan's code; the first is a third of a parameter of ours.
MODULES = {
    "blocks.0.attn1.to_k": "blocks.0.self_attn.k",
    "blocks.2.attn2.to_v": "blocks.2.cross_attn.v",
    "blocks.1.attn2.add_k_proj": "blocks.1.cross_attn.k_img",
    "blocks.1.ffn.net.0.proj": "blocks.1.ffn.0",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "proj_out": "head.head",
    "patch_embedding": "patch_embedding",
}


@pytest.fixture
def base(config, random_model, tmp_path):
    """A model that takes an image, its folder, and random factors by module in diffusers' names."""
    model = random_model(dataclasses.replace(config, image_dim=5))
    save_transformer(model, tmp_path / "base")
    generator = torch.Generator().manual_seed(3)
    shapes = {name: part.shape for name, part in split(model, "diffusers")}
    factors = {}
    for module in MODULES:
        outputs, *inputs = shapes[f"{module}.weight"]
        down = torch.randn(RANK, *inputs, generator=generator)
        up = torch.randn(outputs, RANK, *(1 for _ in inputs[1:]), generator=generator)
        factors[module] = (down, up)
    return model, tmp_path / "base", factors


def expected(model, factors, scale):
    """The weights in diffusers' names with the products added."""
    weights = {name: part.clone() for name, part in split(model, "diffusers")}
    for module, (down, up) in factors.items():
        product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1))
        weights[f"{module}.weight"] += scale * product.view(weights[f"{module}.weight"].shape)
    return weights


def keys(style):
    """Names in the file of (down, up, alpha) of a module; None: the style has no alpha."""
    return {
        "diffusers": lambda d, w: (f"transformer.{d}.lora_A.weight", f"transformer.{d}.lora_B.weight", None),
        "bare": lambda d, w: (f"{d}.lora_A.weight", f"{d}.lora_B.weight", None),
        "peft": lambda d, w: (*(f"base_model.model.{w}.{x}.default.weight" for x in ("lora_A", "lora_B")), None),
        "wan": lambda d, w: tuple(f"diffusion_model.{w}.{x}" for x in ("lora_down.weight", "lora_up.weight", "alpha")),
        "wan-ab": lambda d, w: (*(f"diffusion_model.{w}.{x}.weight" for x in ("lora_A", "lora_B")), None),
        "flat": lambda d, w: tuple(
            f"lora_unet_{w.replace('.', '_')}.{x}" for x in ("lora_down.weight", "lora_up.weight", "alpha")
        ),
    }[style]


def lora_tensors(factors, style):
    tensors = {}
    for module, (down, up) in factors.items():
        named = keys(style)(module, MODULES[module])
        tensors |= {named[0]: down, named[1]: up}
        if named[2] is not None:
            tensors[named[2]] = torch.tensor(ALPHA)
    return tensors


@pytest.mark.parametrize("style", ["diffusers", "bare", "peft", "wan", "wan-ab", "flat"])
@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_every_key_style_adds_its_products(base, tmp_path, style, strength):
    model, path, factors = base
    save_file(lora_tensors(factors, style), tmp_path / "lora.safetensors")
    scale = strength * (ALPHA / RANK if style in ("wan", "flat") else 1.0)
    found = dict(split(load_transformer(path, loras={tmp_path / "lora.safetensors": strength}), "diffusers"))
    for name, weight in expected(model, factors, scale).items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("format", ["diffusers", "wan", "pt"])
def test_the_style_of_the_lora_need_not_be_that_of_the_checkpoint(base, tmp_path, format):
    model, path, factors = base
    save_file(lora_tensors(factors, "diffusers"), tmp_path / "lora.safetensors")
    other = tmp_path / ("model.pt" if format == "pt" else "other")
    save_transformer(model, other, format=format)
    loras = {tmp_path / "lora.safetensors": 1.0}
    for (name, one), two in both_sides(load_transformer(path, loras=loras), load_transformer(other, loras=loras)):
        assert torch.equal(one, two), name


def both_sides(first, second):
    return zip(first.state_dict().items(), second.state_dict().values(), strict=True)


def test_sums_are_rounded_once(base, tmp_path):
    """Merging into bfloat16 gives the exact sum, rounded; adding bfloat16 to bfloat16 would round twice."""
    _, path, factors = base
    save_file(lora_tensors(factors, "diffusers"), tmp_path / "lora.safetensors")
    found = load_transformer(path, dtype=torch.bfloat16, loras={tmp_path / "lora.safetensors": 1.0})
    whole = load_transformer(path, loras={tmp_path / "lora.safetensors": 1.0})
    for (name, one), two in both_sides(found, whole.to(torch.bfloat16)):
        assert torch.equal(one, two), name


def test_loras_add_up(base, tmp_path):
    model, path, factors = base
    save_file(lora_tensors(factors, "diffusers"), tmp_path / "one.safetensors")
    save_file(lora_tensors(factors, "wan-ab"), tmp_path / "two.safetensors")
    both = load_transformer(path, loras={tmp_path / "one.safetensors": 1.0, tmp_path / "two.safetensors": -1.0})
    for (name, one), two in both_sides(both, model):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5, msg=name)


def test_differences_of_weights_and_biases_are_added(base, tmp_path):
    model, path, _ = base
    tensors = {
        "diffusion_model.blocks.0.norm3.diff": torch.full((40,), 2.0),
        "diffusion_model.blocks.0.self_attn.v.diff_b": torch.full((40,), 3.0),
        "diffusion_model.blocks.1.modulation.diff": torch.full((1, 6, 40), 4.0),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    changed = load_transformer(path, loras={tmp_path / "lora.safetensors": 0.5}).state_dict()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    before["blocks.0.norm_cross.weight"] += 1.0
    before["blocks.0.self_attention.qkv.bias"][80:] += 1.5
    before["blocks.1.table"] += 2.0
    for name, p in before.items():
        assert torch.equal(changed[name], p), name


SETTINGS = [
    ({"r": RANK, "lora_alpha": 6.0}, 2.0),
    ({"r": RANK, "lora_alpha": 6.0, "use_rslora": True}, 6.0 / RANK**0.5),
    ({"r": RANK, "lora_alpha": 6.0, "alpha_pattern": {"to_k": 3.0}}, 1.0),
    ({"r": RANK, "lora_alpha": 6.0, "alpha_pattern": {"to_v": 3.0}}, 2.0),
]


@pytest.mark.parametrize(("adapter", "scale"), SETTINGS)
@pytest.mark.parametrize("where", ["header", "folder"])
def test_alpha_may_be_told_beside_the_tensors(base, tmp_path, adapter, scale, where):
    model, path, factors = base
    only = {"blocks.0.attn1.to_k": factors["blocks.0.attn1.to_k"]}
    if where == "header":
        lora = tmp_path / "lora.safetensors"
        told = {"lora_adapter_metadata": json.dumps({f"transformer.{name}": value for name, value in adapter.items()})}
        save_file(lora_tensors(only, "diffusers"), lora, metadata=told)
    else:
        lora = tmp_path / "adapter"
        lora.mkdir()
        save_file(lora_tensors(only, "bare"), lora / "adapter_model.safetensors")
        (lora / "adapter_config.json").write_text(json.dumps(adapter))
    found = dict(split(load_transformer(path, loras={lora: 1.0}), "diffusers"))
    torch.testing.assert_close(
        found["blocks.0.attn1.to_k.weight"], expected(model, only, scale)["blocks.0.attn1.to_k.weight"]
    )


def test_a_pickled_lora_of_a_generator_is_read(base, tmp_path):
    model, path, factors = base
    torch.save({"generator_lora": lora_tensors(factors, "peft"), "step": 1}, tmp_path / "lora.pt")
    found = dict(split(load_transformer(path, loras={tmp_path / "lora.pt": 1.0}), "diffusers"))
    for name, weight in expected(model, factors, 1.0).items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"blocks.0.attn1.to_q.dora_scale": (40,)}, r"is a DoRA \(blocks\.0\.attn1\.to_q\.dora_scale\)"),
        (
            {"blocks.9.attn1.to_q.lora_A.weight": (2, 40), "blocks.9.attn1.to_q.lora_B.weight": (40, 2)},
            "unexpected block",
        ),
        ({"blocks.0.attn1.to_q.lora_A.weight": (2, 40)}, "has one of lora_A and lora_B; expected both"),
        (
            {"blocks.0.attn1.to_q.lora_A.weight": (2, 41), "blocks.0.attn1.to_q.lora_B.weight": (40, 2)},
            r"blocks\.0\.attn1\.to_q: \(40, 2\) times \(2, 41\) is not \(40, 40\)",
        ),
        ({"blocks.0.norm2.diff": (41,)}, r"blocks\.0\.norm2 differs by \(41,\), expected \(40,\)"),
        ({"blocks.0.attn1.to_q.alpha": ()}, "holds no LoRA"),
        ({f"blocks.0.attn{i}.to_q.diff": (1,) for i in range(3, 12)}, r"(unexpected [^;]+; ){6}and 3 more$"),
    ],
)
def test_what_does_not_fit_is_listed(base, tmp_path, tensors, message):
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=message):
        load_transformer(base[1], loras={tmp_path / "lora.safetensors": 1.0})


def test_a_folder_of_several_loras_is_ambiguous(base, tmp_path):
    (tmp_path / "many").mkdir()
    for name in "ab":
        save_file({"x": torch.zeros(1)}, tmp_path / "many" / f"{name}.safetensors")
    with pytest.raises(ValueError, match="holds 2 LoRA files; expected one"):
        load_transformer(base[1], loras={tmp_path / "many": 1.0})
