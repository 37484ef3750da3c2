"""Files of a run that check themselves, and states of decoders in a form that such a file holds."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bdiff_core.files import whole_file


class RunStateError(ValueError):
    """A run that cannot be gone on with; the message names the file and what to do."""


def save_checked(file: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """A safetensors file with a checksum, forced to disk before it gets its name."""
    text = json.dumps(note, ensure_ascii=False)
    save_whole(file, tensors, {"note": text, "crc32": _checksum(tensors, text)}, sync=True)


def save_whole(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str], *, sync: bool = False) -> None:
    """A safetensors file that appears complete or not at all; `sync` forces it to disk first.

    Raises:
        OSError: If it cannot be written, as on a full disk.
    """
    with whole_file(file) as partial:
        save_file(tensors, partial, metadata=metadata)
        if sync:
            with partial.open("rb") as written:
                os.fsync(written.fileno())


def load_checked(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of a file, if they are what was written.

    Raises:
        RunStateError: If they are not.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
        if metadata.get("crc32") != _checksum(tensors, metadata.get("note", "")):
            raise ValueError("its checksum is another")
        note: dict[str, Any] = json.loads(metadata["note"])
        return tensors, note
    except OSError as error:
        raise RunStateError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (SafetensorError, ValueError, KeyError):
        raise RunStateError(f"{file} is damaged; delete it and all later chunks to make them again") from None


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def flatten(state: Any) -> tuple[list[Tensor], Any]:
    """Tensors of a decoder's state, and its shape as JSON: what is no tensor or tuple stands for itself."""
    if isinstance(state, Tensor):
        return [state.detach().cpu().contiguous()], {"tensor": True}
    if isinstance(state, tuple | list):
        parts = [flatten(part) for part in state]
        return [tensor for tensors, _ in parts for tensor in tensors], {"tuple": [shape for _, shape in parts]}
    if state is None or isinstance(state, str | int):
        return [], {"value": state}
    raise TypeError(f"a decoder carries a {type(state).__name__}; expected tensors, numbers, words and tuples of them")


def unflatten(shape: Any, tensors: list[Tensor]) -> Any:
    """The state that `flatten` took apart."""

    def build(part: Any) -> Any:
        if "tensor" in part:
            return next(remaining)
        if "tuple" in part:
            return tuple(build(inner) for inner in part["tuple"])
        return part["value"]

    remaining = iter(tensors)
    return build(shape)
