"""Files of weights are told by their content, and what stands in their place is named."""

import gzip
import io
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save

from vde_metrics.models.weight_files import check_finite, read_weights

WEIGHTS = {"a": torch.ones(3, 2), "b": torch.zeros(3)}


def saved(content, **options):
    room = io.BytesIO()
    torch.save(content, room, **options)
    return room.getvalue()


def array():
    room = io.BytesIO()
    np.savez(room, a=np.ones(2))
    return room.getvalue()


GOOD = {
    "safetensors": save(WEIGHTS),
    "zip": saved(WEIGHTS),
    "legacy": saved(WEIGHTS, _use_new_zipfile_serialization=False),
}
BAD = {
    "empty": (b"", "It is an empty file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "It is a Git LFS pointer"),
    "page": (b"\n<!DOCTYPE html><html></html>", "It is a web page"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "It is a GGUF file"),
    "gzip": (gzip.compress(b"weights"), "It is compressed by gzip"),
    "json": (b'{"error": "not found"}', "It is a JSON file"),
    "zeros": (bytes(99), "It is a file of zeros"),
    "npz": (array(), "damaged, or not plain weights"),
    "noise": (b"\xfe" * 99, "damaged, or not plain weights"),
    "half": (GOOD["safetensors"][:-9], "damaged, or not plain weights"),
    "half-zip": (GOOD["zip"][:-99], "damaged, or not plain weights"),
    "program": (pickle.dumps(os.system), "damaged, or not plain weights"),
    "module": (saved(torch.nn.Linear(2, 2)), "damaged, or not plain weights"),
    "list": (saved([torch.ones(2)]), "holds something other than named tensors"),
    "nan": (save({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}), "not finite, first in b; the file"),
    "inf": (saved({"a": torch.tensor([1.0, float("-inf")], dtype=torch.bfloat16)}), "not finite, first in a; the file"),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("ending", ["pth", "safetensors", "bin"])
def test_weights_are_read_whatever_their_name(tmp_path, kind, ending):
    (tmp_path / f"w.{ending}").write_bytes(GOOD[kind])
    found = read_weights(tmp_path / f"w.{ending}", expected="weights")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_stands_in_their_place_is_named_in_one_line(tmp_path, kind, ending):
    content, words = BAD[kind]
    (tmp_path / f"w.{ending}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^\S+w\.{ending}: [^\n]+$") as caught:
        read_weights(tmp_path / f"w.{ending}", expected="the weights of a net")
    assert words in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_number_anywhere_is_found(dtype, bad):
    good = torch.linspace(-2, 2, 50).to(dtype)
    check_finite({"a": good, "b": torch.ones(3, dtype=torch.int64), "c": torch.zeros(0)}, "x")
    for place in (0, 17, 49):
        worse = good.clone()
        worse[place] = torch.tensor(bad).to(dtype)
        with pytest.raises(ValueError, match=r"^x: holds numbers that are not finite, first in w"):
            check_finite({"a": good, "w": worse}, "x")
