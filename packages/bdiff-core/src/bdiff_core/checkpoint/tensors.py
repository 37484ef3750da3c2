"""Tensors in files: names, dtypes and shapes without reading the numbers, and reading them into existing memory.

Safetensors files are read, not mapped: the pages of a mapped file stay in memory until the whole file is closed, so a
large checkpoint would be in memory twice while it loads.
"""

import json
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bdiff_core.files.kinds import weight_kind

# Names of dtypes in the header of a safetensors file.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip

_ENTRIES = ("generator_ema", "generator", "model", "state_dict")

# Errors of reading a damaged pickle: any bytes may be taken for instructions.
_DAMAGED_PICKLE = (
    RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError, OverflowError,
    struct.error,
)  # fmt: skip
_WANTED = re.compile(r"(?:GLOBAL |Unsupported class |function )`?([\w.]+)")  # in messages of torch about pickles

_ENGINE_STATE = "_io.BytesIO"  # in which versions of Transformer Engine keep the state of a module


@runtime_checkable
class StoredTensor(Protocol):
    """A tensor in a file."""

    @property
    def file(self) -> Path:
        """The file."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype it is stored in."""

    @property
    def read_dtype(self) -> torch.dtype:
        """Dtype that it gets in memory by default."""

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

    @property
    def read_dtype(self) -> torch.dtype:
        return self.dtype

    def read(self) -> Tensor:
        out = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(out)
        return out

    def read_into(self, out: Tensor) -> None:
        if out.dtype != self.dtype or out.device.type != "cpu":
            out.copy_(self.read().view(out.shape))
            return
        buffer = out.detach().view(-1).view(torch.uint8).numpy().data
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.offset)
            while len(buffer):
                count = file.readinto(buffer)  # the system reads at most 2 GiB at a time
                if not count:
                    raise ValueError(f"{self.file} is damaged: it ends too early")
                buffer = buffer[count:]


@dataclass(frozen=True, slots=True)
class _InMemory:
    """A tensor of a pickle; its storage is mapped."""

    file: Path
    tensor: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def read_dtype(self) -> torch.dtype:
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
    """The tensors of one file."""

    path: Path
    """The file."""
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]
    """The strings of a safetensors header; everything but loose tensors of a pickle."""
    entry: str | None = None
    """The name under which a pickle keeps the tensors; None: they have none."""
    groups: tuple[str, ...] = ()
    """The names under which a pickle keeps tensors."""
    pickled: bool = False
    """Whether `torch.save` wrote it."""

    def told(self, names: Iterable[str]) -> str:
        """What the file holds, for an error about something that was not found.

        Args:
            names: Of its tensors, and of those of other files that belong to it.
        """
        where = f"its entry {self.entry} holds " if self.entry else "its tensors are "
        listed = ", ".join(sorted(names)[:3])
        told = where + (f"{listed} ..." if listed else "none")
        others = ", ".join(name for name in self.groups if name != self.entry)
        if not others:
            return told
        which = "other entries" if self.entry else "entries"
        return f"{told}; its {which} are {others}: choose one with --entry of bdiff convert (`entry` in Python)"


def read_tensors(file: Path, *, entry: str | None = None) -> TensorFile:
    """The tensors of a file of either kind; its content shows the kind.

    Args:
        file: The file.
        entry: Of a pickle, the name under which it keeps the tensors; see `read_pickle`.

    Raises:
        ValueError: If it holds no weights, is damaged, or has no such entry; the message says what it is.
        OSError: If it cannot be read.
    """
    kind = weight_kind(file)
    if kind != "safetensors":
        return read_pickle(file, entry=entry, mapped=kind == "zip")
    if entry is not None:
        raise ValueError(f"entry {entry!r} is for .pt files; {file} is none")
    return read_header(file)


def read_header(file: Path) -> TensorFile:
    """The tensors of a safetensors file.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        with safe_open(file, framework="pt"):  # checks lengths, dtypes, and that the tensors fill the file
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
    return TensorFile(path=file, tensors=tensors, metadata=metadata)


def read_pickle(file: Path, *, entry: str | None = None, mapped: bool = True) -> TensorFile:
    """The tensors of a file of `torch.save`, without running code from the file.

    Args:
        file: The file.
        entry: Name under which it keeps the tensors; None: the first there is of `generator_ema`, `generator`, `model`
            and `state_dict`, or else the file is the tensors itself.
        mapped: Whether to map the file; files from before torch 1.6 have to be read.

    Raises:
        ValueError: If the file is damaged, holds more than plain data, or has no such entry.
    """
    content = _unpickled(file, mapped=mapped)
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; expected a dictionary of tensors")
    groups = tuple(sorted(str(name) for name, value in content.items() if isinstance(value, Mapping)))
    if entry is None:
        entry = next((name for name in _ENTRIES if isinstance(content.get(name), Mapping)), None)
    elif not isinstance(content.get(entry), Mapping):
        raise ValueError(f"{file} has no {entry!r}; it has {list(groups)}")
    given = content if entry is None else content[entry]
    tensors = {str(name): _InMemory(file, value.detach()) for name, value in given.items() if _is_plain(value)}
    rest = {str(name): value for name, value in content.items() if name != entry and not isinstance(value, Tensor)}
    return TensorFile(path=file, tensors=tensors, metadata=rest, entry=entry, groups=groups, pickled=True)


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _unpickled(file: Path, *, mapped: bool) -> Any:
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        with warnings.catch_warnings(), file.open("rb") as opened:
            warnings.simplefilter("ignore")  # torch warns about pickles that it then refuses
            if mapped and file.suffix != ".safetensors":  # torch would believe the name
                return torch.load(file, mmap=True, **options)
            return torch.load(opened, **options)
    except pickle.UnpicklingError as error:  # torch's own message advises to run the code in the file
        wanted = _WANTED.search(str(error))
        if wanted is not None and wanted[1] == _ENGINE_STATE:
            raise ValueError(
                f"{file} holds the modules of Transformer Engine, or others that keep files ({_ENGINE_STATE}), which "
                "are not read here; take the file of the same model in bfloat16, such as model_bf16.pt of LongLive 2.0"
            ) from error
        raise ValueError(
            f"{file} holds more than tensors and plain data{f': it wants {wanted[1]}' if wanted else ''}; files that "
            "run code are not read. Where it was made, save its tensors alone, best as safetensors"
        ) from error
    except _DAMAGED_PICKLE as error:
        raise ValueError(f"{file} is damaged, or no weights that torch saved; download or copy it again") from error


def read_parts(sources: Sequence[StoredTensor], out: Tensor) -> None:
    """Read the parts of a parameter, each into its place."""
    for source, part in zip(sources, out.chunk(len(sources)), strict=True):
        source.read_into(part)


def common_dtype(sources: Sequence[StoredTensor]) -> torch.dtype:
    """The dtype in which the parts of one parameter are read by default."""
    dtypes = {source.read_dtype for source in sources}
    if len(dtypes) > 1:  # torch does not promote floats of 8 bits
        dtypes = {torch.bfloat16 if dtype.itemsize == 1 else dtype for dtype in dtypes}
    common = dtypes.pop()
    for dtype in dtypes:
        common = torch.promote_types(common, dtype)
    return common
