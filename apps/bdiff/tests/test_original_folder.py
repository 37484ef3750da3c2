"""Wan's own folder, written small, samples; and so does what `bdiff convert --whole` makes of it."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from bdiff.cli.main import main
from bdiff.run import RunState
from bdiff_core import load_transformer, save_transformer
from bdiff_core.checkpoint.names import split

diffusers = pytest.importorskip("diffusers", reason="the autoencoder is that of diffusers")
pytest.importorskip("transformers", reason="the text encoder is that of transformers")

SMALL = ["--height", "16", "--width", "32", "--seed", "3"]


def loaded(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def makers():
    return loaded(Path(__file__).with_name("test_pipelines.py"))


@pytest.fixture(scope="module")
def original(makers, tmp_path_factory):
    """Wan's own folder: config.json, safetensors in Wan's names, two .pth files and the tokenizer."""
    folder, made = tmp_path_factory.mktemp("own") / "Wan2.1-T2V", makers.parts("WanTransformer3DModel")
    plain = loaded(Path(__file__).parents[3] / "packages" / "bdiff-core" / "tests" / "original_wan.py")
    words, count = makers.tokenizer()
    plain.save_original(folder, words, count)
    made["transformer"].save_pretrained(folder.parent / "transformer")
    save_transformer(load_transformer(folder.parent / "transformer"), folder, format="wan")
    (folder / "sampling.json").write_text(json.dumps({"latent_frames": 3, "steps": 3}))
    return folder


@pytest.fixture(scope="module")
def checkpoint(original, tmp_path_factory):
    """A chunk-causal checkpoint beside it, with heads that need a config."""
    model = load_transformer(original)
    folder = tmp_path_factory.mktemp("published")
    torch.save({"generator_ema": {f"model.{n}": 1.2 * w for n, w in split(model, "wan")}}, folder / "self_forcing.pt")
    (folder / "config.json").write_text(
        json.dumps({"_class_name": "CausalWanModel", "num_heads": model.config.num_heads})
    )
    return folder / "self_forcing.pt"


def run(capsys, *arguments, code=0):
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    said = capsys.readouterr()
    assert stopped.value.code == code, said.err
    return said.err


def sampled(capsys, model, out, *options):
    run(capsys, "sample", "--model", model, "--out", out, "--prompt", "a fox at sea", *SMALL, *options)
    return RunState(out).chunk(0).latents, json.loads((out / "run.json").read_text())


def test_the_folder_samples_as_its_converted_form_does(original, tmp_path, capsys):
    found, record = sampled(capsys, original, tmp_path / "one")
    said = run(capsys, "convert", original, tmp_path / "model", "--whole", "--dtype", "float32")
    assert "holds a model that samples" in said
    again, other = sampled(capsys, tmp_path / "model", tmp_path / "two")
    assert torch.equal(found, again)
    assert record["sampling"] == other["sampling"]
    assert record["sampling"]["shift"] == 5.0
    assert (tmp_path / "one" / "video.mp4").read_bytes() == (tmp_path / "two" / "video.mp4").read_bytes()


def test_diffusers_reads_the_converted_folder(original, tmp_path, capsys):
    run(capsys, "convert", original, tmp_path / "model", "--whole", "--dtype", "float32")
    # without accelerate diffusers does not load transformers of Wan; the tests of formats load that of this kind
    pipeline = diffusers.WanPipeline.from_pretrained(str(tmp_path / "model"), transformer=None)
    assert pipeline.scheduler.config.flow_shift == 5.0
    assert pipeline.vae.config.z_dim == 4


def test_a_published_checkpoint_beside_the_folder_and_the_whole_of_both(original, checkpoint, tmp_path, capsys):
    given = ["--transformer", checkpoint, "--preset", "self-forcing"]
    found, _ = sampled(capsys, original, tmp_path / "one", *given)
    run(capsys, "convert", original, tmp_path / "model", "--whole", "--dtype", "float32", *given)
    again, record = sampled(capsys, tmp_path / "model", tmp_path / "two")
    assert torch.equal(found, again)
    assert record["sampling"]["timesteps"] == [1000, 750, 500, 250]


def test_parts_of_the_folder_take_the_place_of_a_pipelines(original, makers, tmp_path, capsys):
    pipeline = makers.saved(diffusers.WanPipeline(**makers.parts("WanTransformer3DModel")), tmp_path / "pipeline")
    (pipeline / "sampling.json").write_text(json.dumps({"latent_frames": 3, "steps": 3, "shift": 5.0}))
    parts = ["--vae", original / "Wan2.1_VAE.pth", "--text-encoder", original, "--transformer", original]
    found, _ = sampled(capsys, original, tmp_path / "one")
    again, _ = sampled(capsys, pipeline, tmp_path / "two", *parts)
    assert torch.equal(found, again)
    own, _ = sampled(capsys, pipeline, tmp_path / "three")
    assert not torch.allclose(found, own)


def test_a_plan_counts_its_parts(original, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--model", str(original), "--prompt", "a fox", "--json", *SMALL])
    plan = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert plan["trained_frames"] == 21


@pytest.mark.parametrize("option", ["--vae", "--text-encoder"])
def test_a_part_that_is_not_there_is_named_at_once(option, original, tmp_path, capsys):
    arguments = ["sample", "--model", original, "--prompt", "a fox", "--out", tmp_path / "run", option, "nowhere.pth"]
    said = run(capsys, *arguments, code=2)
    assert f"{option} is 'nowhere.pth', which is not there; expected a folder or a file, or a repository" in said
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_named(original, tmp_path, capsys):
    folder = tmp_path / "part"
    folder.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "Wan2.1_VAE.pth"):
        (folder / name).symlink_to(original / name)
    said = run(capsys, "sample", "--model", folder, "--prompt", "a fox", "--out", tmp_path / "run", *SMALL, code=2)
    assert "has no models_t5_umt5-xxl-enc-bf16.pth; expected it there, or give --text-encoder" in said
    assert not (tmp_path / "run").exists()
    said = run(capsys, "convert", folder, tmp_path / "model", "--whole", code=2)
    assert "--text-encoder" in said
    assert [file.name for file in tmp_path.iterdir()] == ["part"]
    said = run(capsys, "convert", original, tmp_path / "model", "--preset", "self-forcing", code=2)
    assert "--preset is of --whole, which writes all parts of a model; leave it out" in said
    said = run(capsys, "convert", original, tmp_path / "model", "--whole", "--format", "wan", code=2)
    assert "--format is of a transformer alone, not of --whole; leave it out" in said
