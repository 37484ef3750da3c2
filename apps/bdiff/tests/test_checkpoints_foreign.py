"""Files that stand in place of weights end every command in one line, with nothing left behind."""

import gzip
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bdiff_core import load_transformer, save_transformer


def written(write):
    room = io.BytesIO()
    write(room)
    return room.getvalue()


def zipped(room):
    with zipfile.ZipFile(room, "w") as archive:
        archive.writestr("model.safetensors", "weights")


def tarred(room):
    with tarfile.open(fileobj=room, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.safetensors"), io.BytesIO())


def saved(content, **options):
    return written(lambda room: torch.save(content, room, **options))


FOREIGN = {
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(99), "is a GGUF file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 5\n", "is a Git LFS pointer"),
    "page": (b"<!DOCTYPE html><html><title>Sign in</title></html>", "is a web page (HTML)"),
    "empty": (b"", "is damaged: it is empty"),
    "zeros": (bytes(5000), "zeros, as a download leaves that was not finished"),
    "zip": (written(zipped), "is a zip archive"),
    "gzip": (gzip.compress(b"weights"), "is compressed by gzip"),
    "tar": (written(tarred), "is a tar archive"),
    "npz": (written(lambda room: np.savez(room, a=np.ones(2))), "is a NumPy archive (.npz)"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x032.1" + bytes(99), "is an ONNX or TensorFlow graph"),
    "msgpack": (b"\x81\xa6params\x81\xa5dense\xc7" + bytes(99), "is a msgpack file"),
    "json": (b'{"_class_name": "WanModel"}', "is a JSON file"),
    "text": (b"Invalid username or password.", "is a text file, not weights; it begins 'Invalid username"),
    "half": (saved({"a": torch.ones(999)})[:-500], "ends too early"),
    "legacy": (saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False), "holds no transformer of the Wan"),
    "module": (saved(torch.nn.Linear(2, 2)), "it wants torch.nn.modules.linear.Linear; files that run code are not"),
    "program": (pickle.dumps(os.system, protocol=2), "it wants posix.system; files that run code are not read"),
    "list": (saved([torch.ones(2)]), "holds a list; expected a dictionary of tensors"),
    "critic": (
        saved({"critic": {"a": torch.ones(2)}, "optimizer": {}}),
        "holds no transformer of the Wan family: its tensors are none; its entries are critic, optimizer: choose one "
        "with --entry",
    ),
}
ENDINGS = ("safetensors", "bin", "pt", "gguf")


def one_line(result, *words):
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), err
    for word in words:
        assert word in err
    for word in ("weights_only", "Traceback", "load_transformer", "open_checkpoint", "read_tensors", "torch.load"):
        assert word not in err


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("ending", ENDINGS)
def test_inspect_and_convert_say_what_a_file_is(run, tmp_path, kind, ending):
    content, words = FOREIGN[kind]
    file = tmp_path / f"weights.{ending}"
    file.write_bytes(content)
    one_line(run("inspect", file.name), file.name, words)
    one_line(run("convert", file.name, "out"), file.name, words)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("part", ["transformer/model.safetensors", "vae.safetensors"])
def test_sample_says_what_stands_in_place_of_a_part(run, tiny_model, tmp_path, kind, part):
    content, words = FOREIGN[kind]
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / part).write_bytes(content)
    if part == "vae.safetensors":
        words = words if content[:1] not in (b"P", b"\x80") or kind in ("zip", "npz", "half") else "vae.safetensors"
    else:
        words = "holds no transformer of the Wan family" if kind == "legacy" else words
    result = run("sample", "--model", "model", "--prompt", "the fox waits", "--seconds", "1", "--out", "r")
    one_line(result, "model/", words)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("kind", ["gguf", "pointer", "page", "module", "critic"])
def test_a_model_is_a_folder(run, tmp_path, kind):
    (tmp_path / "model.safetensors").write_bytes(FOREIGN[kind][0])
    result = run("sample", "--model", "model.safetensors", "--prompt", "x", "--seconds", "1", "--out", "r")
    one_line(result, "model.safetensors is a file", "expected the folder of a model")


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_lora_is_told_apart_too(run, tiny_model, tmp_path, kind):
    content, words = FOREIGN[kind]
    (tmp_path / "lora.safetensors").write_bytes(content)
    words = "holds no LoRA" if kind in ("legacy", "critic") else words
    one_line(run("convert", tiny_model, "out", "--lora", "lora.safetensors"), "lora.safetensors", words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("inspect",), ("convert", None, "out")])
def test_what_cannot_be_read_at_all_is_one_line(run, tiny_model, tmp_path, command, monkeypatch):
    (tmp_path / "link.safetensors").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    shutil.copytree(tiny_model / "transformer", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / "model.safetensors").symlink_to("../blobs/4d7a")
    for name, words in {
        "link.safetensors": "link.safetensors is a link to nowhere, which is not there",
        "pipe.safetensors": "pipe.safetensors is neither a file nor a folder",
        "folder.safetensors": "folder.safetensors holds no transformer",
        "model": "is a link to ../blobs/4d7a, which is not there",
        "": "is empty",
    }.items():
        one_line(run(*(command[:1]), name, *command[2:]), words)
    (tmp_path / "locked.safetensors").write_bytes(b"x")
    opened = type(tmp_path).open

    def refuse(self, *arguments, **options):  # the tests may run as one who may read everything
        if self.name == "locked.safetensors":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    code, out, err = run(*(command[:1]), "locked.safetensors", *command[2:])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "locked.safetensors" in err
    assert "ermission denied" in err


def test_a_folder_with_an_unfinished_download_says_so(run, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors.part").write_bytes(bytes(100))
    one_line(run("inspect", "model"), "its name is that of a download not finished")


def test_an_index_that_names_what_is_absent_is_one_line(run, tiny_model, tmp_path):
    save_transformer(load_transformer(tiny_model / "transformer"), tmp_path / "m", max_file_bytes=60_000)
    shards = sorted((tmp_path / "m").glob("*.safetensors"))
    assert len(shards) > 1
    one_line(run("inspect", "m/model.safetensors.index.json"), "is an index that names files of weights")
    shards[1].unlink()
    one_line(run("inspect", "m"), f"{shards[1].name} is missing")
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    one_line(run("inspect", "m"), "names '../../etc/passwd', which is not in its folder")


def test_a_pickle_named_bin_is_read(run, tiny_model, tmp_path):
    save_transformer(load_transformer(tiny_model / "transformer"), tmp_path / "model.pt", format="pt")
    (tmp_path / "model.pt").rename(tmp_path / "model.bin")
    facts = json.loads(run("inspect", "model.bin", "--json")[1])
    assert (facts["format"], facts["entry"]) == ("pt", "generator")
    assert run("convert", "model.bin", "out")[0] == 0


def test_an_entry_of_another_name_is_chosen(run, tiny_model, tmp_path):
    save_transformer(load_transformer(tiny_model / "transformer"), tmp_path / "model.pt", format="pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({"critic": content["generator"], "config": content["config"]}, tmp_path / "critic.pt")
    one_line(run("inspect", "critic.pt"), "its entries are config, critic: choose one with --entry")
    one_line(run("inspect", "critic.pt", "--entry", "generator"), "has no 'generator'; it has ['config', 'critic']")
    assert run("inspect", "critic.pt", "--entry", "critic")[0] == 0


@pytest.mark.parametrize("part", ["transformer/model.safetensors", "vae.safetensors"])
def test_weights_that_are_not_finite_stop_before_anything_is_made(run, tiny_model, tmp_path, part):
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / part
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    name = sorted(name for name in tensors if name.endswith("weight"))[-1]
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, file, metadata=metadata)
    words = f"holds numbers that are not finite, first in {name}; the file is damaged or was trained to divergence"
    result = run("sample", "--model", "model", "--prompt", "the fox waits", "--seconds", "1", "--out", "r")
    one_line(result, f"{part} {words}")
    assert not (tmp_path / "r").exists()
    if part.startswith("transformer"):
        one_line(run("convert", "model", "out", "--dtype", "float16"), words)
        assert not (tmp_path / "out").exists()


STRENGTHS = dict.fromkeys(("nan", "inf", "-Infinity", "", "1_0", "0,5", "٣", "0x1"), "is no number") | {
    "1e400": "the strength inf", "1e9": "at most 100", "-101": "at most 100",
    "0": "other than 0", "-0.0": "other than 0",
}  # fmt: skip


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_strength_that_makes_no_sense_is_one_line(run, tiny_model, tmp_path, strength):
    save_file({"blocks.0.norm2.diff": torch.ones(32)}, tmp_path / "a.safetensors")
    result = run("convert", tiny_model, "out", "--lora", f"a.safetensors@{strength}")
    one_line(result, "a.safetensors", STRENGTHS[strength])
    assert not (tmp_path / "out").exists()


def test_the_same_lora_twice_is_one_line(run, tiny_model, tmp_path):
    save_file({"blocks.0.norm2.diff": torch.ones(32)}, tmp_path / "a")
    shutil.copy(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    for first, second in (("a@1", "a@0.5"), ("a", "a"), ("a", "./a@2"), ("a", tmp_path / "a"), ("a", "b"), ("c", "a")):
        one_line(run("convert", tiny_model, "out", "--lora", first, "--lora", second), "twice")
    one_line(run("convert", tiny_model, "out", "--lora", ""), "expected PATH or PATH@STRENGTH")
    one_line(run("convert", tiny_model, "out", "--lora", "@0.5"), "expected PATH or PATH@STRENGTH")
    assert not (tmp_path / "out").exists()


def test_a_name_with_an_at_is_a_name(run, tiny_model, tmp_path):
    save_file({"blocks.0.norm2.diff": torch.ones(32)}, tmp_path / "lora@0.5")
    assert run("convert", tiny_model, "out", "--lora", "lora@0.5")[0] == 0
    assert run("convert", tiny_model, "half", "--lora", "lora@0.5@.5")[0] == 0
    before, whole, half = (load_transformer(path) for path in (tiny_model / "transformer", "out", "half"))
    norm = "blocks.0.norm_cross.weight"
    torch.testing.assert_close(whole.state_dict()[norm], before.state_dict()[norm] + 1)
    torch.testing.assert_close(half.state_dict()[norm], before.state_dict()[norm] + 0.5)
