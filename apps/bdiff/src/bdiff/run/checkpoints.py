"""Transformers of other projects: what they are, and writing them in another format."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bdiff.files import sha256
from bdiff.run.lora_option import parse_loras
from bdiff_core import save_transformer
from bdiff_core.checkpoint import Format, NativeMode, open_checkpoint


def inspect(path_or_repo: str, *, entry: str | None = None, hashed: bool = True) -> dict[str, Any]:
    """What a checkpoint is, as plain data; its numbers are read only to hash them.

    Args:
        path_or_repo: A folder, a file, or a repository of the hub.
        entry: Which entry of a `.pt`.
        hashed: Compute the SHA-256 of each file, and of all: of one file its own, of several that of theirs in order of
            name, one a line.

    Raises:
        ValueError: If it is no transformer of the family, or is damaged.
    """
    found = open_checkpoint(path_or_repo, entry=entry)
    digests = [sha256(file) if hashed else None for file in found.files]
    files = [
        {"name": file.name, "bytes": file.stat().st_size, "sha256": digest}
        for file, digest in zip(found.files, digests, strict=True)
    ]
    whole = None
    if hashed:
        lines = "".join(f"{digest}\n" for digest in digests)
        whole = digests[0] if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    return {
        "path": str(found.path),
        "format": found.format,
        "entry": found.entry,
        "native_mode": found.config.native_mode,
        "parameters": found.num_parameters,
        "dtypes": {str(dtype).removeprefix("torch."): count for dtype, count in found.dtypes.items()},
        "bytes": sum(file["bytes"] for file in files),
        "sha256": whole,
        "files": files,
        "config": asdict(found.config),
    }


def describe(facts: Mapping[str, Any]) -> list[str]:
    """The facts of `inspect`, for people."""
    stored = sum(facts["dtypes"].values())
    dtypes = ", ".join(
        name if count == stored else f"{name} ({count / stored:.2%})" for name, count in facts["dtypes"].items()
    )
    config = {name: value for name, value in facts["config"].items() if name != "native_mode"}
    sizes = [
        f"{name} {'x'.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in config.items()
    ]
    rows = {
        "path": facts["path"],
        "format": facts["format"] + (f", entry {facts['entry']}" if facts["entry"] else ""),
        "native mode": facts["native_mode"],
        "parameters": f"{facts['parameters']:,}",
        "dtype": dtypes,
        "files": f"{len(facts['files'])}, {facts['bytes'] / 1e6:,.1f} MB",
        "sha256": facts["sha256"] or "not computed",
        "config": ", ".join(sizes[:6]),
    }
    shown = [f"{name:<12}{value}" for name, value in rows.items()]
    return shown + [f"{'':<12}{', '.join(sizes[first : first + 6])}" for first in range(6, len(sizes), 6)]


def convert(
    source: str,
    target: Path,
    *,
    format: Format | None = None,
    dtype: str | None = None,
    mode: NativeMode | None = None,
    entry: str | None = None,
    loras: Sequence[str] = (),
    max_file_bytes: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a transformer in another format or dtype.

    Args:
        source: A folder, a file, or a repository of the hub.
        target: A folder to make, or a file that ends in `.pt`.
        format: Format of the target; None: `pt` for such a file, else `bdiff`.
        dtype: Name of a torch dtype; None: as stored.
        mode: Native mode to note with it; None: that of the source.
        entry: Which entry of a `.pt`.
        loras: To merge: each `path` or `path@strength`.
        max_file_bytes: Split the weights into files of at most so many bytes.
        overwrite: Write even where something is.

    Raises:
        ValueError: If the source is no such transformer, a LoRA is none or given twice, or the target holds something.
        OSError: If the target cannot be written; nothing new is left there.
    """
    pickled = target.suffix in (".pt", ".pth", ".ckpt")
    chosen = format or ("pt" if pickled else "bdiff")
    if (chosen == "pt") != pickled:
        raise ValueError(f"{target}: the format 'pt' is a file that ends in .pt, every other format a folder")
    taken = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if taken and not overwrite:
        raise ValueError(f"{target} holds something; name another target or say --overwrite")
    if taken and target.is_dir() == pickled:
        raise ValueError(f"{target} is a {'folder' if pickled else 'file'}; name another target")
    found = open_checkpoint(source, entry=entry)
    model = found.load(dtype=getattr(torch, dtype) if dtype else None, loras=parse_loras(loras))
    if mode is not None:
        model.config = replace(model.config, native_mode=mode)
    save_transformer(model, target, format=chosen, max_file_bytes=max_file_bytes)
