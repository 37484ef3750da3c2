"""Numbers that are not finite are found wherever they are, in every dtype, and are refused when weights are loaded."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bdiff_core import CausalVAE, VAEConfig, load_transformer, load_vae, save_transformer, save_vae
from bdiff_core.files import is_finite

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
SMALL = VAEConfig(
    latent_channels=3, encoder_widths=(4, 6), encoder_blocks=(1, 1), decoder_widths=(6, 5, 4), decoder_blocks=(1, 1, 1)
)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("-nan"), float("inf"), float("-inf")])
@given(count=st.integers(1, 5000), place=st.floats(0, 1, exclude_max=True))
@settings(max_examples=10, deadline=None)
def test_one_number_anywhere_is_found(dtype, value, count, place):
    x = torch.linspace(-3, 3, count).to(dtype)
    assert is_finite(x)
    x[int(place * count)] = torch.tensor(value).to(dtype)
    assert is_finite(x) == bool(x.float().isfinite().all())
    assert not is_finite(x) or dtype == torch.float8_e4m3fn  # which has no infinity


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_numbers_are_finite(dtype):
    info = torch.finfo(dtype)
    assert is_finite(torch.tensor([info.max, info.min, info.tiny], dtype=torch.float64).to(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_sum_that_overflows_is_no_proof(dtype):
    assert is_finite(torch.full((100,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.uint8])
def test_integers_are_always_finite(dtype):
    assert is_finite(torch.ones(3, dtype=dtype))


def test_other_shapes_are_looked_at_too():
    assert is_finite(torch.zeros(0))
    assert is_finite(torch.tensor(1.0))
    assert not is_finite(torch.tensor(float("nan")))
    assert not is_finite(torch.tensor([1.0 + 1j * float("inf")]))
    assert not is_finite(torch.tensor([[1.0, float("nan")]]).T)
    assert not is_finite(torch.tensor([1.0, float("inf")], requires_grad=True))


@pytest.mark.parametrize("format", ["bdiff", "diffusers", "wan", "pt"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_transformer_that_is_not_finite_is_refused(config, random_model, tmp_path, format, dtype, value):
    model = random_model(config)
    model.blocks[1].self_attention.qkv.weight.data[50, 3] = value  # within the second part, which is the keys
    path = tmp_path / ("model.pt" if format == "pt" else "model")
    save_transformer(model, path, format=format)
    key = {"bdiff": "blocks.1.self_attention.qkv", "diffusers": "blocks.1.attn1.to_k"}.get(format, "self_attn.k")
    with pytest.raises(
        ValueError, match=rf"not finite, first in \S*{re.escape(key)}\.weight; the file is damaged"
    ) as e:
        load_transformer(path, dtype=dtype)
    assert re.match(r"\S+(model\.pt|\.safetensors) holds numbers", str(e.value))


def test_numbers_too_large_for_the_dtype_asked_for_are_refused(config, random_model, tmp_path):
    model = random_model(config)
    model.head.project.weight.data[0, 0] = 1e5
    save_transformer(model, tmp_path)
    load_transformer(tmp_path, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"head\.project\.weight holds numbers too large for float16"):
        load_transformer(tmp_path, dtype=torch.float16)


@pytest.mark.parametrize("name", ["latent_std", "linear_encoder.weight"])
def test_an_autoencoder_that_is_not_finite_is_refused(tmp_path, name):
    file = save_vae(CausalVAE(SMALL), tmp_path)
    tensors = load_file(file)
    metadata = {"format": "bdiff-vae", "config": metadata_of(file)}
    tensors[name].view(-1)[-1] = float("nan")
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(ValueError, match=rf"vae\.safetensors holds numbers that are not finite, first in {name}"):
        load_vae(tmp_path)


def test_an_autoencoder_too_large_for_its_dtype_is_refused(tmp_path):
    vae = CausalVAE(SMALL)
    vae.linear_decoder.bias.data[0] = 1e6
    save_vae(vae, tmp_path)
    load_vae(tmp_path)
    with pytest.raises(ValueError, match="in float16, holds numbers that are not finite"):
        load_vae(tmp_path, dtype=torch.float16)


def metadata_of(file):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata()["config"]
