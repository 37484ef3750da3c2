"""Weights of 8 bits with scales become the numbers they stand for; other quantised weights are refused by name."""

import json

import pytest
import torch
from safetensors.torch import save_file

from bdiff_core import load_transformer
from bdiff_core.checkpoint import open_checkpoint
from bdiff_core.checkpoint.names import split
from bdiff_core.checkpoint.quantized import _SCALES

FLOAT8 = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}


@pytest.fixture
def model(config, random_model):
    return random_model(config)


def grouped(weight, groups):
    """Largest numbers of each row and group of columns, as a column for each group."""
    return weight.flatten(1).unflatten(1, (groups, -1)).abs().amax(2) / 448


SCALES = {
    "number": lambda weight: (weight.abs().max() / 448).reshape(()),
    "one": lambda weight: (weight.abs().max() / 448).reshape(1),
    "matrix": lambda weight: (weight.abs().max() / 448).reshape(1, 1),
    "rows": lambda weight: grouped(weight, 1)[:, 0],
    "column": lambda weight: grouped(weight, 1),
    "groups": lambda weight: grouped(weight, 4)[..., None],
    "flat groups": lambda weight: grouped(weight, 4),
}


def scaled(weight, scale):
    """A weight over its scale, whichever form that has."""
    if scale.numel() == 1:
        return weight / scale.reshape(())
    columns = scale.numel() // weight.shape[0]
    return (weight.flatten(1).unflatten(1, (columns, -1)) / scale.reshape(weight.shape[0], columns, 1)).view(
        weight.shape
    )


def stored(model, *, form="number", ending=".scale_weight", dtype=torch.float8_e4m3fn, style="wan", owner="", extra=()):
    """A checkpoint whose linear layers in the blocks are scaled to 8 bits, and what it stands for."""
    tensors, numbers = {}, {}
    for name, part in split(model, style):
        numbers[name] = part
        if not name.startswith("blocks.") or part.ndim != 2 or not name.endswith(".weight"):
            tensors[owner + name] = part.bfloat16()
            numbers[name] = part.bfloat16().float()
            continue
        scale = SCALES[form](part)
        tensors[owner + name] = scaled(part, scale).to(dtype)
        base = owner + name.removesuffix(".weight")
        tensors[base + ending] = scale
        for suffix, value in extra:
            tensors[base + suffix] = value.clone()
        inverse = torch.ones_like(scale) / scale
        numbers[name] = scaled(tensors[owner + name].float(), inverse)
    return tensors, numbers


def note(layout):
    return torch.tensor(list(json.dumps({"format": layout}).encode()), dtype=torch.uint8)


LAYOUTS = {
    "comfy": {"ending": ".scale_weight", "extra": [(".scale_input", torch.tensor(2.0))]},
    "comfy-mixed": {
        "ending": ".weight_scale",
        "extra": [(".input_scale", torch.tensor(2.0)), (".comfy_quant", note("float8_e4m3fn"))],
    },
    "owner": {"ending": ".scale_weight", "owner": "model.diffusion_model."},
    "kijai": {"ending": ".scale_weight", "dtype": torch.float8_e5m2},
    "diffusers": {"ending": ".weight_scale", "style": "diffusers"},
    **{ending: {"ending": ending} for ending in _SCALES},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", SCALES)
@pytest.mark.parametrize("pickled", [False, True])
def test_scaled_weights_are_read_as_what_they_stand_for(config, model, tmp_path, layout, form, pickled):
    tensors, numbers = stored(model, form=form, **LAYOUTS[layout])
    owner, style = LAYOUTS[layout].get("owner", ""), LAYOUTS[layout].get("style", "wan")
    tensors[owner + "scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    file = tmp_path / ("model.pt" if pickled else "model.safetensors")
    torch.save(tensors, file) if pickled else save_file(tensors, file)
    found = dict(split(load_transformer(file, config=config, dtype=torch.float32), style))
    for name, expected in numbers.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6, msg=name)
    # And they are near to what was quantised: the scale is not forgotten, nor taken the wrong way round.
    key = next(
        name for name in numbers if name.startswith("blocks.0") and name.endswith("weight") and numbers[name].ndim == 2
    )
    torch.testing.assert_close(found[key], dict(split(model, style))[key], rtol=0.2, atol=0.05)


def test_scaled_weights_are_bfloat16_unless_another_dtype_is_asked_for(config, model, tmp_path):
    tensors, numbers = stored(model)
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = load_transformer(tmp_path / "model.safetensors", config=config)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    found = open_checkpoint(tmp_path / "model.safetensors", config=config)
    assert set(found.dtypes) == {torch.bfloat16, torch.float8_e4m3fn}
    assert sum(found.dtypes.values()) == found.num_parameters
    expected = numbers["blocks.0.ffn.0.weight"].bfloat16()
    assert torch.equal(dict(split(loaded, "wan"))["blocks.0.ffn.0.weight"], expected)


def test_a_lora_adds_to_what_scaled_weights_stand_for(config, model, tmp_path):
    tensors, numbers = stored(model)
    save_file(tensors, tmp_path / "model.safetensors")
    save_file({"blocks.0.ffn.0.diff": torch.full((48, 40), 2.0)}, tmp_path / "lora.safetensors")
    loras = {tmp_path / "lora.safetensors": 0.5}
    loaded = load_transformer(tmp_path / "model.safetensors", config=config, loras=loras)
    expected = (numbers["blocks.0.ffn.0.weight"] + 1).bfloat16()
    assert torch.equal(dict(split(loaded, "wan"))["blocks.0.ffn.0.weight"], expected)


@pytest.mark.parametrize("dtype", FLOAT8)
def test_plain_floats_of_8_bits_are_read_as_they_are(config, model, tmp_path, dtype):
    weights = {name: part.to(FLOAT8[dtype]) for name, part in split(model, "wan")}
    save_file(weights, tmp_path / "model.safetensors")
    found = dict(split(load_transformer(tmp_path / "model.safetensors", config=config), "wan"))
    assert all(found[name].dtype == FLOAT8[dtype] for name in weights)
    whole = dict(split(load_transformer(tmp_path / "model.safetensors", config=config, dtype=torch.float32), "wan"))
    assert all(torch.equal(whole[name], weight.float()) for name, weight in weights.items())


def test_parts_in_different_dtypes_have_a_common_one(config, model, tmp_path):
    weights = {name: part.clone() for name, part in split(model, "wan")}
    name = "blocks.0.self_attn.q.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    save_file(weights, tmp_path / "model.safetensors")
    assert (
        load_transformer(tmp_path / "model.safetensors", config=config).blocks[0].self_attention.qkv.weight.dtype
        == torch.float32
    )


@pytest.mark.parametrize(
    ("changed", "value"),
    [("blocks.0.ffn.0.scale_weight", float("nan")), ("blocks.1.self_attn.k.weight", float("nan"))],
)
def test_scaled_weights_that_are_not_finite_are_refused(config, model, tmp_path, changed, value):
    tensors, _ = stored(model)
    whole = tensors[changed].float()
    whole.view(-1)[0] = value
    tensors[changed] = whole.to(tensors[changed].dtype)
    save_file(tensors, tmp_path / "model.safetensors")
    named = changed.replace("scale_weight", "weight")
    with pytest.raises(ValueError, match=rf"model\.safetensors holds numbers that are not finite, first in {named}; "):
        load_transformer(tmp_path / "model.safetensors", config=config)


KEY = "blocks.0.ffn.0"
OTHERS = [
    ({f"{KEY}.weight.absmax": torch.zeros(4)}, "4 bits of bitsandbytes"),
    ({f"{KEY}.weight.quant_map": torch.zeros(16)}, "4 bits of bitsandbytes"),
    ({f"{KEY}.weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8)}, "4 bits of bitsandbytes"),
    ({f"{KEY}.SCB": torch.zeros(4)}, "8 bits of bitsandbytes"),
    ({f"{KEY}.qweight": torch.zeros(4, dtype=torch.int32)}, "GPTQ, AWQ or Nunchaku"),
    ({f"{KEY}.weight._data": torch.zeros(4, dtype=torch.int8)}, "optimum-quanto"),
    ({f"{KEY}.weight_scale_inv": torch.zeros(4)}, "floats of 8 bits in blocks"),
    ({f"{KEY}.weight_scale_2": torch.zeros(4)}, "floats of 4 bits"),
    ({f"{KEY}.comfy_quant": note("int8_tensorwise")}, "int8_tensorwise"),
    ({f"{KEY}.comfy_quant": torch.zeros(3, dtype=torch.uint8)}, "an unknown layout"),
    (
        {f"{KEY}.weight": torch.zeros(48, 40, dtype=torch.int8), f"{KEY}.weight_scale": torch.ones(48)},
        "int8 with a scale",
    ),
]


@pytest.mark.parametrize(("extra", "kind"), OTHERS)
@pytest.mark.parametrize("owner", ["", "model.diffusion_model."])
def test_other_quantised_weights_are_refused_by_name(config, model, tmp_path, extra, kind, owner):
    weights = {name: part.bfloat16() for name, part in split(model, "wan")} | extra
    save_file({owner + name: weight for name, weight in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"quantised as {kind} \({KEY}\S+\), which are not read here; take") as caught:
        load_transformer(tmp_path / "model.safetensors", config=config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
def test_integers_are_no_weights(config, model, tmp_path, dtype):
    weights = {name: part.clone() for name, part in split(model, "wan")}
    weights[f"{KEY}.weight"] = weights[f"{KEY}.weight"].to(dtype)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.0\.ffn\.0\.weight is \w+, expected floats"):
        load_transformer(tmp_path / "model.safetensors", config=config)


@pytest.mark.parametrize("scale", [torch.ones(7), torch.ones(48, 7), torch.ones(40), torch.ones(48, dtype=torch.int32)])
def test_a_scale_that_fits_nothing_is_refused(config, model, tmp_path, scale):
    tensors, _ = stored(model)
    tensors[f"{KEY}.scale_weight"] = scale
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.0\.ffn\.0\.scale_weight is .* expected one number, or one for"):
        load_transformer(tmp_path / "model.safetensors", config=config)
