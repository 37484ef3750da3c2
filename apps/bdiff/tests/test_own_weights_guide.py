"""Every command of the guide "Run your own weights" runs, on small random files under the names that it shows."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch

from bdiff.cli.main import main
from bdiff_core import load_transformer, save_transformer
from bdiff_core.checkpoint.names import split

diffusers = pytest.importorskip("diffusers", reason="pipelines are those of diffusers")
pytest.importorskip("transformers", reason="their text encoders are those of transformers")

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "own-weights.md"
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = {"sample": ["--height", "16", "--width", "32", "--device", "cpu", "--dtype", "float32", "--attention", "auto"]}
SMALL["plan"] = SMALL["sample"]


def commands():
    text = "".join(SHELL.findall(PAGE.read_text(encoding="utf-8"))).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith("bdiff ")]


@pytest.fixture(scope="module")
def makers():
    file = Path(__file__).with_name("test_pipelines.py")
    spec = importlib.util.spec_from_file_location("bdiff_test_pipelines", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(makers, tmp_path_factory):
    """A folder with everything that the guide names."""
    folder = tmp_path_factory.mktemp("guide")
    heads = {"num_attention_heads": 1, "attention_head_dim": 128}
    wan = diffusers.WanPipeline(**makers.parts("WanTransformer3DModel", **heads))
    few = {"latent_frames": 2, "steps": 2}
    for name, pipeline in {
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": wan,
        "Wan2.1-T2V-1.3B-Diffusers": wan,
        "pipelines/skyreels-v2-df": diffusers.SkyReelsV2DiffusionForcingPipeline(
            **makers.parts("SkyReelsV2Transformer3DModel")
        ),
        "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": diffusers.WanImageToVideoPipeline(
            **makers.picture_parts("WanTransformer3DModel")
        ),
    }.items():
        makers.saved(pipeline, folder / name)
        (folder / name / "sampling.json").write_text(str(few).replace("'", '"'))
    diffusers.SkyReelsV2DiffusionForcingPipeline(
        **makers.parts("SkyReelsV2Transformer3DModel")
    ).transformer.save_pretrained(folder / "SkyReels-V2-DF-14B-540P")
    own = folder / "wan_models/Wan2.1-T2V-1.3B"
    file = Path(__file__).parents[3] / "packages" / "bdiff-core" / "tests" / "original_wan.py"
    spec = importlib.util.spec_from_file_location("original_wan", file)
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    plain.save_original(own, *makers.tokenizer())
    model = load_transformer(folder / "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    save_transformer(model, own, format="wan")
    named = {f"model.{name}": weight.clone() for name, weight in split(model, "wan")}
    for name in ("checkpoints/self_forcing_dmd.pt", "longlive_models/longlive_base.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        torch.save({"generator": named, "generator_ema": named}, folder / name)
    factors = {
        f"base_model.model.blocks.0.ffn.0.{name}.weight": 0.01 * torch.randn(*shape)
        for name, shape in {"lora_A": (2, model.config.dim), "lora_B": (model.config.ffn_dim, 2)}.items()
    }
    torch.save({"generator_lora": factors, "critic_lora": factors}, folder / "longlive_models/lora.pt")
    from safetensors.torch import save_file

    for number, name in enumerate(("style.safetensors", "motion.safetensors")):
        save_file({key: (number + 1) * factor for key, factor in factors.items()}, folder / name)
    (folder / "mine.yaml").write_text("shots:\n- a fox at sea\n- a cat at sea\n- a fox at sea\n")
    from PIL import Image

    Image.new("RGB", (32, 16), (90, 120, 200)).save(folder / "cat.png")
    return folder


def test_the_guide_shows_commands():
    assert len(commands()) >= 12
    assert shlex.split(commands()[0])[:2] == ["bdiff", "sample"]
    assert "self_forcing_dmd.pt" in commands()[0]


@pytest.mark.parametrize("line", commands(), ids=range(len(commands())))
def test_every_command_of_the_guide_runs(line, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    words = shlex.split(line)[1:]
    small = list(SMALL.get(words[0], []))
    if words[0] == "sample":
        small += ["--out", str(tmp_path / "run")]
    if words[0] == "convert":
        words[2] = str(tmp_path / words[2])
        small += ["--dtype", "float32"] if "--whole" in words else []
    with pytest.raises(SystemExit) as stopped:
        main([*words, *small])
    assert stopped.value.code == 0, capsys.readouterr().err
