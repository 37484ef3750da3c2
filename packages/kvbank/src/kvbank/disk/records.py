"""Records of writes and reads as JSON, with their token ids as one tensor beside it."""

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from kvbank.reading import ChunkRecord, ReadRecord
from kvbank.token_set import TokenSet


def chunk_entry(record: ChunkRecord) -> dict[str, Any]:
    """The JSON of a chunk written."""
    return {
        "num_tokens": record.num_tokens,
        "kept": [None if isinstance(kept, range) else len(kept) for kept in record.kept],
        "metadata": dict(record.metadata),
    }


def chunk_ids(record: ChunkRecord) -> Int[Tensor, " ids"] | None:
    """Ids of the tokens that each layer kept, layer after layer; None if all layers kept all."""
    return _joined([kept.ids() for kept in record.kept if isinstance(kept, TokenSet)])


def chunk_record(entry: dict[str, Any], ids: Int[Tensor, " ids"] | None) -> ChunkRecord:
    """The record from the results of `chunk_entry` and `chunk_ids`."""
    parts = _parted(entry["kept"], ids)
    kept = tuple(
        range(total) if part is None else TokenSet.of(part, total)
        for total, part in zip(entry["num_tokens"], parts, strict=True)
    )
    return ChunkRecord(num_tokens=tuple(entry["num_tokens"]), kept=kept, metadata=entry["metadata"])


def read_entry(index: int, read: ReadRecord) -> dict[str, Any]:
    """The JSON of a read."""
    return {
        "index": index,
        **read.fields,
        "picked": [[None if some is None else len(some) for some in layer] for layer in read.picked],
    }


def read_ids(read: ReadRecord) -> Int[Tensor, " ids"] | None:
    """Ids of the tokens that the policy picked, layer after layer; None if it picked whole chunks only."""
    return _joined([array("i", some) for layer in read.picked for some in layer if some])


def read_record(entry: dict[str, Any], ids: Int[Tensor, " ids"] | None) -> ReadRecord:
    """The record from the results of `read_entry` and `read_ids`."""
    # Format 1 of snapshots has no picks: all stored tokens of every chunk were shown.
    sizes = entry.get("picked", [[None] * len(layer) for layer in entry["spans"]])
    parts = iter(_parted([size for layer in sizes for size in layer], ids))
    return ReadRecord(
        chunks=tuple(entry["chunks"]),
        kinds=tuple(entry["kinds"]),
        similarity=tuple(entry["similarity"]),
        spans=tuple(map(tuple, entry["spans"])),
        weights=tuple(map(tuple, entry.get("weights", ()))),
        picked=tuple(tuple(next(parts) for _ in layer) for layer in sizes),
    )


def _joined(parts: Sequence[array]) -> Int[Tensor, " ids"] | None:
    """Concatenate arrays of ids; None if there are no ids. Empty arrays have no buffer and are left out."""
    filled = [torch.frombuffer(part, dtype=torch.int32) for part in parts if part]
    return torch.cat(filled) if filled else None


def _parted(sizes: Sequence[int | None], joined: Int[Tensor, " ids"] | None) -> list[array | None]:
    """Split what `_joined` made into arrays of these sizes; None where a size is None."""
    lengths = [size or 0 for size in sizes]
    ids = torch.zeros(0, dtype=torch.int32) if joined is None else joined
    parts = ids.split(lengths)
    return [None if size is None else array("i", part.tolist()) for size, part in zip(sizes, parts, strict=True)]
