"""The memory: chunks are written, cut down to their salient tokens, and read by later chunks."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from kvbank.disk.persistent import Persistent
from kvbank.inputs import check_floats, check_index, is_finite
from kvbank.policies.context import PolicyContext, RecallPolicy, ask, shown_chunks
from kvbank.reading import ReadRecord, lay_out, shown_layers, traced
from kvbank.recall import LayerKV, LayerLike, Recall, RecallTrace
from kvbank.signature import checked_signature
from kvbank.state import as_json
from kvbank.writing import WrittenChunk


class KVBank(Persistent):
    """Semantic sparse KV memory of one video (BlockVid, section 3.4 and Algorithm 1).

    Chunks are written in order, from 0. Keys are stored before the rotary embedding, so the reader may put them at any
    position. Writing a chunk again (a re-roll) rewinds: it replaces the chunk and forgets the later ones, which were
    made with the old one in view. A chunk that the policy can never show again is freed.

    Args:
        policy: Which chunks a chunk sees, and how much of them is stored.
        index: Where prompts are compared; `ExactIndex()` if None. Must be empty and this bank's own.
        store: Where keys and values are held; `MemoryStore()` if None. Must be empty and this bank's own.
        rotate: The model's RoPE, `rotate(x, position) -> x`, applied to queries and keys to score salience only; None
            scores them as they are.
        seed: Seed of the random probes and the token drop; each draw is a function of (seed, chunk, layer).
        salience: How salient tokens are scored, beside the policy's coverage.
        quantization: Stores keys and values in 8 or 4 bits; a read unpacks them. None stores the numbers as they
            come. Gradients need None.
        budget: Tokens that a layer may show to a chunk. A `RecallPolicy` sees the budget and shows what fits. A read
            that exceeds it raises ValueError. None: no limit.

    Raises:
        ValueError: If the budget is below 1.
        TypeError: If the policy lacks something that its protocol lists.
    """

    @property
    def metadata(self) -> dict[int, Mapping[str, Any]]:
        """The metadata of each chunk written."""
        return {chunk: record.metadata for chunk, record in self._state.records.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the stored keys, values and positions, and of the summaries that some policies use."""
        return self._store.nbytes + self._state.nbytes

    @property
    def trace(self) -> tuple[RecallTrace, ...]:
        """The recalls so far without tensors, one for each chunk that read; a second read replaces the first."""
        reads, records = self._state.reads, self._state.records
        drop, seed = self.policy.drop, self._settings.seed
        return tuple(traced(reads[index], records, index=index, drop=drop, seed=seed) for index in sorted(reads))

    def __len__(self) -> int:
        return len(self._state.embeddings)

    def write(
        self,
        index: int,
        layers: Iterable[LayerLike],
        *,
        embedding: Float[Tensor, " d"] | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store chunk `index`; only its salient tokens if the policy has a coverage (Algorithm 2).

        The bank copies what it keeps. If this raises, the bank is as it was before.

        Args:
            index: Chunk number; at most `next_index`. A smaller one rewinds.
            layers: Keys, values, positions and, for a policy with a coverage, queries of each layer, before RoPE. An
                iterator is consumed layer by layer.
            embedding: Embedding of the chunk's prompt; may be None if the policy does not compare prompts.
            metadata: Anything that JSON can hold; it is added to earlier notes of `annotate`.

        Raises:
            ValueError: If the chunk comes too early, has no layers, other shapes than earlier chunks, no embedding or
                queries where they are needed, numbers that are not finite, or exceeds the memory of the store.
            TypeError: If the embedding or a part of a layer is no tensor.
            OSError: With the name of the file, if a disk is full or cannot be written.
            DamageError: If a rewind needs an earlier chunk whose file is damaged. The folder has the new chunk then,
                and the bank is closed: restore the file, then load the bank.
        """
        check_index(index)
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers is a {type(layers).__name__}; expected a LayerKV for each layer of the model")
        if not 0 <= index <= self.next_index:
            raise ValueError(f"chunk {index} cannot be written now; the next is {self.next_index}, in order from 0")
        self._check_embedding(embedding)
        self._check_comparable(index, embedding)
        attached = {**self._state.plans.get(index, {}), **as_json(metadata)}
        chunk = self._writer.written(index, layers, embedding=embedding, metadata=attached, held=self.chunks)
        signature = checked_signature(index, chunk.layers, self._signature if index else ())
        if self._folder is not None:
            self._folder.write(chunk)
        try:
            self._take(chunk)
        except BaseException:
            self.close()  # the folder has the chunk already: only a bank that is loaded from it agrees with it
            raise
        self._signature = signature
        if self._folder is not None:
            self._folder.sweep()

    def annotate(self, index: int, metadata: Mapping[str, Any]) -> None:
        """Add notes to a chunk, such as its pose or the embedding of its latents.

        Notes on a chunk that is not written yet are a plan: its reads see them, and a rewind keeps them. Notes on a
        written chunk belong to it, and a rewind forgets them with it.

        Args:
            index: Chunk number, written or still to come.
            metadata: Anything that JSON can hold; entries of the same name are replaced.

        Raises:
            ValueError: If the number is negative.
            TypeError: If the metadata holds something that JSON cannot.
        """
        if index < 0:
            raise ValueError(f"chunk number is {index}; chunks count from 0")
        noted = as_json(metadata)
        if self._folder is not None:
            self._folder.note(index, noted)
        self._state.note(index, noted)

    def policy_context(self, index: int, *, embedding: Float[Tensor, " d"] | None = None) -> PolicyContext:
        """What a policy may look at when chunk `index` reads; changes nothing.

        Args:
            index: Chunk number.
            embedding: Embedding of its prompt; may be None if the policy does not compare prompts.

        Raises:
            ValueError: If there is no embedding, and the policy compares prompts.
            TypeError: If the embedding is no tensor of floating numbers.
        """
        self._check_embedding(embedding)
        return self._state.policy_context(
            index, embedding=embedding, budget=self._settings.budget, keys=self._keys, times=self._times
        )

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Recall:
        """What chunk `index` sees of the chunks before it (Algorithm 1, stages B and C; Eqs. 8-9).

        Nothing but the trace changes, so a chunk may read as often as it likes.

        Args:
            index: Chunk number; all chunks before it must have been written.
            embedding: Embedding of its prompt; may be None if the policy does not compare prompts.

        Raises:
            ValueError: If a chunk before it is not written yet, a chunk to be shown was freed, or a layer would show
                more tokens than the budget.
            DamageError: If the file of a chunk is not what was written.
        """
        check_index(index)
        if not 0 <= index <= self.next_index:
            raise ValueError(f"chunk {index} cannot read yet; the chunks before {self.next_index} are written")
        past = self.policy_context(index, embedding=embedding)
        if isinstance(self.policy, RecallPolicy):
            self._refuse_freed(index, [chunk for chunk in range(index) if self.policy.retains(index, chunk)])
        picks = ask(self.policy, past)
        chunks = shown_chunks(picks)
        self._refuse_freed(index, chunks)
        held = [self._store.get(chunk) for chunk in chunks]
        shown = shown_layers(picks, chunks, held, drop=self.policy.drop, seed=self._settings.seed, index=index)
        record = ReadRecord.of(
            shown,
            chunks=chunks,
            kinds=(self.policy.kind(index, chunk) for chunk in chunks),
            similarity=(past.similarity.get(chunk) for chunk in chunks),
        )
        if self._folder is not None and self._state.reads.get(index) != record:
            self._folder.read(index, record)
        self._state.reads[index] = record
        return Recall(layers=lay_out(shown, self._buffers), **record.fields)

    def prefetch(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> None:
        """Have the store fetch what chunk `index` will see, as far as it is written; changes no result.

        A policy that answers layer by layer is asked once all chunks before `index` are written, not sooner.
        """
        check_index(index)
        past = self.policy_context(index, embedding=embedding)
        if index > self.next_index and isinstance(self.policy, RecallPolicy):
            return
        chunks = shown_chunks(ask(self.policy, past))
        self._store.prefetch([chunk for chunk in chunks if chunk in self._state.embeddings])

    def _take(self, chunk: WrittenChunk) -> None:
        """Hold a new chunk, and let go of the chunks that it replaces and those that no later chunk can see."""
        gone = [each for each in self.chunks if each >= chunk.index or each in chunk.frees]
        if chunk.index in chunk.frees:
            for each in gone:
                self._store.remove(each)
        else:
            self._store.put(chunk.index, chunk.layers, instead_of=gone)
        self._state.rewind(chunk.index)
        self._state.add(chunk.index, chunk.record, embedding=chunk.embedding, summaries=chunk.summaries)
        for each in chunk.frees:
            self._state.free(each)

    def _keys(self, chunk: int, layer: int) -> Float[Tensor, "branches heads tokens dh"]:
        """Stored keys of one layer of a chunk, on the device where they are held."""
        stored = self._store.get(chunk, home=False)[layer]
        return stored.key.detach() if isinstance(stored, LayerKV) else stored.unpacked_key()

    def _times(self, chunk: int) -> Int[Tensor, " tokens"]:
        """Position in time of each token of a chunk, in its first layer."""
        return self._store.get(chunk, home=False)[0].position[:, 0]

    def _refuse_freed(self, index: int, chunks: Iterable[int]) -> None:
        freed = [chunk for chunk in chunks if chunk not in self._state.embeddings]
        if freed:
            raise ValueError(
                f"chunk {index} sees chunks {freed}, which were freed: under {self.policy} chunk {self.next_index} "
                "does not see them. To go back, load a snapshot that was saved earlier"
            )

    def _check_comparable(self, index: int, embedding: Tensor | None) -> None:
        """Refuse an embedding that the index cannot take, before anything is forgotten."""
        if embedding is None:
            return
        if not is_finite(embedding):
            raise ValueError(f"embedding of chunk {index} holds numbers that are not finite: NaN or infinity")
        self._state.index.search(embedding, 1)

    def _check_embedding(self, embedding: Tensor | None) -> None:
        if embedding is None and self.policy.uses_similarity:
            raise ValueError(f"embedding is None; {self.policy} compares prompts and needs one for every chunk")
        if embedding is not None:
            check_floats(embedding, "embedding")
