"""Tensors in files: their names, dtypes and shapes without reading them, and reading one into memory that is there.

Safetensors files are read, not mapped: the pages of a mapped file stay resident until all of it is let go, so a large
checkpoint would be in memory twice while it loads.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Names of dtypes in the header of a safetensors file.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip

_ENTRIES = ("generator_ema", "generator", "model", "state_dict")


@runtime_checkable
class StoredTensor(Protocol):
    """A tensor in a file."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype it is stored in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape it is stored in."""

    def read(self) -> Tensor:
        """The tensor, in main memory."""

    def read_into(self, out: Tensor) -> None:
        """Copy it into a contiguous tensor of as many numbers, of any shape, dtype and device."""


@dataclass(frozen=True, slots=True)
class _InSafetensors:
    file: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        out = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(out)
        return out

    def read_into(self, out: Tensor) -> None:
        if out.dtype != self.dtype or out.device.type != "cpu":
            out.copy_(self.read().view(out.shape))
            return
        room = memoryview(out.detach().view(-1).view(torch.uint8).numpy())
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.offset)
            while len(room):
                count = file.readinto(room)  # the system hands out 2 GiB at most
                if not count:
                    raise ValueError(f"{self.file} is damaged: it ends too early")
                room = room[count:]


@dataclass(frozen=True, slots=True)
class _InMemory:
    """A tensor of a pickle, whose storage is mapped."""

    tensor: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def read(self) -> Tensor:
        return self.tensor.clone()

    def read_into(self, out: Tensor) -> None:
        out.copy_(self.tensor.reshape(out.shape))


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorFile:
    """What one file holds."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]
    """Of safetensors: the strings of the header. Of pickles: what else the file holds, loose tensors aside."""
    entry: str | None = None
    """Of pickles: under which name the file keeps the tensors; None: under none."""


def read_header(file: Path) -> TensorFile:
    """The tensors of a safetensors file.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        with safe_open(file, framework="pt"):  # checks lengths, dtypes and that the tensors fill the file
            pass
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    metadata = header.pop("__metadata__", {})
    unknown = sorted({entry["dtype"] for entry in header.values()} - set(_DTYPES))
    if unknown:
        raise ValueError(f"{file} holds tensors of {unknown}; expected some of {sorted(_DTYPES)}")
    start = 8 + length
    tensors = {
        name: _InSafetensors(file, start + entry["data_offsets"][0], _DTYPES[entry["dtype"]], tuple(entry["shape"]))
        for name, entry in header.items()
    }
    return TensorFile(tensors=tensors, metadata=metadata)


def read_pickle(file: Path, *, entry: str | None = None) -> TensorFile:
    """The tensors of what `torch.save` wrote, mapped and without running code from the file.

    Args:
        file: The file.
        entry: Name under which it keeps the tensors; None: the first there is of `generator_ema`, `generator`, `model`
            and `state_dict`, or else the file is the tensors itself.

    Raises:
        ValueError: If the file is damaged, holds more than plain data, or has no such entry.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds more than tensors and plain data, which is not read: {_first(error)}"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{file} is damaged or older than torch's zip format: {_first(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; expected a dictionary of tensors")
    if entry is None:
        entry = next((name for name in _ENTRIES if isinstance(content.get(name), Mapping)), None)
    elif not isinstance(content.get(entry), Mapping):
        groups = sorted(str(name) for name, value in content.items() if isinstance(value, Mapping))
        raise ValueError(f"{file} has no {entry!r}; it has {groups}")
    given = content if entry is None else content[entry]
    tensors = {str(name): _InMemory(value.detach()) for name, value in given.items() if isinstance(value, Tensor)}
    rest = {str(name): value for name, value in content.items() if name != entry and not isinstance(value, Tensor)}
    return TensorFile(tensors=tensors, metadata=rest, entry=entry)


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
