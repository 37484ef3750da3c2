"""The memory itself: chunks are written once, cut down to their salient tokens, and read back by later chunks."""

import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.index import ExactIndex, Index
from kvbank.past import LayerPick, LayerSummary, Past, RecallPolicy, ask, check_policy
from kvbank.policies import Policy
from kvbank.quantization import Int4, Int8, StoredLayer
from kvbank.reading import ChunkRecord, ReadRecord, lay_out, picked_tokens, shown_tokens, traced
from kvbank.recall import LayerKV, LayerLike, Recall, RecallTrace, gather_tokens
from kvbank.salience import SalienceOptions, salient_tokens
from kvbank.seeds import seeded_generator
from kvbank.signature import Signature, checked_signature, layer_signature
from kvbank.snapshot import Snapshot, load_snapshot, save_snapshot
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
        quantization: Packs what is stored into 8 or 4 bits, unpacked chunk by chunk into what a read returns; None
            stores the numbers as they come. Gradients need None.
        budget: Tokens that a layer may show to a chunk. Policies that know of it (`RecallPolicy`) show what fits; a
            read beyond it is refused. None: no limit.
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
        quantization: Int8 | Int4 | None = None,
        budget: int | None = None,
    ) -> None:
        if budget is not None and budget < 1:
            raise ValueError(f"budget is {budget}; expected at least 1 token for each layer, or None for no limit")
        check_policy(policy)
        self._policy = policy
        self._index = ExactIndex() if index is None else index
        self._store = MemoryStore() if store is None else store
        self._rotate = rotate
        self._seed = seed
        self._salience = SalienceOptions() if salience is None else salience
        self._quantization = quantization
        self._budget = budget
        self._records: dict[int, ChunkRecord] = {}
        self._plans: dict[int, dict[str, Any]] = {}
        self._embeddings: dict[int, Tensor | None] = {}
        self._summaries: dict[int, tuple[LayerSummary, ...]] = {}
        self._reads: dict[int, ReadRecord] = {}
        self._signature: tuple[Signature, ...] = ()

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
        """Bytes held: keys, values and positions as they are stored, and the summaries of a policy that uses them."""
        return self._store.nbytes + sum(layer.nbytes for layers in self._summaries.values() for layer in layers)

    @property
    def trace(self) -> tuple[RecallTrace, ...]:
        """The recalls so far by reading chunk, without tensors; reading again as the same chunk replaces its entry."""
        how = {"drop": self._policy.drop, "seed": self._seed}
        return tuple(traced(self._reads[index], self._records, index=index, **how) for index in sorted(self._reads))

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
            metadata: Anything JSON, kept beside the chunk; it adds to what `annotate` said of it before.
        """
        if not 0 <= index <= self.next_index:
            raise ValueError(f"chunk {index} cannot be written now; the next is {self.next_index}, in order from 0")
        self._check_embedding(embedding)
        if embedding is not None:
            self._index.search(embedding, 1)  # raises now, before anything is forgotten, if it cannot be compared
        attached = {**self._plans.get(index, {}), **_as_json(metadata)}
        stored, kept, num_tokens, summaries = [], [], [], []
        for number, layer in enumerate(layers):
            whole = LayerKV(layer.key, layer.value, layer.position.to(layer.key.device), query=layer.query)
            if whole.num_tokens == 0:
                raise ValueError(f"layer {number} of chunk {index} has no tokens; a chunk is never empty")
            tokens = self._salient(whole, index, number)
            stored.append(self._as_stored(whole, tokens))
            if self._summarizes:
                summaries.append(LayerSummary.of(whole))
            kept.append(range(whole.num_tokens) if tokens is None else array("i", tokens.tolist()))
            num_tokens.append(whole.num_tokens)
        signature = checked_signature(index, stored, self._signature if index else ())
        for chunk in range(index, self.next_index):
            self._forget(chunk)
        self._store.put(index, tuple(stored))
        self._signature = signature
        if summaries:
            self._summaries[index] = tuple(summaries)
        self._embeddings[index] = None if embedding is None else embedding.detach().to("cpu", copy=True)
        if embedding is not None:
            self._index.add(index, embedding)
        self._records[index] = ChunkRecord(num_tokens=tuple(num_tokens), kept=tuple(kept), metadata=attached)
        for chunk in self.chunks:
            if not self._policy.retains(index + 1, chunk):
                self._free(chunk)

    def annotate(self, index: int, metadata: Mapping[str, Any]) -> None:
        """Add to what is known of a chunk, such as its pose or the embedding of its latents.

        What is said of a chunk before it is written is a plan: its reads see it, and it outlives a rewind. What is said
        later belongs to the chunk as written, and is forgotten with it.

        Args:
            index: Chunk number, written or still to come.
            metadata: Anything JSON; entries of the same name are replaced.
        """
        if index < 0:
            raise ValueError(f"chunk number is {index}; chunks count from 0")
        known = self._plans.setdefault(index, {}) if index >= self.next_index else self._records[index].metadata
        known.update(_as_json(metadata))

    def past(self, index: int, *, embedding: Float[Tensor, " d"] | None = None) -> Past:
        """What a policy may look at when chunk `index` reads; changes nothing.

        Args:
            index: Chunk number.
            embedding: Of its prompt; may be None if the policy does not compare prompts.
        """
        self._check_embedding(embedding)
        held = [chunk for chunk in self.chunks if chunk < index]
        metadata = {chunk: record.metadata for chunk, record in self._records.items() if chunk < index}
        return Past(
            index=index,
            spans={chunk: tuple(map(len, self._records[chunk].kept)) for chunk in held},
            embedding=embedding,
            embeddings={chunk: self._embeddings[chunk] for chunk in held},
            similarity={} if embedding is None else self._index.search(embedding),
            metadata={**metadata, index: self._plans.get(index, {})},
            summaries={chunk: self._summaries[chunk] for chunk in held if chunk in self._summaries},
            budget=self._budget,
            keys=self._keys,
        )

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Recall:
        """What chunk `index` sees of the chunks before it (Algorithm 1, stages B and C; Eqs. 8-9).

        Nothing but the trace changes, so a chunk may read as often as it likes.

        Args:
            index: Chunk number; all chunks before it must have been written.
            embedding: Of its prompt; may be None if the policy does not compare prompts.
        """
        if not 0 <= index <= self.next_index:
            raise ValueError(f"chunk {index} cannot read yet; the chunks before {self.next_index} are written")
        past = self.past(index, embedding=embedding)
        if isinstance(self._policy, RecallPolicy):
            self._refuse_freed(index, [chunk for chunk in range(index) if self._policy.retains(index, chunk)])
        picks = ask(self._policy, past)
        chunks = _shown_chunks(picks)
        self._refuse_freed(index, chunks)
        held = [self._store.get(chunk) for chunk in chunks]
        counts = [past.spans[chunk] for chunk in chunks]
        layers, picked, weights = [], [], []
        for number, (pick, *parts) in enumerate(zip(picks, *held, strict=True) if chunks else ()):
            picked.append(picked_tokens(pick, chunks))
            weights.append(tuple(pick.weights.get(chunk, 1.0) for chunk in chunks))
            how = {"drop": self._policy.drop, "seed": self._seed, "index": index, "layer": number}
            tokens = shown_tokens(picked[-1], [count[number] for count in counts], **how)
            spans = tuple(
                part.num_tokens if some is None else len(some) for part, some in zip(parts, tokens, strict=True)
            )
            layers.append((lay_out(parts, tokens, weights[-1]), spans))
        record = ReadRecord(
            chunks=chunks,
            kinds=tuple(self._policy.kind(index, chunk) for chunk in chunks),
            similarity=tuple(past.similarity.get(chunk) for chunk in chunks),
            spans=tuple(spans for _, spans in layers),
            weights=tuple(weights) if any(weight != 1.0 for each in weights for weight in each) else (),
            picked=tuple(picked),
        )
        self._reads[index] = record
        return Recall(
            chunks=chunks,
            kinds=record.kinds,
            similarity=record.similarity,
            spans=record.spans,
            layers=tuple(layer for layer, _ in layers),
            weights=record.weights,
        )

    def prefetch(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> None:
        """Tell the store what chunk `index` will see, as far as it is written; changes no result.

        A policy that answers layer by layer is asked once all chunks before `index` are written, not sooner.
        """
        past = self.past(index, embedding=embedding)
        if index > self.next_index and isinstance(self._policy, RecallPolicy):
            return
        chunks = _shown_chunks(ask(self._policy, past))
        self._store.prefetch([chunk for chunk in chunks if chunk in self._embeddings])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the whole bank, trace included, to one safetensors file; the file appears complete or not at all."""
        snapshot = Snapshot(
            policy=self._policy,
            index=self._index,
            salience=self._salience,
            quantization=self._quantization,
            budget=self._budget,
            seed=self._seed,
            rotates=self._rotate is not None,
            records=self._records,
            plans=self._plans,
            reads=self._reads,
            embeddings=self._embeddings,
            summaries=self._summaries,
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
        policy: Policy | None = None,
    ) -> "KVBank":
        """A bank that continues where the saved one stopped: the same reads, and the same writes from then on.

        Args:
            path: Written by `save`.
            rotate: As given to the saved bank; without it such a bank reads, but refuses to select salient tokens.
            store: Where to hold what was saved; `MemoryStore()` if None.
            device: Where the saved keys and values go.
            policy: As given to the saved bank; needed only if it is one of your own.
        """
        snapshot = load_snapshot(Path(path), device=device, policy=policy)
        bank = cls(
            policy=snapshot.policy,
            index=snapshot.index,
            store=store,
            rotate=_missing_rotate if rotate is None and snapshot.rotates else rotate,
            seed=snapshot.seed,
            salience=snapshot.salience,
            quantization=snapshot.quantization,
            budget=snapshot.budget,
        )
        bank._records, bank._reads = snapshot.records, snapshot.reads
        bank._plans, bank._summaries = snapshot.plans, snapshot.summaries
        for chunk, embedding in snapshot.embeddings.items():
            bank._store.put(chunk, snapshot.layers[chunk])
            bank._signature = tuple(map(layer_signature, snapshot.layers[chunk]))
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

    def _as_stored(self, layer: LayerKV, tokens: Int[Tensor, " kept"] | None) -> StoredLayer:
        """A copy of some tokens (None: of all), packed if the bank packs."""
        if self._quantization is None:
            return gather_tokens(layer, tokens)
        return self._quantization.pack(layer if tokens is None else gather_tokens(layer, tokens))

    def _keys(self, chunk: int, layer: int) -> Float[Tensor, "branches heads tokens dh"]:
        """Stored keys of one layer of a chunk, where they are held."""
        stored = self._store.get(chunk, home=False)[layer]
        return stored.key.detach() if isinstance(stored, LayerKV) else stored.unpacked_key()

    @property
    def _summarizes(self) -> bool:
        return isinstance(self._policy, RecallPolicy) and self._policy.uses_summaries

    def _refuse_freed(self, index: int, chunks: Iterable[int]) -> None:
        freed = [chunk for chunk in chunks if chunk not in self._embeddings]
        if freed:
            raise ValueError(
                f"chunk {index} sees chunks {freed}, which {self._policy} has let go, as chunk {self.next_index} "
                "does not see them; to go back, load a snapshot saved before"
            )

    def _forget(self, chunk: int) -> None:
        """As if `chunk` had never been written, nor anything read after it."""
        if chunk in self._embeddings:
            self._free(chunk)
        del self._records[chunk]
        self._reads.pop(chunk + 1, None)

    def _free(self, chunk: int) -> None:
        if self._embeddings.pop(chunk) is not None:
            self._index.remove(chunk)
        self._summaries.pop(chunk, None)
        self._store.remove(chunk)

    def _check_embedding(self, embedding: Tensor | None) -> None:
        if embedding is None and self._policy.uses_similarity:
            raise ValueError(f"embedding is None; {self._policy} compares prompts and needs one for every chunk")


def _missing_rotate(x: Tensor, position: Tensor) -> Tensor:
    raise ValueError("this bank was saved with a rotate; give it to KVBank.load(path, rotate=...) before writing")


def _shown_chunks(picks: Sequence[LayerPick]) -> tuple[int, ...]:
    """Chunks that any layer shows, ascending."""
    return tuple(sorted({chunk for pick in picks for chunk in pick.chunks}))


def _as_json(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy that JSON can hold."""
    return json.loads(json.dumps(dict(metadata or {})))
