import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bdiff_core import ChunkDiT, load_transformer, save_transformer
from bdiff_core.checkpoint.names import split


@pytest.fixture
def saved(config, random_model, tmp_path):
    save_transformer(random_model(config), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def diffusers_directory(config, random_model, tmp_path):
    """What diffusers would write for `config`, made by splitting our own parameters; and the model it holds."""
    model, path = random_model(config), tmp_path / "diffusers"
    weights = {name: part.clone() for name, part in split(model, "diffusers")}
    path.mkdir()
    save_file(weights, path / "diffusion_pytorch_model.safetensors")
    published = {
        "_class_name": "SkyReelsV2Transformer3DModel", "num_attention_heads": 2, "attention_head_dim": 20,
        "num_layers": 3, "ffn_dim": 48, "in_channels": 3, "out_channels": 3, "patch_size": [1, 2, 2], "text_dim": 12,
        "freq_dim": 16, "cross_attn_norm": True, "eps": 1e-6, "rope_max_seq_len": 1024,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(published))
    return path, model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_saving_and_loading_gives_the_same_bits(config, random_model, tmp_path, dtype):
    model = random_model(config).to(dtype)
    save_transformer(model, tmp_path / "new" / "folder")
    loaded = load_transformer(tmp_path / "new" / "folder")
    assert loaded.config == config
    for name, p in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == dtype
        assert torch.equal(found, p)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["config.json", "model.safetensors"]


def test_loading_imports_no_compiler(saved):
    """Which would take seconds: torch draws random numbers on the meta device with it."""
    code = f"import sys, bdiff_core; bdiff_core.load_transformer({str(saved)!r}); print('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_dtype_is_chosen_on_loading(saved):
    assert {p.dtype for p in load_transformer(saved, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_a_loaded_model_trains(saved, random_video, config):
    model, video = load_transformer(saved), random_video(config, chunks=1, frames=2)
    model(video.latents, video.levels, video.prompts).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_saving_again_replaces(saved, config, random_model):
    other = random_model(config, seed=1)
    save_transformer(other, saved)
    assert torch.equal(load_transformer(saved).head.table, other.head.table)


def test_weights_are_plain_safetensors(saved):
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(load_transformer(saved).state_dict())


def test_diffusers_directories_are_read(diffusers_directory):
    path, model = diffusers_directory
    loaded = load_transformer(path)
    assert loaded.config.text_length == 512
    for name, p in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], p), name


def test_sharded_directories_and_whole_pipelines_are_read(diffusers_directory, tmp_path):
    path, model = diffusers_directory
    weights = load_file(path / "diffusion_pytorch_model.safetensors")
    weights["blocks.0.attn2.norm_added_q.weight"] = torch.zeros(40)  # published, and used by no model
    shards = {"a.safetensors": dict(list(weights.items())[::2]), "b.safetensors": dict(list(weights.items())[1::2])}
    (path / "diffusion_pytorch_model.safetensors").unlink()
    for file, part in shards.items():
        save_file(part, path / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    path.rename(pipeline / "transformer")
    loaded = load_transformer(pipeline)
    assert torch.equal(loaded.blocks[2].self_attention.qkv.weight, model.blocks[2].self_attention.qkv.weight)
    (pipeline / "transformer" / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is incomplete: b.safetensors is missing"):
        load_transformer(pipeline)


def test_weights_that_do_not_fit_are_listed_at_once(diffusers_directory):
    path, _ = diffusers_directory
    file = path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["blocks.1.attn1.to_k.weight"]
    weights["stray"] = torch.zeros(2)
    weights["blocks.0.attn2.to_v.weight"] = torch.zeros(40, 39)
    weights["patch_embedding.weight"] = weights["patch_embedding.weight"].flatten(1)
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"do not fit its config\.json") as caught:
        load_transformer(path)
    assert re.findall(r"[:;] ([^;]+)", str(caught.value)) == [
        "missing blocks.1.attn1.to_k.weight",
        "unexpected stray",
        "patch_embedding.weight is (40, 12), expected (40, 3, 1, 2, 2)",
        "blocks.0.attn2.to_v.weight is (40, 39), expected (40, 40)",
    ]


def test_weights_of_another_model_are_refused_in_a_few_words(saved):
    save_file({"stray": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit its config\.json: (missing [^;]+; ){6}and \d+ more$"):
        load_transformer(saved)


@pytest.mark.parametrize("keep", [0, 7, 3000, -10])
def test_a_cut_off_file_is_one_line_of_error(saved, keep):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged: [^\n]+$"):
        load_transformer(saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is damaged"),
        ("[]", "expected an object, found list"),
        ("{}", "does not say what it is of"),
        ('{"_class_name": "CogVideoXTransformer3DModel"}', "is of a CogVideoXTransformer3DModel"),
        ('{"_class_name": "WanTransformer3DModel", "eps": 1e-6}', r"lacks \['num_layers', "),
        ('{"_class_name": "ChunkDiT", "dim": 4, "depth": 1}', r"missing \['cross_attn_norm', .*unknown \['depth'\]"),
    ],
)
def test_a_config_that_says_nothing_useful_is_an_error(saved, text, message):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_transformer(saved)


@pytest.mark.parametrize(("field", "value"), [("dim", 41), ("dim", "wide"), ("patch_size", 2), ("patch_size", [1, 2])])
def test_a_config_that_describes_no_model_is_an_error(saved, field, value):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(ValueError, match="describes no transformer"):
        load_transformer(saved)


def test_what_is_not_there_is_an_error(tmp_path, saved):
    with pytest.raises(ValueError, match="does not exist and is no hub repository"):
        load_transformer(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no transformer: config\.json is missing"):
        load_transformer(tmp_path)
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is incomplete: model\.safetensors is missing"):
        load_transformer(saved)


def test_a_crash_while_saving_leaves_the_old_model(saved, config, random_model, monkeypatch):
    before = (saved / "model.safetensors").read_bytes()

    def crash(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("bdiff_core.files.whole.save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        save_transformer(random_model(config, seed=1), saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert len(list(saved.iterdir())) == 2
    assert isinstance(load_transformer(saved), ChunkDiT)


def test_repositories_of_the_hub_are_fetched_when_no_directory_has_their_name(saved, tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(repo, allow_patterns):
        asked[repo] = allow_patterns
        return str(saved)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_transformer("owner/name"), ChunkDiT)
    assert set(asked) == {"owner/name"}
    assert {"config.json", "model_index.json", "transformer/*.safetensors"} <= set(asked["owner/name"])
    saved.rename(tmp_path / "owner")
    load_transformer("owner")
    assert list(asked) == ["owner/name"]


def test_one_file_of_a_repository_is_fetched_alone(config, random_model, tmp_path, monkeypatch):
    model, asked = random_model(config), []
    save_transformer(model, tmp_path / "snapshot" / "checkpoints" / "dmd.pt", format="pt")

    def snapshot_download(repo, allow_patterns):
        asked.append((repo, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.chdir(tmp_path)
    assert torch.equal(load_transformer("owner/name/checkpoints/dmd.pt").head.table, model.head.table)
    assert asked == [("owner/name", ["checkpoints/dmd.pt", "checkpoints/dmd.pt/*"])]
    with pytest.raises(ValueError, match=r"the repository owner/name holds no other\.pt"):
        load_transformer("owner/name/other.pt")


def test_directories_older_than_native_modes_are_read(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["native_mode"]
    (saved / "config.json").write_text(json.dumps(config))
    assert load_transformer(saved).config.native_mode == "cached"


def test_without_the_hub_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=r"pip install bdiff-core\[hub\]"):
        load_transformer("owner/name")
