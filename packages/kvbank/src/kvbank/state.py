"""Everything a bank remembers beside keys and values. A bank and the replay of its journal change it alike."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvbank.index.indexes import Index
from kvbank.policies.context import LayerSummary, PolicyContext
from kvbank.reading import ChunkRecord, ReadRecord


class BankState:
    """Records, notes, reads, embeddings and summaries of one video.

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
        times: Callable[[int], Tensor],
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
            times=times,
        )

    def rewind(self, index: int) -> None:
        """Forget chunk `index` and all later ones, as if they had never been written."""
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
        """Add chunk `index`, which is the next one; the state owns the embedding."""
        if summaries:
            self.summaries[index] = tuple(summaries)
        self.embeddings[index] = embedding
        if embedding is not None:
            self.index.add(index, embedding)
        self.records[index] = record

    def free(self, chunk: int) -> None:
        """Forget what is needed only while a chunk is held; its record stays."""
        if self.embeddings.pop(chunk) is not None:
            self.index.remove(chunk)
        self.summaries.pop(chunk, None)

    def note(self, index: int, metadata: Mapping[str, Any]) -> None:
        """Add notes to a chunk, written or still to come."""
        known = self.plans.setdefault(index, {}) if index >= self.next_index else self.records[index].metadata
        known.update(metadata)


def as_json(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the metadata as JSON holds it.

    Raises:
        TypeError: If it holds something that JSON cannot, such as an array.
        ValueError: If it holds a number that is not finite, which JSON does not know.
    """
    try:
        return json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except TypeError as error:
        raise TypeError(
            f"metadata cannot be written as JSON ({error}); pass lists: tensors and arrays have tolist()"
        ) from None
    except ValueError as error:
        raise ValueError(f"metadata cannot be written as JSON ({error})") from None
