"""What a bank knows beside keys and values, and how it changes: by the bank itself, and when its journal is read."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvbank.index.indexes import Index
from kvbank.policies.context import LayerSummary, PolicyContext
from kvbank.reading import ChunkRecord, ReadRecord


class BankState:
    """Records, notes, reads, embeddings and summaries of one film.

    Args:
        index: Where prompts are compared; empty.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.records: dict[int, ChunkRecord] = {}
        self.plans: dict[int, dict[str, Any]] = {}
        self.reads: dict[int, ReadRecord] = {}
        self.embeddings: dict[int, Float[Tensor, " d"] | None] = {}
        self.summaries: dict[int, tuple[LayerSummary, ...]] = {}

    @property
    def chunks(self) -> tuple[int, ...]:
        """Ids of the chunks held, ascending."""
        return tuple(self.embeddings)

    @property
    def next_index(self) -> int:
        """The chunk to be written next, which is how many were written."""
        return len(self.records)

    @property
    def nbytes(self) -> int:
        """Bytes of the summaries."""
        return sum(layer.nbytes for layers in self.summaries.values() for layer in layers)

    def policy_context(
        self,
        index: int,
        *,
        embedding: Float[Tensor, " d"] | None,
        budget: int | None,
        keys: Callable[[int, int], Tensor],
    ) -> PolicyContext:
        """What a policy may look at when chunk `index` reads; see `PolicyContext`."""
        held = [chunk for chunk in self.chunks if chunk < index]
        metadata = {chunk: record.metadata for chunk, record in self.records.items() if chunk < index}
        return PolicyContext(
            index=index,
            spans={chunk: tuple(map(len, self.records[chunk].kept)) for chunk in held},
            embedding=embedding,
            embeddings={chunk: self.embeddings[chunk] for chunk in held},
            similarity={} if embedding is None else self.index.search(embedding),
            metadata={**metadata, index: self.plans.get(index, {})},
            summaries={chunk: self.summaries[chunk] for chunk in held if chunk in self.summaries},
            budget=budget,
            keys=keys,
        )

    def rewind(self, index: int) -> None:
        """As if chunk `index` had never been written, nor anything after it."""
        for chunk in [chunk for chunk in self.chunks if chunk >= index]:
            self.free(chunk)
        for chunk in range(index, self.next_index):
            del self.records[chunk]
            self.reads.pop(chunk + 1, None)

    def add(
        self,
        index: int,
        record: ChunkRecord,
        *,
        embedding: Float[Tensor, " d"] | None,
        summaries: Sequence[LayerSummary],
    ) -> None:
        """Chunk `index`, the next one, is written; the state owns the embedding."""
        if summaries:
            self.summaries[index] = tuple(summaries)
        self.embeddings[index] = embedding
        if embedding is not None:
            self.index.add(index, embedding)
        self.records[index] = record

    def free(self, chunk: int) -> None:
        """A chunk is no longer held, but was written."""
        if self.embeddings.pop(chunk) is not None:
            self.index.remove(chunk)
        self.summaries.pop(chunk, None)

    def note(self, index: int, metadata: Mapping[str, Any]) -> None:
        """Something is said of a chunk, written or still to come."""
        known = self.plans.setdefault(index, {}) if index >= self.next_index else self.records[index].metadata
        known.update(metadata)


def as_json(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy that JSON can hold.

    Raises:
        TypeError: If it holds something else, such as an array.
        ValueError: If it holds a number that is not finite, which JSON does not know.
    """
    try:
        return json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except TypeError as error:
        raise TypeError(f"metadata is nothing that JSON can hold ({error}); tensors and arrays have tolist()") from None
    except ValueError as error:
        raise ValueError(f"metadata is nothing that JSON can hold ({error})") from None
