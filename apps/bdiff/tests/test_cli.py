import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from bdiff import __version__
from bdiff.cli.main import main


def run(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Runs `bdiff sample`, which must refuse with one line and write nothing."""
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = run(["sample", *map(str, arguments)], capsys)
        assert code == 2
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("bdiff: ")
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return refuse


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["sample", "--help"], ["train"], ["train", "vae", "-h"], ["bench", "world", "-h"]]
)
def test_help_is_given(arguments, capsys):
    code, out, err = run(arguments, capsys)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: bdiff")


def test_the_version_is_told(capsys):
    assert run(["--version"], capsys)[1] == f"bdiff, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "'--steps': 0 is not in the range"),
        (["--scale", "-4"], "'--scale': -4 is not in the range"),
        (["--seconds", "0"], "'--seconds': 0 is not in the range 0<x"),
        (["--seconds", "-3"], "'--seconds': -3 is not in the range"),
        (["--seconds", "nan"], "'--seconds': nan is not in the range"),
        (["--seconds", "long"], "'--seconds': 'long' is not a number"),
        (["--guidance", "inf"], "'--guidance': inf is not in the range"),
        (["--seed", "-1"], "'--seed': -1 is not in the range"),
        (["--policy", "best"], "policy is 'best'; expected one of semantic, rolling"),
        (["--dtype", "int8"], "'int8' is not one of 'float32'"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--colour", "red"], "No such option '--colour'"),
        (["--prompt", ""], "prompts, shot 1: prompt is empty"),
        (["--prompt", "a", "--storyboard", "b.yaml"], "give --storyboard or --prompt, not both"),
        (["--storyboard", "none.yaml"], "none.yaml: cannot read the storyboard: no such file or directory"),
        (["--storyboard", "."], "cannot read the storyboard: is a directory"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_refused(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "story.yaml: storyboard is empty"),
        ("- a fox\n- 3\n", "story.yaml, line 2, shot 2: prompt is a number (3); expected a string"),
        ("- [a\n", "story.yaml, line 2: not valid YAML"),
        ("- a (00s - 04s)\n- b (03s - 06s)\n", "story.yaml, line 2, shot 2: starts at 3 s, while"),
    ],
)
def test_bad_storyboards_are_refused(refused, tmp_path, text, message):
    (tmp_path / "story.yaml").write_text(text)
    assert message in refused("--storyboard", "story.yaml")


def test_what_is_no_picture_is_refused(refused, tmp_path, tiny_model):
    (tmp_path / "picture.png").write_text("no picture")
    assert "picture.png: not a picture" in refused("--model", tiny_model, "--image", "picture.png")
    assert "none.png: cannot read the picture: no such file" in refused("--model", tiny_model, "--image", "none.png")
    assert "cannot read the picture: is a directory" in refused("--model", tiny_model, "--image", ".")


def test_places_that_cannot_be_written_are_refused(refused, tmp_path, tiny_model):
    (tmp_path / "file").write_text("mine")
    assert "file is a file; --out names a folder" in refused("--model", tiny_model, "--out", "file")
    assert "cannot write to file/x: not a directory" in refused("--model", tiny_model, "--out", "file/x")
    assert (tmp_path / "file").read_text() == "mine"


def test_damaged_and_foreign_weights_are_refused(refused, tmp_path, tiny_model):
    folder = tmp_path / "model"
    weights, vae = folder / "transformer" / "model.safetensors", folder / "vae.safetensors"

    def restore():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny_model, folder)

    restore()
    vae.write_bytes(vae.read_bytes()[:500])
    assert "vae.safetensors" in refused("--model", "model")
    restore()
    save_file({"x": torch.zeros(1)}, vae)
    assert "vae.safetensors holds no `CausalVAE`" in refused("--model", "model")
    restore()
    weights.write_bytes(b"\0" * 100)
    assert "model.safetensors is damaged" in refused("--model", "model")
    restore()
    save_file({"x": torch.zeros(1)}, weights)
    assert "do not fit" in refused("--model", "model")
    restore()
    (folder / "transformer" / "config.json").write_text("{")
    assert "config.json is damaged" in refused("--model", "model")


def test_parts_that_do_not_fit_each_other_are_refused(refused, tmp_path, tiny_model):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "sampling.json").write_text(json.dumps({"width": 60}))
    assert "width is 60; expected a multiple of 16" in refused("--model", "model")
    (tmp_path / "model" / "sampling.json").write_text(json.dumps({"fps": 0}))
    assert "fps is 0; expected a number above 0" in refused("--model", "model")


def test_what_systems_hide_in_a_model_folder_is_no_part_of_it(tmp_path, tiny_model, capsys):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for file in ("._vae.safetensors", "transformer/._model.safetensors", "transformer/.DS_Store", "._sampling.json"):
        (folder / file).write_bytes(b"\0\5\x16\7 of a Mac")
    (folder / "transformer" / "model.safetensors").rename(folder / "transformer" / "mine.safetensors")
    code, out, err = run(["plan", "--model", str(folder), "--prompt", "a fox"], capsys)
    assert (code, err) == (0, "")
    assert out.startswith("video ")


def test_a_bench_of_memories_wants_a_model_with_one(tmp_path, tiny_model, capsys):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "sampling.json").write_text('{"mode": "overlap"}')
    options = ["--model", str(folder), "--num-chunks", "12", "--early", "4", "--late", "7"]
    code, _, err = run(["bench", "speed", "--out", str(tmp_path / "x.json"), *options], capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "makes its videos in the overlap mode, without a memory; there is none to time" in err
