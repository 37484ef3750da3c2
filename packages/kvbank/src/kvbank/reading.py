"""From a policy's picks to the layers of a recall, and the record that a bank keeps of a read."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from kvbank.kinds import Kind
from kvbank.policies.context import LayerPick
from kvbank.quantization import StoredLayer
from kvbank.recall import LayerKV, RecallTrace
from kvbank.seeds import seeded_generator
from kvbank.stores.read_buffers import ReadBuffers, Shape
from kvbank.token_set import TokenSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRecord:
    """What a bank remembers of a written chunk, also after the chunk was freed."""

    num_tokens: tuple[int, ...]
    """Tokens of each layer before selection."""
    kept: tuple[range | TokenSet, ...]
    """Which of them each layer stored: a range for all."""
    metadata: dict[str, Any]
    """The metadata of its write, and notes added since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecord:
    """A recall without its tensors, and enough to say which tokens it showed."""

    chunks: tuple[int, ...]
    """Ids of the chunks shown, ascending."""
    kinds: tuple[Kind, ...]
    """Why each chunk was shown."""
    similarity: tuple[float | None, ...]
    """Cosine similarity of each chunk's prompt to the reader's; None where an embedding is missing."""
    spans: tuple[tuple[int, ...], ...]
    """`spans[layer][i]`: tokens of `chunks[i]` shown."""
    weights: tuple[tuple[float, ...], ...]
    """`weights[layer][i]`: factor of the values of `chunks[i]`; () if all factors are 1."""
    picked: tuple[tuple[Sequence[int] | None, ...], ...]
    """`picked[layer][i]`: which of its stored tokens the policy picked, before the drop; None for all."""

    @classmethod
    def of(
        cls,
        shown: Sequence["ShownLayer"],
        *,
        chunks: Sequence[int],
        kinds: Iterable[Kind],
        similarity: Iterable[float | None],
    ) -> "ReadRecord":
        """The record of a read that shows these layers."""
        weighted = any(weight != 1.0 for layer in shown for weight in layer.weights)
        return cls(
            chunks=tuple(chunks),
            kinds=tuple(kinds),
            similarity=tuple(similarity),
            spans=tuple(layer.spans for layer in shown),
            weights=tuple(layer.weights for layer in shown) if weighted else (),
            picked=tuple(layer.picked for layer in shown),
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that it shares with `Recall` and `RecallTrace`."""
        return {name: getattr(self, name) for name in ("chunks", "kinds", "similarity", "spans", "weights")}


def picked_tokens(pick: LayerPick, chunks: Sequence[int]) -> tuple[Sequence[int] | None, ...]:
    """For each of `chunks`, which of its stored tokens a layer shows; None for all."""
    everything = dict.fromkeys(pick.chunks)
    some = {chunk: array("i", tokens.tolist()) for chunk, tokens in pick.tokens.items()}
    return tuple({**everything, **some}.get(chunk, array("i")) for chunk in chunks)


def shown_tokens(
    picked: Sequence[Sequence[int] | None], counts: Sequence[int], *, drop: float, seed: int, index: int, layer: int
) -> list[Int[Tensor, " _"] | None]:
    """The picked tokens that the random drop leaves, for each chunk of a read; None for all stored tokens.

    Args:
        picked: See `ReadRecord.picked`.
        counts: Stored tokens of each chunk.
        drop: Probability that a token is hidden.
        seed: Seed of the bank.
        index: The chunk that reads.
        layer: Number of the layer.
    """
    tokens: list[Tensor | None] = [None if some is None else torch.tensor(some, dtype=torch.int64) for some in picked]
    if drop == 0.0:
        return tokens
    generator = seeded_generator("drop", seed, index, layer)
    shown: list[Tensor | None] = []
    for some, count in zip(tokens, counts, strict=True):
        left = torch.rand(count if some is None else len(some), generator=generator) >= drop
        shown.append(left.nonzero()[:, 0] if some is None else some[left])
    return shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShownLayer:
    """The tokens that one layer of a read shows, before they are copied."""

    parts: Sequence[StoredLayer]
    """The layer of each chunk, all stored in one form."""
    picked: tuple[Sequence[int] | None, ...]
    """See `ReadRecord.picked`."""
    tokens: Sequence[Int[Tensor, " _"] | None]
    """For each chunk, which of its stored tokens are shown; None for all."""
    weights: tuple[float, ...]
    """Factor of the values of each chunk."""

    @property
    def spans(self) -> tuple[int, ...]:
        """Number of tokens shown of each chunk."""
        pairs = zip(self.parts, self.tokens, strict=True)
        return tuple(part.num_tokens if some is None else len(some) for part, some in pairs)

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """Shapes of the keys and the values as the reader gets them."""
        part = self.parts[0]
        like = (part.key, part.value) if isinstance(part, LayerKV) else (part.key_scale, part.value_scale)
        branches, heads, _, dh = like[0].shape
        sizes = (branches, heads, sum(self.spans), dh)
        key, value = (Shape(sizes, each.dtype, each.device) for each in like)
        return key, value

    def lay_out(self, key: Tensor, value: Tensor) -> LayerKV:
        """Write the layer into `key` and `value`, chunk after chunk (ConcatKV, Eq. 9).

        Each token is copied once; packed tokens are unpacked straight into place.
        """
        positions, start = [], 0
        for part, some, weight, span in zip(self.parts, self.tokens, self.weights, self.spans, strict=True):
            tokens = None if some is None else some.to(part.key.device)
            buffers = key.narrow(2, start, span), value.narrow(2, start, span)  # not split: gradients may pass
            part.write_into(*buffers, tokens)
            if weight != 1.0:
                buffers[1].mul_(weight)
            positions.append(part.position if tokens is None else part.position.index_select(0, tokens))
            start += span
        return LayerKV(key, value, torch.cat(positions))


def shown_layers(
    picks: Sequence[LayerPick],
    chunks: Sequence[int],
    held: Sequence[Sequence[StoredLayer]],
    *,
    drop: float,
    seed: int,
    index: int,
) -> list[ShownLayer]:
    """The tokens that the layers of a read show.

    Args:
        picks: The policy's answer.
        chunks: The chunks that any layer shows.
        held: The stored layers of each chunk.
        drop: Probability that a token is hidden.
        seed: Seed of the bank.
        index: The chunk that reads.
    """
    shown = []
    for number, (pick, *parts) in enumerate(zip(picks, *held, strict=True) if chunks else ()):
        picked = picked_tokens(pick, chunks)
        counts = [part.num_tokens for part in parts]
        shown.append(
            ShownLayer(
                parts=parts,
                picked=picked,
                tokens=shown_tokens(picked, counts, drop=drop, seed=seed, index=index, layer=number),
                weights=tuple(pick.weights.get(chunk, 1.0) for chunk in chunks),
            )
        )
    return shown


def lay_out(shown: Sequence[ShownLayer], buffers: ReadBuffers) -> tuple[LayerKV, ...]:
    """The layers of a recall, in memory of `buffers`."""
    if not shown:
        return ()
    made = buffers.make([shape for layer in shown for shape in layer.shapes])
    return tuple(layer.lay_out(key, value) for layer, key, value in zip(shown, made[::2], made[1::2], strict=True))


def traced(read: ReadRecord, records: Mapping[int, ChunkRecord], *, drop: float, seed: int, index: int) -> RecallTrace:
    """The trace of a read; its token ids count all tokens of a chunk, before salient ones were selected."""
    kept = []
    for layer, picked in enumerate(read.picked):
        stored = [_ids(records[chunk].kept[layer]) for chunk in read.chunks]
        shown = shown_tokens(picked, [len(each) for each in stored], drop=drop, seed=seed, index=index, layer=layer)
        kept.append(
            tuple(
                tokens if some is None else array("i", [tokens[i] for i in some.tolist()])
                for tokens, some in zip(stored, shown, strict=True)
            )
        )
    shares = tuple(
        sum(len(layer[i]) / total for layer, total in zip(kept, records[chunk].num_tokens, strict=True)) / len(kept)
        for i, chunk in enumerate(read.chunks)
    )
    return RecallTrace(index=index, shares=shares, kept=tuple(kept), **read.fields)


def _ids(kept: range | TokenSet) -> Sequence[int]:
    return kept if isinstance(kept, range) else kept.ids()
