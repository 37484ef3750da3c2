"""Every format gives back the numbers, the config and the native mode that were written."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bdiff_core import ChunkDiT, ModelConfig, load_transformer, save_transformer
from bdiff_core.checkpoint import open_checkpoint
from bdiff_core.checkpoint.names import split

FOLDERS = ("bdiff", "diffusers", "wan")
FORMATS = (*FOLDERS, "pt")


@st.composite
def configs(draw):
    """Any config that every format has words for."""
    heads, image = draw(st.integers(1, 3)), draw(st.booleans())
    return ModelConfig(
        dim=heads * draw(st.sampled_from((4, 12, 20))),
        num_heads=heads,
        num_layers=draw(st.integers(1, 3)),
        ffn_dim=draw(st.integers(1, 9)),
        in_channels=draw(st.integers(1, 5)),
        out_channels=draw(st.integers(1, 5)),
        patch_size=(1, draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        text_dim=draw(st.integers(1, 9)),
        text_length=draw(st.integers(1, 9)),
        freq_dim=2 * draw(st.integers(1, 9)),
        cross_attn_norm=draw(st.booleans()),
        eps=draw(st.sampled_from((1e-6, 1e-3))),
        image_dim=5 if image else None,
        image_length=4 if image and draw(st.booleans()) else None,
        fps_embedding=draw(st.booleans()),
        fps=draw(st.sampled_from((16, 24))),
        native_mode=draw(st.sampled_from(("whole", "overlap", "cached"))),
    )


def place(folder, format):
    return folder / ("model.pt" if format == "pt" else format)


def same(model, other):
    found = other.state_dict()
    return all(p.dtype == found[n].dtype and torch.equal(p, found[n]) for n, p in model.state_dict().items())


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs(), dtype=st.sampled_from((torch.float32, torch.bfloat16)), shards=st.booleans())
def test_a_round_trip_gives_the_same_bits_and_config(random_model, tmp_path_factory, format, config, dtype, shards):
    model, path = random_model(config).to(dtype), place(tmp_path_factory.mktemp("round"), format)
    save_transformer(model, path, format=format, max_file_bytes=999 if shards and format != "pt" else None)
    loaded = load_transformer(path)
    assert loaded.config == config
    assert same(model, loaded)
    found = open_checkpoint(path)
    assert (found.format, found.dtypes) == (format, {dtype: found.num_parameters})
    assert found.num_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("format", FORMATS)
def test_dtype_is_chosen_while_reading(config, random_model, tmp_path, format):
    model = random_model(config)
    save_transformer(model, place(tmp_path, format), format=format)
    assert same(model.to(torch.float16), load_transformer(place(tmp_path, format), dtype=torch.float16))


def test_saving_in_fewer_files_leaves_none_of_the_others(config, random_model, tmp_path):
    save_transformer(random_model(config), tmp_path, max_file_bytes=4000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    other = random_model(config, seed=1)
    save_transformer(other, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert same(other, load_transformer(tmp_path))


def test_whoever_may_read_the_config_may_read_the_weights(config, random_model, tmp_path):
    save_transformer(random_model(config), tmp_path)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_no_file_is_larger_than_asked_for(config, random_model, tmp_path):
    model = random_model(config)
    largest = max(p.numel() * 4 for p in model.parameters())
    save_transformer(model, tmp_path, format="wan", max_file_bytes=largest)
    for file in tmp_path.glob("*.safetensors"):
        assert sum(tensor.numel() * 4 for tensor in load_file(file).values()) <= largest


@pytest.mark.parametrize(
    ("wrap", "inner"),
    [
        ("{}", ""),
        ("model.{}", "_fsdp_wrapped_module."),
        ("module.model.{}", "_orig_mod."),
        ("diffusion_model.{}", "_checkpoint_wrapped_module."),
        ("model.diffusion_model.{}", ""),
    ],
)
def test_what_training_code_puts_around_names_is_taken_off(config, random_model, tmp_path, wrap, inner):
    model = random_model(config)
    names = {name: wrap.format(inner + name.replace("ffn.", f"{inner}ffn.")) for name, _ in split(model, "wan")}
    weights = {names[name]: part.clone() for name, part in split(model, "wan")}
    torch.save({"generator": weights, "step": 3}, tmp_path / "model.pt")
    assert same(model, load_transformer(tmp_path / "model.pt", config=config))
    save_file(weights, tmp_path / "model.safetensors")
    assert same(model, load_transformer(tmp_path / "model.safetensors", config=config))


@pytest.mark.parametrize(
    ("entries", "asked", "read"),
    [
        (("generator", "generator_ema", "critic"), None, "generator_ema"),
        (("generator", "generator_ema", "critic"), "generator", "generator"),
        (("critic", "generator"), None, "generator"),
        (("critic", "model"), None, "model"),
    ],
)
def test_the_averaged_generator_comes_first(config, random_model, tmp_path, entries, asked, read):
    models = {entry: random_model(config, seed=seed) for seed, entry in enumerate(entries)}
    torch.save({entry: dict(split(model, "wan")) for entry, model in models.items()}, tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt", config=config, entry=asked).entry == read
    assert same(models[read], load_transformer(tmp_path / "x.pt", config=config, entry=asked))
    with pytest.raises(ValueError, match=r"has no 'teacher'; it has \['critic'"):
        load_transformer(tmp_path / "x.pt", entry="teacher")


WIDE = ModelConfig(
    dim=256, num_heads=2, num_layers=2, ffn_dim=7, in_channels=9, out_channels=4, patch_size=(1, 2, 3), text_dim=5,
    freq_dim=6, cross_attn_norm=False, image_dim=4, image_length=6, fps_embedding=True, native_mode="overlap",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "entry", "mode"),
    [
        ({}, None, "overlap"),
        ({"fps_embedding": False, "image_length": None}, None, "whole"),
        ({"cross_attn_norm": True, "qk_norm": False}, "generator", "cached"),
        ({"image_dim": None, "image_length": None, "patch_size": (1, 1, 1), "fps_embedding": False}, "model", "cached"),
    ],
)
def test_without_a_config_the_shapes_tell_it(random_model, tmp_path, changes, entry, mode):
    config = dataclasses.replace(WIDE, native_mode=mode, **changes)
    weights = {name: part.clone() for name, part in split(random_model(config), "wan")}
    torch.save(weights if entry is None else {entry: weights}, tmp_path / "model.pt")
    assert load_transformer(tmp_path / "model.pt").config == config
    if entry is None:
        (tmp_path / "folder").mkdir()
        halves = [dict(list(weights.items())[i::2]) for i in range(2)]
        for number, half in enumerate(halves, 1):
            save_file(half, tmp_path / "folder" / f"model-{number:05}-of-00002.safetensors")
        assert load_transformer(tmp_path / "folder").config == config
        (tmp_path / "folder" / "model-00001-of-00002.safetensors").unlink()
        with pytest.raises(ValueError, match=r"is incomplete: model-00001-of-00002.safetensors is missing"):
            load_transformer(tmp_path / "folder")


@pytest.mark.parametrize("file", ["anything.pt", "wan_t2v.safetensors", "diffusion_pytorch_model.fp16.safetensors"])
def test_the_only_file_of_a_folder_may_have_any_name(config, random_model, tmp_path, file):
    model = random_model(config)
    weights = {name: part.clone() for name, part in split(model, "wan")}
    save_file(weights, tmp_path / file) if file.endswith("safetensors") else torch.save(weights, tmp_path / file)
    assert same(model, load_transformer(tmp_path, config=config))
    (tmp_path / "other.pth").touch()
    with pytest.raises(ValueError, match=r"holds \[.*'other.pth'.*\]; name the file that is meant"):
        load_transformer(tmp_path, config=config)


@pytest.mark.parametrize("indexed", [True, False])
def test_files_that_torch_saved_may_be_many(config, random_model, tmp_path, indexed):
    model = random_model(config)
    weights = dict(split(model, "diffusers"))
    halves = [dict(list(weights.items())[i::2]) for i in range(2)]
    names = [f"diffusion_pytorch_model-{number:05}-of-00002.bin" for number in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        torch.save({key: part.clone() for key, part in half.items()}, tmp_path / name)
    if indexed:
        index = {"weight_map": {key: name for name, half in zip(names, halves, strict=True) for key in half}}
        (tmp_path / "diffusion_pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert same(model, load_transformer(tmp_path, config=config))
    (tmp_path / names[1]).unlink()
    with pytest.raises(ValueError, match=rf"is incomplete: {names[1]} is missing"):
        load_transformer(tmp_path, config=config)


def test_arguments_of_a_trainer_are_no_weights(config, random_model, tmp_path):
    save_file({name: part.clone() for name, part in split(random_model(config), "wan")}, tmp_path / "wan.safetensors")
    torch.save({"learning_rate": 1e-4}, tmp_path / "training_args.bin")
    assert open_checkpoint(tmp_path, config=config).files == (tmp_path / "wan.safetensors",)


def test_a_width_that_does_not_tell_its_heads_needs_a_config(config, random_model, tmp_path):
    model = random_model(config)
    torch.save(dict(split(model, "wan")), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="a width of 40 does not split into heads of 128"):
        load_transformer(tmp_path / "model.pt")
    (tmp_path / "config.json").write_text('{"about": "something else"}')
    with pytest.raises(ValueError, match="a width of 40 does not split into heads of 128"):
        load_transformer(tmp_path / "model.pt")
    (tmp_path / "config.json").write_text('{"_class_name": "WanModel", "num_heads": 2, "text_len": 6}')
    assert load_transformer(tmp_path / "model.pt").config == dataclasses.replace(config, native_mode="whole")


@pytest.mark.parametrize(
    ("kind", "words", "pipeline", "mode"),
    [
        ("WanTransformer3DModel", {}, None, "whole"),
        ("SkyReelsV2Transformer3DModel", {}, None, "overlap"),
        ("SkyReelsV2Transformer3DModel", {}, "SkyReelsV2DiffusionForcingPipeline", "overlap"),
        ("SkyReelsV2Transformer3DModel", {}, "SkyReelsV2DiffusionForcingVideoToVideoPipeline", "overlap"),
        ("SkyReelsV2Transformer3DModel", {}, "SkyReelsV2Pipeline", "whole"),
    ],
)
def test_the_native_mode_of_diffusers_directories(config, random_model, tmp_path, kind, words, pipeline, mode):
    save_transformer(random_model(config), tmp_path / "transformer", format="diffusers")
    file = tmp_path / "transformer" / "config.json"
    told = json.loads(file.read_text())
    del told["_bdiff"]
    file.write_text(json.dumps(told | words | {"_class_name": kind}))
    if pipeline is not None:
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    assert open_checkpoint(tmp_path / "transformer").config.native_mode == mode
    assert open_checkpoint(tmp_path).config.native_mode == mode
    assert load_transformer(tmp_path, config=config).config.native_mode == config.native_mode


def test_problems_of_any_style_are_listed_in_its_names(config, random_model, tmp_path):
    save_transformer(random_model(config), tmp_path, format="wan")
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["blocks.1.self_attn.k.weight"]
    weights["blocks.0.modulation"] = weights["blocks.0.modulation"][:, :5].clone()
    weights |= {f"vace_blocks.{i}.bias": torch.zeros(1) for i in range(9)}
    save_file(weights, file)
    with pytest.raises(
        ValueError, match=r"do not fit its config\.json: missing blocks\.1\.self_attn\.k\.weight; "
    ) as caught:
        load_transformer(tmp_path)
    assert str(caught.value).count("unexpected vace_blocks.") == 5
    assert str(caught.value).endswith("; and 5 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: it is empty"),
        (b"PK\x03\x04" + bytes(99), "is damaged: it begins as a zip archive, as torch writes them, and ends too early"),
        ([torch.zeros(2)], "holds a list; expected a dictionary of tensors"),
        ({"generator": {"loss": 0.5}}, "holds no transformer of the Wan family: its entry generator holds none"),
        ({"weight": torch.zeros(2)}, "holds no transformer of the Wan family: its tensors are weight"),
        ({"generator": os.system}, "holds more than tensors and plain data"),
    ],
)
def test_pickles_that_hold_no_transformer_are_an_error(tmp_path, content, message):
    file = tmp_path / "model.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        load_transformer(file)


@pytest.mark.parametrize(
    ("changes", "name", "options", "message"),
    [
        ({"qk_norm": False}, "a", {"format": "diffusers"}, "qk_norm is False; the format 'diffusers' knows True only"),
        ({"rope_theta": 50.0}, "a", {"format": "wan"}, "rope_theta is 50.0; the format 'wan' knows 10000.0 only"),
        ({}, "a", {"format": "onnx"}, "format is 'onnx'; expected"),
        ({}, "a", {"format": "pt"}, "the format 'pt' is a file that ends in .pt"),
        ({}, "a.pt", {}, "the format 'pt' is a file that ends in .pt"),
        ({}, "a", {"max_file_bytes": 0}, "max_file_bytes is 0"),
        ({}, "a.pt", {"format": "pt", "max_file_bytes": 9}, "max_file_bytes is 9 with the format 'pt'"),
    ],
)
@pytest.mark.usefixtures("plain_errors")
def test_what_cannot_be_written_is_refused(config, random_model, tmp_path, changes, name, options, message):
    model = random_model(dataclasses.replace(config, **changes))
    with pytest.raises(ValueError, match=message):
        save_transformer(model, tmp_path / name, **options)
    assert not (tmp_path / name).exists()


def test_an_entry_of_what_has_none_is_an_error(config, random_model, tmp_path):
    save_transformer(random_model(config), tmp_path)
    with pytest.raises(ValueError, match=r"entry 'generator' is for \.pt files"):
        load_transformer(tmp_path, entry="generator")


# Anonymous memory alone would miss what a mapped file holds, so resident memory is what counts here.
MEASURE = """
import re, sys
from pathlib import Path
from bdiff_core import load_transformer
status = lambda word: int(re.search(word + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
load_transformer(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = status("VmRSS")
model = load_transformer(sys.argv[1])
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures as Linux tells it")
def test_loading_holds_the_weights_once(config, random_model, tmp_path):
    """120 MB of bfloat16 in files of 25 MB, in a format whose tensors are put together to make ours."""
    large = ModelConfig(dim=768, num_heads=6, num_layers=6, ffn_dim=3072, text_dim=256, text_length=8)
    with torch.device("meta"):
        model = ChunkDiT(large)
    size = 2 * sum(p.numel() for p in model.parameters())
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    for parameter in model.parameters():  # nothing is drawn: it would take longer than all the rest
        parameter.detach().fill_(0.5)
    save_transformer(model, tmp_path / "large", format="diffusers", max_file_bytes=25_000_000)
    save_transformer(random_model(config), tmp_path / "small", format="diffusers")
    command = [sys.executable, "-c", MEASURE, tmp_path / "large", tmp_path / "small"]
    measured = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 0.9 * size < int(measured.stdout) < 1.15 * size
