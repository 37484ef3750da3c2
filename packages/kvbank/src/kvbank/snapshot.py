"""A bank on disk: one safetensors file, tensors beside JSON metadata, no pickle."""

import dataclasses
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kvbank.index import ExactIndex, FaissIndex, Index
from kvbank.policies import DynamicSparse, Full, Policy, Rolling, SemanticSparse, Sink
from kvbank.recall import LayerKV, Recall
from kvbank.salience import SalienceOptions

FORMAT = 1
POLICIES: dict[str, type] = {
    "SemanticSparse": SemanticSparse,
    "DynamicSparse": DynamicSparse,
    "Rolling": Rolling,
    "Sink": Sink,
    "Full": Full,
}
INDEXES: dict[str, type] = {"ExactIndex": ExactIndex, "FaissIndex": FaissIndex}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRecord:
    """What a bank knows of a chunk that it wrote, whether or not it still holds it."""

    num_tokens: tuple[int, ...]
    """Tokens of each layer before selection."""
    kept: tuple[Sequence[int], ...]
    """Which of them each layer stored: a range for all, else an array of int32."""
    metadata: Mapping[str, Any]
    """What the writer attached."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """Everything a bank is made of."""

    policy: Policy
    index: Index
    salience: SalienceOptions
    seed: int
    rotates: bool
    records: dict[int, ChunkRecord]
    reads: dict[int, Recall]
    embeddings: dict[int, Tensor | None]
    layers: dict[int, tuple[LayerKV, ...]]


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write to a temporary name beside `path`, then rename: a crash leaves the old file or the new one."""
    header = {
        "format": FORMAT,
        "policy": [_table_name(POLICIES, snapshot.policy, "policy"), dataclasses.asdict(snapshot.policy)],
        "index": _table_name(INDEXES, snapshot.index, "index"),
        "salience": dataclasses.asdict(snapshot.salience),
        "seed": snapshot.seed,
        "rotates": snapshot.rotates,
        "held": {chunk: embedding is not None for chunk, embedding in snapshot.embeddings.items()},
        "num_layers": len(next(iter(snapshot.records.values())).kept) if snapshot.records else 0,
        "records": [
            {
                "num_tokens": record.num_tokens,
                "kept": [None if isinstance(kept, range) else len(kept) for kept in record.kept],
                "metadata": dict(record.metadata),
            }
            for record in snapshot.records.values()
        ],
        "reads": [
            {"index": index, **{name: getattr(read, name) for name in ("chunks", "kinds", "similarity", "spans")}}
            for index, read in snapshot.reads.items()
        ],
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(_tensors(snapshot), temporary, metadata={"kvbank": json.dumps(header)})
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_snapshot(path: Path, *, device: torch.device | str) -> Snapshot:
    """Read what `save_snapshot` wrote; keys and values go to `device`, the rest stays on the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("kvbank", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); expected one written by KVBank.save") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} has format {header.get('format')}; this version reads format {FORMAT} of KVBank.save")
    name, fields = header["policy"]
    held = {int(chunk): embedded for chunk, embedded in header["held"].items()}
    return Snapshot(
        policy=POLICIES[name](**fields),
        index=INDEXES[header["index"]](),
        salience=SalienceOptions(**header["salience"]),
        seed=header["seed"],
        rotates=header["rotates"],
        records={
            chunk: _record(record, tensors.get(f"kept.{chunk}")) for chunk, record in enumerate(header["records"])
        },
        reads={read["index"]: _read(read) for read in header["reads"]},
        embeddings={chunk: tensors[f"embedding.{chunk}"] if embedded else None for chunk, embedded in held.items()},
        layers={
            chunk: tuple(
                LayerKV(*(tensors[f"{part}.{chunk}.{layer}"].to(device) for part in ("key", "value", "position")))
                for layer in range(header["num_layers"])
            )
            for chunk in held
        },
    )


def _tensors(snapshot: Snapshot) -> dict[str, Tensor]:
    tensors = {
        f"{part}.{chunk}.{number}": getattr(layer, part).detach()
        for chunk, layers in snapshot.layers.items()
        for number, layer in enumerate(layers)
        for part in ("key", "value", "position")
    }
    for chunk, embedding in snapshot.embeddings.items():
        if embedding is not None:
            tensors[f"embedding.{chunk}"] = embedding
    for chunk, record in snapshot.records.items():
        chosen = [torch.frombuffer(kept, dtype=torch.int32) for kept in record.kept if isinstance(kept, array)]
        if chosen:
            tensors[f"kept.{chunk}"] = torch.cat(chosen)
    return tensors


def _record(record: dict[str, Any], chosen: Tensor | None) -> ChunkRecord:
    kept: list[Sequence[int]] = []
    start = 0
    for num_tokens, count in zip(record["num_tokens"], record["kept"], strict=True):
        if count is None:
            kept.append(range(num_tokens))
        else:
            kept.append(array("i", chosen[start : start + count].tolist()))
            start += count
    return ChunkRecord(num_tokens=tuple(record["num_tokens"]), kept=tuple(kept), metadata=record["metadata"])


def _read(read: dict[str, Any]) -> Recall:
    return Recall(
        chunks=tuple(read["chunks"]),
        kinds=tuple(read["kinds"]),
        similarity=tuple(read["similarity"]),
        spans=tuple(map(tuple, read["spans"])),
        layers=(),
    )


def _table_name(table: dict[str, type], thing: object, role: str) -> str:
    name = type(thing).__name__
    if table.get(name) is not type(thing):
        raise ValueError(f"cannot save the {role} {thing!r}; a snapshot knows {', '.join(table)}")
    return name
