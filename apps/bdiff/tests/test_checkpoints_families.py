"""What is known and not read ends inspect, convert, plan and sample in one line that names it, with nothing made."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bdiff_core import load_transformer, save_transformer


def omnimem(folder, tensors):
    gate = {"blocks.0.self_attn.g_proj.weight": torch.zeros(6, 32)}
    save_file(tensors | gate, folder / "diffusion_pytorch_model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "CausalWanNSAModel"}))


def magi(folder, tensors):
    shutil.rmtree(folder)
    folder.mkdir()
    names = {"videodit_blocks.layers.0.mlp.linear_fc1.weight": torch.zeros(4, 4)}
    save_file(names, folder / "model-00001-of-00001.safetensors")


def two_experts(folder, tensors):
    index = {"_class_name": "WanPipeline", "transformer_2": ["diffusers", "WanTransformer3DModel"]}
    (folder.parent / "model_index.json").write_text(json.dumps(index))


def channels(folder, tensors):
    wide = {
        "patch_embedding.weight": torch.zeros(32, 48, 1, 2, 2), "head.head.weight": torch.zeros(192, 32),
        "head.head.bias": torch.zeros(192),
    }  # fmt: skip
    save_file(tensors | wide, folder / "diffusion_pytorch_model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {"in_dim": 48, "out_dim": 48, "_class_name": "WanModel"}
    del config["_bdiff"]
    (folder / "config.json").write_text(json.dumps(config))


def engine(folder, tensors):
    state = {"blocks.0.self_attn.q.linear._extra_state": torch.zeros(0, dtype=torch.uint8)}
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"generator": {f"model.{name}": x for name, x in (tensors | state).items()}}, folder / "model_te.pt")


def two_kinds(folder, tensors):
    torch.save({"generator": {f"model.{name}": x for name, x in tensors.items()}}, folder / "self_forcing_dmd.pt")


FAMILIES = {
    omnimem: "is a transformer of OmniMem (CausalWanNSAModel)",
    magi: "is a transformer of MAGI-1 (videodit_blocks)",
    two_experts: "has two transformers, as Wan 2.2 does; expected a pipeline of Wan 2.1 or SkyReels-V2",
    channels: "is a transformer of Wan 2.2 (48 channels), whose autoencoder is not read here",
    engine: "holds the modules of Transformer Engine",
    two_kinds: "holds weights of two kinds, diffusion_pytorch_model.safetensors and self_forcing_dmd.pt; name the file",
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_command_says_which_family_it_is(run, tiny_model, tmp_path, family):
    shutil.copytree(tiny_model, tmp_path / "model")
    folder = tmp_path / "model" / "transformer"
    shutil.rmtree(folder)
    save_transformer(load_transformer(tiny_model / "transformer"), folder, format="wan")
    family(folder, load_file(folder / "diffusion_pytorch_model.safetensors"))
    made = ("--model", "model", "--prompt", "the fox waits", "--seconds", "1")
    for command in (
        ("inspect", "model/transformer"),
        ("convert", "model/transformer", "out"),
        ("plan", *made),
        ("sample", *made, "--out", "run"),
    ):
        if family is two_experts and command[0] in ("plan", "sample"):
            for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
                (tmp_path / "model" / part).mkdir(exist_ok=True)
            (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text("{}")
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1), (command, err)
        assert FAMILIES[family] in err
        assert "model" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_one_of_two_files_is_inspected_by_its_name(run, tiny_model, tmp_path):
    save_transformer(load_transformer(tiny_model / "transformer"), tmp_path / "m", format="wan")
    two_kinds(tmp_path / "m", load_file(tmp_path / "m" / "diffusion_pytorch_model.safetensors"))
    for name, format, mode in (
        ("self_forcing_dmd.pt", "pt", "cached"),
        ("diffusion_pytorch_model.safetensors", "wan", "cached"),
    ):
        facts = json.loads(run("inspect", f"m/{name}", "--json")[1])
        assert (facts["format"], facts["native_mode"]) == (format, mode)


def test_a_lora_at_the_root_of_its_rank_is_merged_with_a_warning(run, tiny_model, tmp_path, caplog):
    """StoryMem's alpha over the root of the rank, as the strength."""
    factors = {"lora_A": torch.ones(1, 32), "lora_B": torch.ones(32, 1)}
    names = {f"base_model.model.blocks.0.self_attn.q.{x}.weight": f for x, f in factors.items()}
    torch.save({"generator_lora": names}, tmp_path / "lora.pt")
    assert run("convert", tiny_model, "out", "--lora", "lora.pt@11.3137")[0] == 0
    assert "the LoRA lora.pt says no alpha" in caplog.text
    before, after = load_transformer(tiny_model / "transformer"), load_transformer("out")
    name = "blocks.0.self_attention.qkv.weight"
    change = after.state_dict()[name] - before.state_dict()[name]
    torch.testing.assert_close(change[:32], torch.full((32, 32), 11.3137))
    assert not change[32:].any()
