"""A bank on disk: one safetensors file, tensors beside JSON metadata, no pickle."""

import dataclasses
import json
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kvbank.deep_sink import DeepSink
from kvbank.index import ExactIndex, FaissIndex, Index
from kvbank.past import LayerSummary
from kvbank.policies import DynamicSparse, Full, Policy, Rolling, SemanticSparse, Sink
from kvbank.quantization import FORMATS, Int4, Int8, PackedLayer, StoredLayer
from kvbank.reading import ChunkRecord, ReadRecord
from kvbank.recall import LayerKV
from kvbank.salience import SalienceOptions
from kvbank.scored import LatentRecall, PoseRecall, QueryRecall

FORMAT = 2  # 1 knew neither quantization nor policies that answer layer by layer; it is still read
POLICIES: dict[str, type] = {
    "SemanticSparse": SemanticSparse,
    "DynamicSparse": DynamicSparse,
    "Rolling": Rolling,
    "Sink": Sink,
    "Full": Full,
    "LatentRecall": LatentRecall,
    "QueryRecall": QueryRecall,
    "PoseRecall": PoseRecall,
    "DeepSink": DeepSink,
}
INDEXES: dict[str, type] = {"ExactIndex": ExactIndex, "FaissIndex": FaissIndex}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """Everything a bank is made of."""

    policy: Policy
    index: Index
    salience: SalienceOptions
    quantization: Int8 | Int4 | None
    budget: int | None
    seed: int
    rotates: bool
    records: dict[int, ChunkRecord]
    plans: dict[int, dict[str, Any]]
    reads: dict[int, ReadRecord]
    embeddings: dict[int, Tensor | None]
    summaries: dict[int, tuple[LayerSummary, ...]]
    layers: dict[int, tuple[StoredLayer, ...]]


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write to a temporary name beside `path`, then rename: a crash leaves the old file or the new one."""
    header = {
        "format": FORMAT,
        "policy": _named_policy(snapshot.policy),
        "quantization": _named_format(snapshot.quantization),
        "budget": snapshot.budget,
        "plans": snapshot.plans,
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
            {
                "index": index,
                **{name: getattr(read, name) for name in ("chunks", "kinds", "similarity", "spans", "weights")},
                "picked": [[None if some is None else len(some) for some in layer] for layer in read.picked],
            }
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


def load_snapshot(path: Path, *, device: torch.device | str, policy: Policy | None = None) -> Snapshot:
    """Read what `save_snapshot` wrote; keys and values go to `device`, the rest stays on the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("kvbank", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}); expected one written by KVBank.save") from error
    if header.get("format") not in (1, FORMAT):
        raise ValueError(
            f"{path} has format {header.get('format')}; this version reads formats 1 and {FORMAT} of KVBank.save"
        )
    name, fields = header.get("quantization") or (None, {})
    quantization = None if name is None else FORMATS[name](**fields)
    held = {int(chunk): embedded for chunk, embedded in header["held"].items()}
    return Snapshot(
        policy=_policy(header["policy"], policy),
        index=INDEXES[header["index"]](),
        salience=SalienceOptions(**header["salience"]),
        quantization=quantization,
        budget=header.get("budget"),
        seed=header["seed"],
        rotates=header["rotates"],
        records={
            chunk: _record(record, tensors.get(f"kept.{chunk}")) for chunk, record in enumerate(header["records"])
        },
        plans={int(chunk): plan for chunk, plan in header.get("plans", {}).items()},
        reads={read["index"]: _read(read, tensors.get(f"picked.{read['index']}")) for read in header["reads"]},
        embeddings={chunk: tensors[f"embedding.{chunk}"] if embedded else None for chunk, embedded in held.items()},
        summaries=_summaries(tensors, held, header["num_layers"], device=device),
        layers={
            chunk: tuple(
                _layer(tensors, f"{chunk}.{layer}", quantization, device=device)
                for layer in range(header["num_layers"])
            )
            for chunk in held
        },
    )


def _tensors(snapshot: Snapshot) -> dict[str, Tensor]:
    tensors = {
        f"{part}.{chunk}.{number}": tensor.detach()
        for chunk, layers in snapshot.layers.items()
        for number, layer in enumerate(layers)
        for part, tensor in layer.tensors().items()
    }
    for chunk, summaries in snapshot.summaries.items():
        for number, summary in enumerate(summaries):
            for part in ("key", "query"):
                if getattr(summary, part) is not None:
                    tensors[f"mean_{part}.{chunk}.{number}"] = getattr(summary, part)
    for chunk, embedding in snapshot.embeddings.items():
        if embedding is not None:
            tensors[f"embedding.{chunk}"] = embedding
    for chunk, record in snapshot.records.items():
        tensors.update(_joined(f"kept.{chunk}", [kept for kept in record.kept if isinstance(kept, array)]))
    for index, read in snapshot.reads.items():
        tensors.update(_joined(f"picked.{index}", [some for layer in read.picked for some in layer if some]))
    return tensors


def _joined(name: str, parts: Sequence[array]) -> dict[str, Tensor]:
    """Ids one after the other, if there are any; empty arrays have no buffer to take them from."""
    return {name: torch.cat([torch.frombuffer(part, dtype=torch.int32) for part in parts])} if parts else {}


def _layer(
    tensors: Mapping[str, Tensor], place: str, quantization: Int8 | Int4 | None, *, device: torch.device | str
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
        pairs = [[tensors.get(f"mean_{part}.{name}") for part in ("key", "query")] for name in names]
        if pairs:
            summaries[chunk] = tuple(
                LayerSummary(*(None if mean is None else mean.to(device) for mean in pair)) for pair in pairs
            )
    return summaries


def _record(record: dict[str, Any], chosen: Tensor | None) -> ChunkRecord:
    sizes = record["kept"]
    parts = _parted(sizes, chosen)
    kept = tuple(
        range(total) if part is None else part for total, part in zip(record["num_tokens"], parts, strict=True)
    )
    return ChunkRecord(num_tokens=tuple(record["num_tokens"]), kept=kept, metadata=record["metadata"])


def _read(read: dict[str, Any], chosen: Tensor | None) -> ReadRecord:
    # Format 1 knew no picks: all stored tokens of every chunk.
    sizes = read.get("picked", [[None] * len(layer) for layer in read["spans"]])
    parts = iter(_parted([size for layer in sizes for size in layer], chosen))
    return ReadRecord(
        chunks=tuple(read["chunks"]),
        kinds=tuple(read["kinds"]),
        similarity=tuple(read["similarity"]),
        spans=tuple(map(tuple, read["spans"])),
        weights=tuple(map(tuple, read.get("weights", ()))),
        picked=tuple(tuple(next(parts) for _ in layer) for layer in sizes),
    )


def _parted(sizes: Sequence[int | None], joined: Tensor | None) -> list[array | None]:
    """The other way round from `_joined`: arrays of these sizes, None where the size is."""
    lengths = [size or 0 for size in sizes]
    ids = torch.zeros(0, dtype=torch.int32) if joined is None else joined
    parts = ids.split(lengths)
    return [None if size is None else array("i", part.tolist()) for size, part in zip(sizes, parts, strict=True)]


def _named_format(quantization: Int8 | Int4 | None) -> list[Any] | None:
    return None if quantization is None else [type(quantization).__name__, dataclasses.asdict(quantization)]


def _named_policy(policy: Policy) -> list[Any]:
    """Name and fields; fields None for a policy that only its writer can make again."""
    name = type(policy).__name__
    return [name, dataclasses.asdict(policy)] if POLICIES.get(name) is type(policy) else [name, None]


def _policy(named: list[Any], given: Policy | None) -> Policy:
    name, fields = named
    if fields is None:
        if type(given).__name__ != name:
            raise ValueError(f"this bank was saved with a {name}; give it back: KVBank.load(path, policy={name}(...))")
        return given
    saved = POLICIES[name](**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
    if given is not None and given != saved:
        raise ValueError(f"this bank was saved with {saved}; got {given}, which it cannot go on with")
    return saved


def _table_name(table: dict[str, type], thing: object, role: str) -> str:
    name = type(thing).__name__
    if table.get(name) is not type(thing):
        raise ValueError(f"cannot save the {role} {thing!r}; a snapshot knows {', '.join(table)}")
    return name
