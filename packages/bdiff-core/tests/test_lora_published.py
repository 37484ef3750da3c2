"""LoRAs in the forms in which they are published, at the scale at which their authors add them."""

import json
import logging
import math

import pytest
import torch
from safetensors.torch import save_file

from bdiff_core import ModelConfig, load_transformer
from bdiff_core.checkpoint.names import without_wrappers

CONFIG = ModelConfig(
    dim=128, num_layers=2, num_heads=1, ffn_dim=24, in_channels=4, out_channels=4, text_dim=12, freq_dim=16,
    native_mode="cached",
)  # fmt: skip
RANK = 4
LINEAR = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "cross_attn.q", "cross_attn.k", "cross_attn.v",
          "cross_attn.o", "ffn.0", "ffn.2")  # fmt: skip


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(CONFIG)


@pytest.fixture
def base(model, published, tmp_path):
    """The transformer that a LoRA changes, as its authors publish it."""
    torch.save({"generator": {f"model.{n}": t for n, t in published.wan(model).items()}}, tmp_path / "base.pt")
    return tmp_path / "base.pt"


@pytest.fixture(scope="module")
def factors(model, published):
    """Random factors for every matrix in the blocks, by its name in Wan's code."""
    generator, shapes = torch.Generator().manual_seed(4), published.wan(model)
    found = {}
    for name in (f"blocks.{i}.{linear}" for i in range(CONFIG.num_layers) for linear in LINEAR):
        outputs, inputs = shapes[f"{name}.weight"].shape
        down = torch.randn(RANK, inputs, generator=generator)
        found[name] = (down, torch.randn(outputs, RANK, generator=generator) / 9)
    return found


@pytest.fixture
def check(model, published, factors, random_video):
    """Checks that a model is the base with the products added at a scale, in its weights and in what it makes."""

    def make(model):
        video = random_video(CONFIG, chunks=1, frames=2, batch=1)
        with torch.no_grad():
            return model(video.latents, video.levels, video.prompts[..., :5, :])

    def compare(found, scale):
        expected = published.wan(model)
        for name, (down, up) in factors.items():
            expected[f"{name}.weight"] += scale * (up @ down)
        for name, tensor in published.wan(found).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5, msg=name)
        path = "blocks.0.ffn_in.weight"
        assert not torch.allclose(found.state_dict()[path], model.state_dict()[path], atol=0.01)
        assert not torch.allclose(make(found), make(model), atol=0.01)
        return make(found)

    return compare


def named(factors, pattern):
    """A file's tensors by a pattern for the names of the two factors."""
    return {
        pattern.format(module=module, factor=factor): tensor
        for module, pair in factors.items()
        for factor, tensor in zip("AB", pair, strict=True)
    }


PEFT = "base_model.model.{module}.lora_{factor}.weight"
PEFT_NAMED = "base_model.model.{module}.lora_{factor}.default.weight"
FSDP = "base_model.model._fsdp_wrapped_module.{module}.lora_{factor}.weight"


@pytest.mark.parametrize("pattern", [PEFT, PEFT_NAMED, FSDP, "{module}.lora_{factor}.weight"])
@pytest.mark.parametrize("form", ["generator_lora", "with the critic's", "bare", "beside a generator"])
def test_the_lora_of_longlive_and_memflow(base, factors, check, published, model, tmp_path, pattern, form, caplog):
    """Their rank is their alpha (256), which stands in a YAML file: scale 1."""
    tensors, other = named(factors, pattern), named(factors, PEFT)
    other = {name: tensor + 1 for name, tensor in other.items()}
    content = {
        "generator_lora": {"generator_lora": tensors},
        "with the critic's": {"critic_lora": other, "generator_lora": tensors, "step": 3000},
        "bare": tensors,
        "beside a generator": {"generator": published.wan(model), "generator_lora": tensors},
    }[form]
    torch.save(content, tmp_path / "lora.pt")
    found = load_transformer(base, loras={tmp_path / "lora.pt": 1.0})
    check(found, 1.0)
    assert found.config.native_mode == "cached"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"the LoRA {tmp_path / 'lora.pt'} says no alpha: its products are added at scale 1" in caplog.text


@pytest.mark.parametrize("pattern", ["pipe.dit.{module}.lora_{factor}.default.weight",
                                     "{module}.lora_{factor}.default.weight"])  # fmt: skip
def test_the_loras_of_stable_video_infinity(base, factors, check, tmp_path, pattern, caplog):
    """Their code adds the products as they are, whatever the alpha of training."""
    save_file(named(factors, pattern), tmp_path / "svi-film.safetensors")
    check(load_transformer(base, loras={tmp_path / "svi-film.safetensors": 1.0}), 1.0)
    assert not caplog.records


def test_a_lora_of_stable_video_infinity_on_a_model_of_pictures(random_model, published, tmp_path):
    """The base is Wan 2.1 image-to-video; keys and values of image tokens stay as they are."""
    config = ModelConfig(
        dim=128, num_layers=1, num_heads=1, ffn_dim=24, in_channels=36, out_channels=16, text_dim=12, freq_dim=16,
        image_dim=8, native_mode="whole",
    )  # fmt: skip
    from bdiff_core import save_transformer

    model = random_model(config)
    save_transformer(model, tmp_path / "i2v", format="wan")
    down, up = torch.randn(RANK, 128), torch.randn(128, RANK)
    name = "pipe.dit.blocks.0.cross_attn.k.lora_{}.default.weight"
    save_file({name.format("A"): down, name.format("B"): up}, tmp_path / "svi-shot.safetensors")
    found = load_transformer(tmp_path / "i2v", loras={tmp_path / "svi-shot.safetensors": 1.0}).state_dict()
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected["blocks.0.cross_attention.kv.weight"][:128] += up @ down
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def test_what_a_lora_of_stable_video_infinity_adds_beside_is_named(base, factors, tmp_path):
    """Dance and Talk bring modules of their own, which Wan 2.1 has not."""
    tensors = named(factors, "pipe.dit.{module}.lora_{factor}.default.weight")
    save_file(tensors | {"dwpose_embedding.0.weight": torch.zeros(4, 3, 3, 3, 3)}, tmp_path / "svi-dance.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the transformer: unexpected dwpose_embedding\.0\.weight$"):
        load_transformer(base, loras={tmp_path / "svi-dance.safetensors": 1.0})


@pytest.mark.parametrize("told", ["by the strength", "by the folder", "by the folder of the file"])
def test_a_lora_with_the_root_of_the_rank(base, factors, check, tmp_path, told, caplog):
    """StoryMem's, of rsLoRA: alpha over the root of the rank, which no file says; or its settings beside it."""
    alpha = 4.0
    lora = tmp_path / "adapter"
    lora.mkdir()
    file = lora / ("backbone_low_noise.safetensors" if told == "by the strength" else "adapter_model.safetensors")
    save_file(named(factors, PEFT), file)
    if told != "by the strength":
        settings = {"r": RANK, "lora_alpha": alpha, "use_rslora": True}
        (lora / "adapter_config.json").write_text(json.dumps(settings))
    strength = alpha / math.sqrt(RANK) if told == "by the strength" else 1.0
    found = load_transformer(base, loras={lora if told == "by the folder" else file: strength})
    check(found, alpha / math.sqrt(RANK))
    assert ("says no alpha" in caplog.text) == (told == "by the strength")


def test_an_alpha_in_the_file_needs_no_warning(base, factors, check, tmp_path, caplog):
    alphas = {f"base_model.model.{module}.alpha": torch.tensor(2.0) for module in factors}
    save_file(named(factors, PEFT) | alphas, tmp_path / "lora.safetensors")
    check(load_transformer(base, loras={tmp_path / "lora.safetensors": 1.0}), 2 / RANK)
    assert not caplog.records


def test_the_names_here_are_of_the_wrappers_that_are_taken_off():
    assert without_wrappers(FSDP) == PEFT
