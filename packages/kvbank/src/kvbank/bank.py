"""The memory itself: chunks are written once, cut down to their salient tokens, and read back by later chunks."""

import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.index import ExactIndex, Index
from kvbank.policies import Policy
from kvbank.recall import LayerKV, LayerLike, Recall, RecallTrace, concatenate, gather_tokens
from kvbank.salience import SalienceOptions, salient_tokens
from kvbank.seeds import seeded_generator
from kvbank.snapshot import ChunkRecord, Snapshot, load_snapshot, save_snapshot
from kvbank.store import MemoryStore, Store

Rotate = Callable[[Tensor, Tensor], Tensor]


class KVBank:
    """Semantic sparse KV memory of one video (BlockVid, section 3.4 and Algorithm 1).

    Chunks are written in order, from 0. Keys are stored before the rotary embedding, so the reader may put them at any
    position. Writing a chunk again (a re-roll) rewinds: it replaces the chunk and forgets the later ones, which were
    made with the old one in view. What a policy can never show again is freed when it leaves the policy's reach.

    Args:
        policy: Which chunks a chunk sees, and how much of them is stored.
        index: Where prompts are compared; `ExactIndex()` if None. Must be empty and this bank's own.
        store: Where keys and values are held; `MemoryStore()` if None. Must be empty and this bank's own.
        rotate: The model's RoPE, `rotate(x, position) -> x`, applied to queries and keys to score salience only; None
            scores them as they are.
        seed: Of the random probes and the token drop, each a function of (seed, chunk, layer).
        salience: How salient tokens are scored, beside the policy's coverage.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        index: Index | None = None,
        store: Store | None = None,
        rotate: Rotate | None = None,
        seed: int = 0,
        salience: SalienceOptions | None = None,
    ) -> None:
        self._policy = policy
        self._index = ExactIndex() if index is None else index
        self._store = MemoryStore() if store is None else store
        self._rotate = rotate
        self._seed = seed
        self._salience = SalienceOptions() if salience is None else salience
        self._records: dict[int, ChunkRecord] = {}
        self._embeddings: dict[int, Tensor | None] = {}
        self._reads: dict[int, Recall] = {}
        self._signature: tuple[tuple[Any, ...], ...] = ()

    @property
    def policy(self) -> Policy:
        """Which chunks a chunk sees."""
        return self._policy

    @property
    def chunks(self) -> tuple[int, ...]:
        """Ids of the chunks held, ascending."""
        return tuple(self._embeddings)

    @property
    def next_index(self) -> int:
        """The chunk to be written next, which is how many were written."""
        return len(self._records)

    @property
    def metadata(self) -> dict[int, Mapping[str, Any]]:
        """What the writer attached to each chunk written."""
        return {chunk: record.metadata for chunk, record in self._records.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the keys, values and positions held."""
        return self._store.nbytes

    @property
    def trace(self) -> tuple[RecallTrace, ...]:
        """The recalls so far by reading chunk, without tensors; reading again as the same chunk replaces its entry."""
        return tuple(self._traced(index, self._reads[index]) for index in sorted(self._reads))

    def __len__(self) -> int:
        return len(self._embeddings)

    def write(
        self,
        index: int,
        layers: Iterable[LayerLike],
        *,
        embedding: Float[Tensor, " d"] | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Remember chunk `index`, cut down to its salient tokens if the policy has a coverage (Algorithm 2).

        The bank copies what it keeps. If this raises, the bank is as it was before.

        Args:
            index: Chunk number; at most `next_index`. A smaller one rewinds.
            layers: Keys, values, positions and, for a policy with a coverage, queries of each layer, before RoPE. An
                iterator is consumed layer by layer.
            embedding: Of the chunk's prompt; may be None if the policy does not compare prompts.
            metadata: Anything JSON, kept beside the chunk.
        """
        if not 0 <= index <= self.next_index:
            raise ValueError(f"chunk {index} cannot be written now; the next is {self.next_index}, in order from 0")
        self._check_embedding(embedding)
        if embedding is not None:
            self._index.search(embedding, 1)  # raises now, before anything is forgotten, if it cannot be compared
        attached = json.loads(json.dumps(dict(metadata or {})))
        stored, kept, num_tokens = [], [], []
        for number, layer in enumerate(layers):
            whole = LayerKV(layer.key, layer.value, layer.position.to(layer.key.device), query=layer.query)
            if whole.num_tokens == 0:
                raise ValueError(f"layer {number} of chunk {index} has no tokens; a chunk is never empty")
            tokens = self._salient(whole, index, number)
            stored.append(gather_tokens(whole, tokens))
            kept.append(range(whole.num_tokens) if tokens is None else array("i", tokens.tolist()))
            num_tokens.append(whole.num_tokens)
        signature = self._checked_signature(index, stored)
        for chunk in range(index, self.next_index):
            self._forget(chunk)
        self._store.put(index, tuple(stored))
        self._signature = signature
        self._embeddings[index] = None if embedding is None else embedding.detach().to("cpu", copy=True)
        if embedding is not None:
            self._index.add(index, embedding)
        self._records[index] = ChunkRecord(num_tokens=tuple(num_tokens), kept=tuple(kept), metadata=attached)
        for chunk in self.chunks:
            if not self._policy.retains(index + 1, chunk):
                self._free(chunk)

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Recall:
        """What chunk `index` sees of the chunks before it (Algorithm 1, stages B and C; Eqs. 8-9).

        Nothing but the trace changes, so a chunk may read as often as it likes.

        Args:
            index: Chunk number; all chunks before it must have been written.
            embedding: Of its prompt; may be None if the policy does not compare prompts.
        """
        if not 0 <= index <= self.next_index:
            raise ValueError(f"chunk {index} cannot read yet; the chunks before {self.next_index} are written")
        chunks, similarity = self._select(index, embedding)
        freed = [chunk for chunk in chunks if chunk not in self._embeddings]
        if freed:
            raise ValueError(
                f"chunk {index} sees chunks {freed}, which {self._policy} has let go, as chunk {self.next_index} "
                "does not see them; to go back, load a snapshot saved before"
            )
        held = [self._store.get(chunk) for chunk in chunks]
        layers, spans = [], []
        for number, parts in enumerate(zip(*held, strict=True)):
            shown = self._shown(index, number, [part.num_tokens for part in parts])
            parts = [
                part if some is None else gather_tokens(part, some) for part, some in zip(parts, shown, strict=True)
            ]
            layers.append(concatenate(parts))
            spans.append(tuple(part.num_tokens for part in parts))
        recall = Recall(
            chunks=chunks,
            kinds=tuple(self._policy.kind(index, chunk) for chunk in chunks),
            similarity=tuple(similarity.get(chunk) for chunk in chunks),
            spans=tuple(spans),
            layers=tuple(layers),
        )
        self._reads[index] = replace(recall, layers=())
        return recall

    def prefetch(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> None:
        """Tell the store what chunk `index` will see, as far as it is written; changes no result."""
        chunks, _ = self._select(index, embedding)
        self._store.prefetch([chunk for chunk in chunks if chunk in self._embeddings])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the whole bank, trace included, to one safetensors file; the file appears complete or not at all."""
        snapshot = Snapshot(
            policy=self._policy,
            index=self._index,
            salience=self._salience,
            seed=self._seed,
            rotates=self._rotate is not None,
            records=self._records,
            reads=self._reads,
            embeddings=self._embeddings,
            layers={chunk: self._store.get(chunk, home=False) for chunk in self.chunks},
        )
        save_snapshot(Path(path), snapshot)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        rotate: Rotate | None = None,
        store: Store | None = None,
        device: torch.device | str = "cpu",
    ) -> "KVBank":
        """A bank that continues where the saved one stopped: the same reads, and the same writes from then on.

        Args:
            path: Written by `save`.
            rotate: As given to the saved bank; without it such a bank reads, but refuses to select salient tokens.
            store: Where to hold what was saved; `MemoryStore()` if None.
            device: Where the saved keys and values go.
        """
        snapshot = load_snapshot(Path(path), device=device)
        bank = cls(
            policy=snapshot.policy,
            index=snapshot.index,
            store=store,
            rotate=_missing_rotate if rotate is None and snapshot.rotates else rotate,
            seed=snapshot.seed,
            salience=snapshot.salience,
        )
        bank._records, bank._reads = snapshot.records, snapshot.reads
        for chunk, embedding in snapshot.embeddings.items():
            bank._store.put(chunk, snapshot.layers[chunk])
            bank._signature = tuple(map(_layer_signature, snapshot.layers[chunk]))
            bank._embeddings[chunk] = embedding
            if embedding is not None:
                bank._index.add(chunk, embedding)
        return bank

    def _salient(self, layer: LayerKV, chunk: int, number: int) -> Int[Tensor, " kept"] | None:
        """Tokens of one layer to store; None for all of them."""
        if self._policy.coverage is None:
            return None
        if layer.query is None:
            if self._policy.coverage == 1.0 and self._salience.max_tokens is None:
                return None  # all of the attention, whatever the queries are
            raise ValueError(
                f"layer {number} of chunk {chunk} has no query; {self._policy} needs queries to find salient tokens"
            )
        query, key = layer.query, layer.key
        if self._rotate is not None:
            with torch.no_grad():
                query, key = self._rotate(query, layer.position), self._rotate(key, layer.position)
        generator = seeded_generator("probes", self._seed, chunk, number)
        return salient_tokens(query, key, coverage=self._policy.coverage, generator=generator, **asdict(self._salience))

    def _select(
        self, index: int, embedding: Float[Tensor, " d"] | None
    ) -> tuple[tuple[int, ...], dict[int, float | None]]:
        """Chunks that chunk `index` sees, ascending, and the similarity of all that have one."""
        self._check_embedding(embedding)
        similarity = {} if embedding is None else self._index.search(embedding)
        # Only prefetch asks before all past chunks are written; what is not there is similar to nothing.
        known = [similarity.get(chunk, -math.inf) for chunk in range(index)] if self._policy.uses_similarity else ()
        return tuple(sorted(set(self._policy.select(index, known)))), similarity

    def _shown(self, index: int, number: int, counts: Sequence[int]) -> list[Int[Tensor, " shown"] | None]:
        """Which of the stored tokens of each chunk layer `number` shows to chunk `index`; None for all."""
        if self._policy.drop == 0.0:
            return [None] * len(counts)
        generator = seeded_generator("drop", self._seed, index, number)
        return [(torch.rand(count, generator=generator) >= self._policy.drop).nonzero()[:, 0] for count in counts]

    def _traced(self, index: int, read: Recall) -> RecallTrace:
        kept = []
        for number in range(len(read.spans)):
            stored = [self._records[chunk].kept[number] for chunk in read.chunks]
            shown = self._shown(index, number, [len(tokens) for tokens in stored])
            kept.append(
                tuple(
                    tokens if some is None else array("i", [tokens[i] for i in some.tolist()])
                    for tokens, some in zip(stored, shown, strict=True)
                )
            )
        shares = tuple(
            sum(len(layer[i]) / total for layer, total in zip(kept, self._records[chunk].num_tokens, strict=True))
            / len(kept)
            for i, chunk in enumerate(read.chunks)
        )
        fields = {name: getattr(read, name) for name in ("chunks", "kinds", "similarity", "spans")}
        return RecallTrace(index=index, shares=shares, kept=tuple(kept), **fields)

    def _forget(self, chunk: int) -> None:
        """As if `chunk` had never been written, nor anything read after it."""
        if chunk in self._embeddings:
            self._free(chunk)
        del self._records[chunk]
        self._reads.pop(chunk + 1, None)

    def _free(self, chunk: int) -> None:
        if self._embeddings.pop(chunk) is not None:
            self._index.remove(chunk)
        self._store.remove(chunk)

    def _check_embedding(self, embedding: Tensor | None) -> None:
        if embedding is None and self._policy.uses_similarity:
            raise ValueError(f"embedding is None; {self._policy} compares prompts and needs one for every chunk")

    def _checked_signature(self, index: int, layers: Sequence[LayerKV]) -> tuple[tuple[Any, ...], ...]:
        """What must agree for chunks to be concatenated; refuses a chunk that differs from those before it."""
        if not layers:
            raise ValueError(f"chunk {index} has no layers; expected the keys and values of each layer")
        signature = tuple(map(_layer_signature, layers))
        if index == 0 or not self._signature:
            return signature
        if len(signature) != len(self._signature):
            raise ValueError(
                f"chunk {index} has {len(signature)} layers; the chunks before it have {len(self._signature)}"
            )
        for number, (new, old) in enumerate(zip(signature, self._signature, strict=True)):
            if new != old:
                raise ValueError(
                    f"layer {number} of chunk {index} has (branches, heads, dh, dtype, device) {new}; "
                    f"the chunks before it have {old}"
                )
        return signature


def _layer_signature(layer: LayerKV) -> tuple[int, int, int, str, str]:
    branches, heads, _, dh = layer.key.shape
    return branches, heads, dh, str(layer.key.dtype), str(layer.key.device)


def _missing_rotate(x: Tensor, position: Tensor) -> Tensor:
    raise ValueError("this bank was saved with a rotate; give it to KVBank.load(path, rotate=...) before writing")
