"""Whatever stands in place of weights is called by its name, in one line."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from bdiff_core.checkpoint.tensors import read_tensors
from bdiff_core.files import weight_kind, what_is


def bytes_of(write):
    room = io.BytesIO()
    write(room)
    return room.getvalue()


def zipped(files):
    def write(room):
        with zipfile.ZipFile(room, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return bytes_of(write)


def tarred(room):
    with tarfile.open(fileobj=room, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights"), io.BytesIO())


WEIGHTS = {"a": torch.ones(300, 2), "b": torch.zeros(3)}
SAFETENSORS = save(WEIGHTS)
TORCH = bytes_of(lambda room: torch.save(WEIGHTS, room))
LEGACY = bytes_of(lambda room: torch.save(WEIGHTS, room, _use_new_zipfile_serialization=False))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5676048528\n"
INDEX = json.dumps({"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}, indent=2).encode()
SCRIPT = {"model/data.pkl": "", "model/constants.pkl": "", "model/code/__torch__.py": "def forward(self): pass"}

FOREIGN = {
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(64), "is a GGUF file"),
    "git-lfs": (POINTER, "is a Git LFS pointer"),
    "html": (b"<!DOCTYPE html>\n<html lang='en'><body>Sign in</body></html>", "is a web page"),
    "html-later": (b"\n\n  <html>Sign in</html>", "is a web page"),
    "html-with-mark": (b"\xef\xbb\xbf<HTML>Sign in</HTML>", "is a web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
    "empty": (b"", "is damaged: it is empty"),
    "zeros": (bytes(9999), "is damaged: it begins with 4,096 bytes of zeros"),
    "few-bytes": (b"\xd8\x0c\x00\x00", "is damaged: it has only 4 bytes"),
    "half": (SAFETENSORS[:-100], "is damaged: it ends after"),
    "half-header": (SAFETENSORS[:40], "within its header"),
    "longer": (SAFETENSORS + b"more", "is damaged: it has 4 bytes more"),
    "half-torch": (TORCH[:-100], "begins as a zip archive, as torch writes them, and ends too early"),
    "half-legacy": (LEGACY[:-100], "is damaged"),
    "noise": (b"\xff" * 300, "begins with the bytes ff ff"),
    "zip": (zipped({"readme": "words"}), "is a zip archive of 1 files"),
    "empty-zip": (zipped({}), "is an empty zip archive"),
    "keras": (zipped({"config.json": "{}", "model.weights.h5": "x"}), "is a Keras archive"),
    "torchscript": (zipped(SCRIPT), "is a TorchScript program"),
    "npz": (bytes_of(lambda room: np.savez(room, a=np.ones(3))), "is a NumPy archive"),
    "npy": (bytes_of(lambda room: np.save(room, np.ones(3))), "is a NumPy array"),
    "gzip": (gzip.compress(SAFETENSORS), "is compressed by gzip"),
    "bzip2": (bz2.compress(SAFETENSORS), "is compressed by bzip2"),
    "xz": (lzma.compress(SAFETENSORS), "is compressed by xz"),
    "tar": (bytes_of(tarred), "is a tar archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\x80\x01" + bytes(64), "is an ONNX or TensorFlow graph"),
    "msgpack": (b"\x82\xa6params\x81\xa5dense\xc7" + bytes(64), "is a msgpack file"),
    "long-msgpack": (b"\xde\x00\x20\xa6params\x81\xa5dense\xc7" + bytes(64), "is a msgpack file"),
    "index": (INDEX, "is an index that names files of weights"),
    "json": (b'{"error": "Repository not found"}', "is a JSON file"),
    "text": (b"Entry not found", "is a text file, not weights; it begins 'Entry not found'"),
    "utf-16": ("Nicht gefunden".encode("utf-16"), "is a text file"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), "is a picture"),
    "video": (b"\x00\x00\x00 ftypisom" + bytes(64), "is a video"),
    "program": (pickle.dumps({"a": os.system}, protocol=2), "it wants posix.system; files that run code are not read"),
    "module": (
        bytes_of(lambda room: torch.save(torch.nn.Linear(2, 2), room)),
        "it wants torch.nn.modules.linear.Linear",
    ),
    "new-program": (pickle.dumps({"a": os.system}, protocol=5), "holds more than tensors and plain data; files that"),
    "plain-pickle": (pickle.dumps([1, 2], protocol=2), "damaged, or no weights that torch saved"),
    "list": (bytes_of(lambda room: torch.save([torch.ones(2)], room)), "holds a list; expected a dictionary"),
}


@pytest.mark.parametrize("ending", ["safetensors", "pt", "bin"])
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.usefixtures("plain_errors")
def test_what_stands_in_place_of_weights_is_named(tmp_path, kind, ending):
    content, words = FOREIGN[kind]
    file = tmp_path / f"model.{ending}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"^\S*model\.\w+ [^\n]+$") as caught:
        read_tensors(file)
    assert words in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("ending", ["safetensors", "pt", "bin", "ckpt", "weights"])
@pytest.mark.parametrize(("content", "pickled"), [(SAFETENSORS, False), (TORCH, True), (LEGACY, True)])
def test_weights_are_read_whatever_their_name(tmp_path, ending, content, pickled):
    file = tmp_path / f"model.{ending}"
    file.write_bytes(content)
    assert what_is(file) is None
    found = read_tensors(file)
    assert found.pickled == pickled
    assert found.tensors.keys() == WEIGHTS.keys()
    assert all(torch.equal(found.tensors[name].read(), tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("name", ["model.safetensors.part", "model.safetensors.incomplete", "x.crdownload"])
def test_the_name_of_a_download_not_finished_is_said(tmp_path, name):
    (tmp_path / name).write_bytes(SAFETENSORS[:-9])
    with pytest.raises(ValueError, match="its name is that of a download not finished"):
        weight_kind(tmp_path / name)


@given(
    content=st.binary(max_size=600),
    start=st.sampled_from((b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"GGUF", b"{")),
)
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, content, start):
    file = tmp_path_factory.mktemp("any") / "model.safetensors"
    file.write_bytes(start + content)
    message = ""
    try:
        read_tensors(file)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


@given(cut=st.integers(0, len(SAFETENSORS) - 1))
@settings(deadline=None, max_examples=60)
def test_every_cut_of_a_file_is_called_damage(tmp_path_factory, cut):
    file = tmp_path_factory.mktemp("cut") / "model.safetensors"
    file.write_bytes(SAFETENSORS[:cut])
    with pytest.raises(ValueError, match="is damaged"):
        weight_kind(file)


@pytest.mark.parametrize("length", [0x280, 0x480, 0x580, 0x8B1F])
def test_a_length_that_looks_like_another_kind_is_a_length(tmp_path, length):
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header.ljust(length) + b"\x07")
    assert weight_kind(tmp_path / "x") == "safetensors"
    assert read_tensors(tmp_path / "x").tensors["a"].read().tolist() == [7]
