"""Reading files of weights as plain tensors. No code in a file is run."""

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

_NO_WEIGHTS = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    LookupError,
    ValueError,
    EOFError,
    struct.error,
    AssertionError,
    AttributeError,
    TypeError,
    OverflowError,
)
"""Errors of reading a damaged file or one of another kind. torch interprets any bytes, so there are many."""

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to; `git lfs pull` fetches that"),
    (b"GGUF", "a GGUF file, whose quantised weights are not read here"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"BZh", "compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


def read_weights(path: Path, *, expected: str) -> dict[str, Tensor]:
    """Read the tensors of a file by name, on the CPU.

    Args:
        path: a safetensors file, or one that ``torch.save`` wrote. The content decides, not the name.
        expected: what the file should be. Messages say it.

    Raises:
        ValueError: if the file is damaged, holds something other than named tensors, or holds NaN or infinity.
    """
    check_kind(path, expected=expected)
    try:
        state = _read(path)
    except _NO_WEIGHTS as error:  # the message of torch does not help: it advises to run the code in the file
        raise ValueError(f"{path}: damaged, or not plain weights; expected {expected}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds something other than named tensors; expected {expected}")
    found = {str(name): value for name, value in state.items()}
    check_finite(found, path)
    return found


def check_kind(path: Path, *, expected: str) -> None:
    """Raise ValueError if the first bytes of a file show that it is not a file of weights.

    Args:
        path: the file.
        expected: what the file should be. The message says it.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    words = next((words for beginning, words in _BEGINNINGS if head.startswith(beginning)), None)
    if not head:
        words = "an empty file; download it again"
    elif head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        words = "a web page, not the file itself; download it again"
    elif head[257:262] == b"ustar":
        words = "a tar archive; unpack it first"
    elif words is None and head[:1] in (b"{", b"[") and head.isascii():
        words = "a JSON file, not weights"
    elif not any(head):
        words = "a file of zeros, perhaps an unfinished download"
    if words is not None:
        raise ValueError(f"{path}: damaged, or not plain weights; expected {expected}. It is {words}")


@torch.no_grad()
def check_finite(state: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise ValueError if a tensor holds NaN or infinity.

    Args:
        state: tensors by name.
        source: where they come from. The message says it, and names the tensor.
    """
    for name, value in state.items():
        whole = value if value.dtype.itemsize > 1 else value.float()
        if not value.is_floating_point() or value.numel() == 0:
            continue
        if not all(bool(extreme.isfinite()) for extreme in torch.aminmax(whole)):
            raise ValueError(f"{source}: holds numbers that are not finite, first in {name}; the file is damaged")


def check_fits(state: dict[str, Tensor], wanted: dict[str, Tensor], *, path: Path, expected: str) -> None:
    """Raise ValueError if the tensors of a file differ from those of a network in name or shape.

    Args:
        state: tensors of the file by name.
        wanted: tensors of the network by name.
        path: the file.
        expected: what the file should be. The message says it, and names a tensor.
    """
    wrong = sorted(wanted.keys() ^ state.keys())
    wrong += [name for name, value in wanted.items() if name in state and state[name].shape != value.shape]
    if wrong:
        raise ValueError(f"{path}: the weights do not fit the network, {wrong[0]} for one; expected {expected}")


def _read(path: Path) -> object:
    """The content of the file, whatever its name is."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about pickles that it then refuses
        if file.read(9)[8:] == b"{":  # safetensors: 8 bytes for the length of the header, then JSON
            file.seek(0)
            return load_safetensors(file.read())
        file.seek(0)
        return torch.load(file, "cpu", weights_only=True)
