"""Safetensors files with a checksum: a CRC-32 over the whole file, in its header."""

import io
import json
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_OPENING = b'{"__metadata__":{"crc32":"'
_DIGITS = 8
_FIRST_DIGIT = 8 + len(_OPENING)  # safetensors: 8 bytes of length, the header, the data
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class DamageError(ValueError):
    """A file of a bank is not what was written: bits have changed, a part is missing, or the whole file is.

    Args:
        path: The file.
        what: What is wrong with it.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} is damaged: {what}; nothing of it was used. Restore the file, or start from a snapshot"
        )
        self.path = path


def write_tensors(file: io.BufferedIOBase, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Write a safetensors file, one tensor at a time, and return its checksum.

    At most one tensor is copied at a time, and none that is contiguous in host memory.

    Args:
        file: Binary and seekable; the tensor file is written at the current position.
        tensors: Tensors by name.
        metadata: Anything that JSON can hold; stored under "kvbank".
    """
    start = file.tell()
    header = _header(tensors, metadata)
    file.write(header)
    checksum = zlib.crc32(header[_FIRST_DIGIT + _DIGITS :], zlib.crc32(header[:_FIRST_DIGIT]))
    for name in _in_order(tensors):
        data = _bytes(tensors[name])
        file.write(data)
        checksum = zlib.crc32(data, checksum)
    end = file.tell()
    file.seek(start + _FIRST_DIGIT)
    digits = f"{checksum:0{_DIGITS}x}"
    file.write(digits.encode())
    file.seek(end)
    return digits


def map_tensors(
    path: Path, *, checksum: str | None = None, check: bool = True, ahead: bool = False
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of a file; the tensors are views of the mapped file, read from disk when they are used.

    Args:
        path: Written by `write_tensors`.
        checksum: The checksum that the file must have; None accepts any that fits its content.
        check: True compares the content of the whole file with the checksum; False only the one in its header.
        ahead: Whether to ask the system to start reading the whole file at once.

    Raises:
        DamageError: If the file is missing, or is not what was written.
    """
    try:
        data = map_file(path)
    except FileNotFoundError as error:
        raise DamageError(path, "it is missing") from error
    if ahead and hasattr(mmap, "MADV_WILLNEED"):
        data.madvise(mmap.MADV_WILLNEED)
    return read_tensors(data, path, checksum=checksum, check=check)


def map_file(path: Path) -> mmap.mmap:
    """Map the bytes of a file; they are read from disk when they are used.

    Raises:
        DamageError: If it is empty.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise DamageError(path, "it is empty")
        # A private mapping: torch wants memory that could be written, and the file stays as it is.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def read_tensors(
    data: mmap.mmap | bytearray, path: Path, *, checksum: str | None = None, check: bool = True
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors from the bytes of a file, as `map_tensors`; errors name `path`."""
    claimed = claimed_checksum(data)
    if claimed is None:
        raise DamageError(path, "it does not begin as a tensor file of a bank does")
    if checksum is not None and claimed != checksum:
        raise DamageError(path, f"its checksum is {claimed!r}, and {checksum!r} was written")
    if check and (found := content_checksum(data)) != claimed:
        raise DamageError(path, f"its content has the checksum {found!r}, and {claimed!r} was written")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        start = 8 + int.from_bytes(data[:8], "little")
        metadata = json.loads(header.pop("__metadata__")["kvbank"])
        return metadata, {name: _view(data, start, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError) as error:  # possible only unchecked
        raise DamageError(path, f"its header cannot be read ({error})") from error


def claimed_checksum(data: mmap.mmap | bytearray) -> str | None:
    """The checksum in the header; None if the file was not written by `write_tensors`."""
    if data[8:_FIRST_DIGIT] != _OPENING:
        return None
    return data[_FIRST_DIGIT : _FIRST_DIGIT + _DIGITS].decode("latin-1")


def content_checksum(data: mmap.mmap | bytearray) -> str:
    """The checksum of all bytes except the digits of the checksum itself."""
    with memoryview(data) as view, view[:_FIRST_DIGIT] as head, view[_FIRST_DIGIT + _DIGITS :] as rest:
        return f"{zlib.crc32(rest, zlib.crc32(head)):0{_DIGITS}x}"


def _in_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors with wide dtypes first, so that each starts at a multiple of its element size."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"crc32": "0" * _DIGITS, "kvbank": json.dumps(metadata)}}
    end = 0
    for name in _in_order(tensors):
        tensor, start = tensors[name], end
        end += tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _view(data: mmap.mmap | bytearray, start: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    first, end = entry["data_offsets"]
    if first == end:  # no bytes to look at
        return torch.empty(shape, dtype=dtype)
    count = (end - first) // dtype.itemsize
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start + first).reshape(shape)
