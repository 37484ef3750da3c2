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


# By style, whose names the modules have, and how the two factors (and alpha) are written.
PAIRS = {
    "AB": ("{}.lora_A.weight", "{}.lora_B.weight", None),
    "AB-alpha": ("{}.lora_A.weight", "{}.lora_B.weight", "{}.alpha"),
    "AB-default": ("{}.lora_A.default.weight", "{}.lora_B.default.weight", None),
    "AB-named": ("{}.lora_A.my-adapter_1.weight", "{}.lora_B.my-adapter_1.weight", None),
    "AB-bare": ("{}.lora_A", "{}.lora_B", None),
    "down-up": ("{}.lora_down.weight", "{}.lora_up.weight", "{}.alpha"),
    "down-up-no-alpha": ("{}.lora_down.weight", "{}.lora_up.weight", None),
    "lora.down": ("{}.lora.down.weight", "{}.lora.up.weight", "{}.alpha"),
    "_lora.down": ("{}_lora.down.weight", "{}_lora.up.weight", None),
    "linear_layer": ("{}.lora_linear_layer.down.weight", "{}.lora_linear_layer.up.weight", None),
}
OWNERS = (
    "", "transformer.", "diffusion_model.", "model.", "base_model.model.", "model.diffusion_model.", "pipe.dit.",
    "dit.", "base_model.model.transformer.", "base_model.model.model.", "generator.", "module.", "unet.",
    "lora_transformer.", "pipe.transformer.",
)  # fmt: skip
FLAT_OWNERS = ("lora_unet_", "lora_unet__", "lora_transformer_", "lycoris_", "lora_dit_", "diffusion_model_")


def flat(name):
    return name.replace(".", "_")


def half_flat(name):
    """As some converters write: only the first dots are bars."""
    return name.replace(".", "_", 2 if name.startswith("blocks") else 1).replace("_self_attn", ".self_attn", 1)


STYLES = (
    {f"{owner or 'bare'} {pair}": (owner, str, pair) for owner in OWNERS for pair in ("AB", "down-up")}
    | {f"{owner} {pair}": (owner, flat, pair) for owner in FLAT_OWNERS for pair in ("AB", "down-up")}
    | {f"plain {pair}": ("diffusion_model.", str, pair) for pair in PAIRS}
    | {f"peft {pair}": ("base_model.model.", str, pair) for pair in PAIRS}
    | {f"half-flat {pair}": ("lora_unet_", half_flat, pair) for pair in ("AB", "down-up")}
    | {f"first-dot {pair}": ("lora_unet_", lambda n: n.replace(".", "_", 1), pair) for pair in ("AB", "down-up")}
)


def has_alpha(style):
    return PAIRS[STYLES[style][2]][2] is not None


def lora_tensors(factors, style="transformer. AB", names="diffusers"):
    """What a file in a style holds, with the modules in the names of diffusers or of Wan's code."""
    owner, join, pair = STYLES[style]
    tensors = {}
    for module, (down, up) in factors.items():
        name = owner + join(module if names == "diffusers" else MODULES[module])
        named = [None if ending is None else ending.format(name) for ending in PAIRS[pair]]
        tensors |= {named[0]: down, named[1]: up}
        if named[2] is not None:
            tensors[named[2]] = torch.tensor(ALPHA)
    return tensors


@pytest.mark.parametrize("names", ["diffusers", "wan"])
@pytest.mark.parametrize("style", STYLES)
def test_every_key_style_adds_its_products(base, tmp_path, style, names):
    model, path, factors = base
    save_file(lora_tensors(factors, style, names), tmp_path / "lora.safetensors")
    scale = -0.5 * (ALPHA / RANK if has_alpha(style) else 1.0)
    found = dict(split(load_transformer(path, loras={tmp_path / "lora.safetensors": -0.5}), "diffusers"))
    for name, weight in expected(model, factors, scale).items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("format", ["diffusers", "wan", "pt"])
def test_the_style_of_the_lora_need_not_be_that_of_the_checkpoint(base, tmp_path, format):
    model, path, factors = base
    save_file(lora_tensors(factors), tmp_path / "lora.safetensors")
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
    save_file(lora_tensors(factors), tmp_path / "lora.safetensors")
    found = load_transformer(path, dtype=torch.bfloat16, loras={tmp_path / "lora.safetensors": 1.0})
    whole = load_transformer(path, loras={tmp_path / "lora.safetensors": 1.0})
    for (name, one), two in both_sides(found, whole.to(torch.bfloat16)):
        assert torch.equal(one, two), name


def test_loras_add_up(base, tmp_path):
    model, path, factors = base
    save_file(lora_tensors(factors), tmp_path / "one.safetensors")
    save_file(lora_tensors(factors, "plain AB", "wan"), tmp_path / "two.safetensors")
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


@pytest.mark.parametrize("owner", ["", "diffusion_model.", "base_model.model.", "pipe.dit.", "lora_unet_"])
def test_differences_of_modulation_tables_are_added(base, tmp_path, owner):
    """As extracted from distilled models: `diff_m` beside a block or the head."""
    model, path, _ = base
    generator = torch.Generator().manual_seed(1)
    first, last, head = (torch.randn(1, rows, 40, generator=generator) for rows in (6, 6, 2))
    join = flat if owner == "lora_unet_" else str
    owners = (f"{owner}{join(name)}" for name in ("blocks.0", "blocks.2", "head"))
    tensors = {f"{name}.diff_m": table for name, table in zip(owners, (first, last, head), strict=True)}
    save_file(tensors, tmp_path / "lora.safetensors")
    changed = load_transformer(path, loras={tmp_path / "lora.safetensors": 0.5}).state_dict()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    before["blocks.0.table"] += 0.5 * first[0]
    before["blocks.2.table"] += 0.5 * last[0]
    before["head.table"] += 0.5 * head[0]
    for name, p in before.items():
        torch.testing.assert_close(changed[name], p, rtol=1e-6, atol=1e-6, msg=name)


def test_biases_and_norms_are_added(base, tmp_path):
    """`lora_B.bias` is scaled as the product is, and adds to `diff_b`; LyCORIS has other words for norms."""
    model, path, factors = base
    only = {"blocks.0.attn1.to_k": factors["blocks.0.attn1.to_k"]}
    tensors = lora_tensors(only, "plain AB-alpha", "wan")
    name = "diffusion_model.blocks.0.self_attn.k"
    tensors |= {f"{name}.lora_B.bias": torch.full((40,), 3.0), f"{name}.diff_b": torch.full((40,), 2.0)}
    tensors |= {
        "lycoris_blocks_0_norm3.w_norm": torch.full((40,), 4.0),
        "lycoris_blocks_0_norm3.b_norm": torch.ones(40),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    changed = load_transformer(path, loras={tmp_path / "lora.safetensors": 0.5}).state_dict()
    before = model.state_dict()
    added = 0.5 * 3 * ALPHA / RANK + 0.5 * 2
    torch.testing.assert_close(
        changed["blocks.0.self_attention.qkv.bias"][40:80], before["blocks.0.self_attention.qkv.bias"][40:80] + added
    )
    torch.testing.assert_close(changed["blocks.0.norm_cross.weight"], before["blocks.0.norm_cross.weight"] + 2)
    torch.testing.assert_close(changed["blocks.0.norm_cross.bias"], before["blocks.0.norm_cross.bias"] + 0.5)


def test_no_two_modules_have_the_same_flat_name(base):
    model, _, _ = base
    for style in ("diffusers", "wan"):
        names = [name for name, _ in split(model, style)]
        assert len({flat(name) for name in names}) == len(names)


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
        save_file(lora_tensors(only), lora, metadata=told)
    else:
        lora = tmp_path / "adapter"
        lora.mkdir()
        save_file(lora_tensors(only, "bare AB"), lora / "adapter_model.safetensors")
        (lora / "adapter_config.json").write_text(json.dumps(adapter))
    found = dict(split(load_transformer(path, loras={lora: 1.0}), "diffusers"))
    torch.testing.assert_close(
        found["blocks.0.attn1.to_k.weight"], expected(model, only, scale)["blocks.0.attn1.to_k.weight"]
    )


def test_a_pickled_lora_of_a_generator_is_read(base, tmp_path):
    model, path, factors = base
    torch.save({"generator_lora": lora_tensors(factors, "peft AB-default", "wan"), "step": 1}, tmp_path / "lora.pt")
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
        ({"blocks.0.ffn.net.0.proj.diff": (40, 48)}, r"proj differs by \(40, 48\), expected \(48, 40\)"),
        ({"blocks.0.attn1.to_q.hada_w1_a": (2, 40)}, r"is a LoHa \(blocks"),
        ({"lora_unet_blocks_0_self_attn_q.lokr_w1": (2, 40)}, r"is a LoKr \(lora_unet"),
        ({"blocks.0.attn1.to_q.lora_magnitude_vector.default.weight": (40,)}, "is a DoRA"),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (2, 40)}, "changes a text encoder too"),
        ({"text_encoder.block.0.q.lora_A.weight": (2, 40)}, "changes a text encoder too"),
        ({"lora_te1_x.alpha": (), "blocks.0.norm2.diff": (40,)}, "changes a text encoder too"),
        ({"transformer_2.blocks.0.attn1.to_q.lora_A.weight": (2, 40)}, "of a second transformer"),
        ({"vace_blocks.0.attn1.to_q.diff": (40, 40)}, "unexpected vace_blocks"),
        (
            {f"blocks.0.norm2.{x}": (40,) for x in ("diff", "w_norm")},
            r"blocks\.0\.norm2\.\w+ is there twice, as of two adapters",
        ),
        ({"blocks.0.norm2.diff": (40,), "blocks.0.norm3.diff": (40,)}, "and both are there"),
        ({"blocks.0.attn1.to_q.lora_A.weight": (0, 40), "blocks.0.attn1.to_q.lora_B.weight": (41, 0)}, "is not"),
        ({"blocks.0.attn1.to_q.lora_A.weight": (40,), "blocks.0.attn1.to_q.lora_B.weight": (40,)}, "no two matrices"),
        ({"blocks.0.attn1.to_q.lora_A.weight": (2, 40), "blocks.0.attn1.to_q.alpha": (2,)}, "expected one number"),
        ({"blocks.0.attn1.to_q.weight": (40, 40)}, r"holds no LoRA: .* its tensors are blocks\.0"),
        ({"blocks.0.norm2.diff": (41,)}, r"blocks\.0\.norm2 differs by \(41,\), expected \(40,\)"),
        ({"blocks.0.attn1.to_q.alpha": ()}, "holds no LoRA"),
        ({f"blocks.0.attn{i}.to_q.diff": (1,) for i in range(3, 12)}, r"(unexpected [^;]+; ){6}and 3 more$"),
    ],
)
def test_what_does_not_fit_is_listed(base, tmp_path, tensors, message):
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=message):
        load_transformer(base[1], loras={tmp_path / "lora.safetensors": 1.0})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["lora_A.weight", "lora_B.weight", "alpha", "diff", "lora_B.bias"])
def test_a_lora_that_is_not_finite_is_refused(base, tmp_path, value, name):
    _, path, factors = base
    tensors = lora_tensors({"blocks.0.attn1.to_k": factors["blocks.0.attn1.to_k"]}, "bare AB")
    key = f"blocks.0.attn1.to_k.{name}"
    shape = {"alpha": (), "diff": (40, 40), "lora_B.bias": (40,)}.get(name)
    tensors[key] = torch.zeros(shape) if shape is not None else tensors[key].clone()
    tensors[key].view(-1)[-1] = value
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=rf"lora\.safetensors holds numbers that are not finite, first in {key}; "):
        load_transformer(path, loras={tmp_path / "lora.safetensors": 1.0})


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), float("-inf"), 1e30, -101.0, 0.0])
def test_a_strength_that_makes_no_sense_is_refused(base, tmp_path, strength):
    _, path, factors = base
    save_file(lora_tensors(factors), tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"lora\.safetensors is given the strength .*; expected a number other than 0"):
        load_transformer(path, loras={tmp_path / "lora.safetensors": strength})


def test_a_sum_too_large_for_the_dtype_is_refused(base, tmp_path):
    _, path, _ = base
    save_file({"blocks.0.norm2.diff": torch.full((40,), 6e4)}, tmp_path / "lora.safetensors")
    load_transformer(path, dtype=torch.float16, loras={tmp_path / "lora.safetensors": 1.0})
    with pytest.raises(ValueError, match="too large for float16, as stored or with the LoRAs added"):
        load_transformer(path, dtype=torch.float16, loras={tmp_path / "lora.safetensors": 2.0})


@pytest.mark.parametrize("way", ["text", "dots", "link", "copy", "folder"])
def test_the_same_lora_twice_is_refused(base, tmp_path, way):
    _, path, factors = base
    file = tmp_path / "lora" / "lora.safetensors"
    file.parent.mkdir()
    save_file(lora_tensors(factors), file)
    other = {
        "text": str(file), "dots": tmp_path / "lora" / ".." / "lora" / "lora.safetensors", "link": tmp_path / "link",
        "copy": tmp_path / "copy.safetensors", "folder": tmp_path / "lora",
    }[way]  # fmt: skip
    if way == "link":
        other.symlink_to(file)
    if way == "copy":
        other.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="is given twice, also as"):
        load_transformer(path, loras={file: 1.0, other: 0.5})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": "many"}, "is 'many'; expected a finite number"),
        ({"lora_alpha": float("nan")}, "is nan; expected a finite number"),
        ({"alpha_pattern": {"(": 3.0}}, "which is no pattern"),
        ({"use_dora": True}, "is a DoRA"),
    ],
)
def test_settings_that_make_no_sense_are_refused(base, tmp_path, settings, message):
    _, path, factors = base
    save_file(lora_tensors(factors, "bare AB"), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        load_transformer(path, loras={tmp_path: 1.0})


@pytest.mark.parametrize("told", ["{", "[]", "3"])
def test_a_header_that_says_nothing_useful_is_refused(base, tmp_path, told):
    _, path, factors = base
    save_file(lora_tensors(factors), tmp_path / "lora.safetensors", metadata={"lora_adapter_metadata": told})
    with pytest.raises(ValueError, match="lora_adapter_metadata in its header is no object"):
        load_transformer(path, loras={tmp_path / "lora.safetensors": 1.0})


def test_a_folder_of_several_loras_is_ambiguous(base, tmp_path):
    (tmp_path / "many").mkdir()
    for name in "ab":
        save_file({"x": torch.zeros(1)}, tmp_path / "many" / f"{name}.safetensors")
    with pytest.raises(ValueError, match="holds 2 LoRA files; expected one"):
        load_transformer(base[1], loras={tmp_path / "many": 1.0})
