"""Snapshots: a bank in one safetensors file with JSON metadata and a checksum, without pickle."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kvbank.disk.records import chunk_entry, chunk_ids, chunk_record, read_entry, read_ids, read_record
from kvbank.policies.context import LayerSummary
from kvbank.policies.standard import Policy
from kvbank.quantization import PackedLayer, Quantization, StoredLayer
from kvbank.recall import LayerKV
from kvbank.settings import Settings
from kvbank.state import BankState
from kvbank.stores.segments import force_folder, named_error
from kvbank.stores.tensorfile import DamageError, claimed_checksum, map_file, read_tensors, write_tensors

# Format 1 has neither quantization nor picks by layer, formats 1 and 2 have no checksum; both are still read.
FORMAT = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """Everything that a bank consists of."""

    settings: Settings
    """Its settings."""
    state: BankState
    """What it remembers beside keys and values."""
    layers: dict[int, tuple[StoredLayer, ...]]
    """The stored layers of each chunk held."""


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot under a temporary name and rename it, so a crash leaves the old file or the new one.

    Raises:
        OSError: With the name of the file, if the disk is full or cannot be written; the old file is as it was.
    """
    state = snapshot.state
    header = {
        "format": FORMAT,
        **snapshot.settings.as_json(),
        "plans": state.plans,
        "held": {chunk: embedding is not None for chunk, embedding in state.embeddings.items()},
        "num_layers": len(next(iter(state.records.values())).kept) if state.records else 0,
        "records": [chunk_entry(record) for record in state.records.values()],
        "reads": [read_entry(index, read) for index, read in state.reads.items()],
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write_tensors(file, _tensors(snapshot), header)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        force_folder(path.parent)
    except OSError as error:
        raise named_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_snapshot(path: Path, *, device: torch.device | str, policy: Policy | None = None) -> Snapshot:
    """Read a file of `save_snapshot`; keys and values are put on `device`, all else on the CPU.

    Raises:
        DamageError: If the file is not what was written.
        ValueError: If it is no snapshot of a bank, or the policy must be given and is not.
    """
    header, tensors = _read_file(path)
    settings = Settings.from_json(header, policy=policy)
    state = BankState(settings.index)
    for chunk, entry in enumerate(header["records"]):
        state.records[chunk] = chunk_record(entry, tensors.get(f"kept.{chunk}"))
    state.plans.update({int(chunk): plan for chunk, plan in header.get("plans", {}).items()})
    for entry in header["reads"]:
        state.reads[entry["index"]] = read_record(entry, tensors.get(f"picked.{entry['index']}"))
    held = {int(chunk): embedded for chunk, embedded in header["held"].items()}
    for chunk, embedded in held.items():
        state.embeddings[chunk] = tensors[f"embedding.{chunk}"] if embedded else None
        if embedded:
            state.index.add(chunk, tensors[f"embedding.{chunk}"])
    state.summaries.update(_summaries(tensors, held, header["num_layers"], device=device))
    layers = {
        chunk: tuple(
            _layer(tensors, f"{chunk}.{layer}", settings.quantization, device=device)
            for layer in range(header["num_layers"])
        )
        for chunk in held
    }
    return Snapshot(settings=settings, state=state, layers=layers)


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    data = map_file(path)
    if claimed_checksum(data) is not None:
        header, tensors = read_tensors(data, path)
    else:
        header, tensors = _read_old_file(path)
    if header.get("format") not in (1, 2, FORMAT):
        raise ValueError(
            f"{path} has format {header.get('format')}; this version reads formats 1 to {FORMAT} of KVBank.save"
        )
    return header, tensors


def _read_old_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file of format 1 or 2, which has no checksum."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("kvbank", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise DamageError(path, f"it is no safetensors file ({error}), and KVBank.save writes nothing else") from error
    if header.get("format", 0) not in (0, 1, 2):
        raise DamageError(path, "its checksum is not where it was written")
    return header, tensors


def _tensors(snapshot: Snapshot) -> dict[str, Tensor]:
    state = snapshot.state
    tensors: dict[str, Tensor | None] = {
        f"{part}.{chunk}.{number}": tensor
        for chunk, layers in snapshot.layers.items()
        for number, layer in enumerate(layers)
        for part, tensor in layer.tensors().items()
    }
    for chunk, summaries in state.summaries.items():
        for number, summary in enumerate(summaries):
            tensors[f"mean_key.{chunk}.{number}"] = summary.key
            tensors[f"mean_query.{chunk}.{number}"] = summary.query
    tensors |= {f"embedding.{chunk}": embedding for chunk, embedding in state.embeddings.items()}
    tensors |= {f"kept.{chunk}": chunk_ids(record) for chunk, record in state.records.items()}
    tensors |= {f"picked.{index}": read_ids(read) for index, read in state.reads.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _layer(
    tensors: Mapping[str, Tensor], place: str, quantization: Quantization | None, *, device: torch.device | str
) -> StoredLayer:
    names = [field.name for field in dataclasses.fields(LayerKV if quantization is None else PackedLayer)]
    parts = {name: tensors[f"{name}.{place}"].to(device) for name in names if f"{name}.{place}" in tensors}
    return LayerKV(**parts) if quantization is None else PackedLayer(format=quantization, **parts)


def _summaries(
    tensors: Mapping[str, Tensor], chunks: Iterable[int], num_layers: int, *, device: torch.device | str
) -> dict[int, tuple[LayerSummary, ...]]:
    summaries = {}
    for chunk in chunks:
        names = [f"{chunk}.{layer}" for layer in range(num_layers) if f"mean_key.{chunk}.{layer}" in tensors]
        if names:
            pairs = ((tensors[f"mean_key.{name}"], tensors.get(f"mean_query.{name}")) for name in names)
            summaries[chunk] = tuple(LayerSummary(key, query).to(device) for key, query in pairs)
    return summaries
