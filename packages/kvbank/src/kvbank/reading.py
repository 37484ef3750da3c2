"""From what a policy picks to what a reader gets, and what a bank remembers of it."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from kvbank.past import LayerPick
from kvbank.policies import Kind
from kvbank.quantization import StoredLayer, unpack_layers
from kvbank.recall import LayerKV, RecallTrace, concatenate, gather_tokens
from kvbank.seeds import seeded_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRecord:
    """What a bank knows of a chunk that it wrote, whether or not it still holds it."""

    num_tokens: tuple[int, ...]
    """Tokens of each layer before selection."""
    kept: tuple[Sequence[int], ...]
    """Which of them each layer stored: a range for all, else an array of int32."""
    metadata: dict[str, Any]
    """What the writer attached, and notes added since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecord:
    """A recall without its tensors, and enough to say which tokens it showed."""

    chunks: tuple[int, ...]
    """Ids of the chunks shown, ascending."""
    kinds: tuple[Kind, ...]
    """Why each of them was shown."""
    similarity: tuple[float | None, ...]
    """Cosine similarity of each one's prompt to the reader's."""
    spans: tuple[tuple[int, ...], ...]
    """`spans[layer][i]`: tokens of `chunks[i]` shown."""
    weights: tuple[tuple[float, ...], ...]
    """`weights[layer][i]`: what its values were multiplied by; () if by 1 throughout."""
    picked: tuple[tuple[Sequence[int] | None, ...], ...]
    """`picked[layer][i]`: which of its stored tokens the policy picked, before the drop; None for all."""


def picked_tokens(pick: LayerPick, chunks: Sequence[int]) -> tuple[Sequence[int] | None, ...]:
    """For each of `chunks`, which of its stored tokens a layer shows; None for all."""
    everything = dict.fromkeys(pick.chunks)
    some = {chunk: array("i", tokens.tolist()) for chunk, tokens in pick.tokens.items()}
    return tuple({**everything, **some}.get(chunk, array("i")) for chunk in chunks)


def shown_tokens(
    picked: Sequence[Sequence[int] | None], counts: Sequence[int], *, drop: float, seed: int, index: int, layer: int
) -> list[Int[Tensor, " _"] | None]:
    """What of the picked tokens the random drop leaves, for each chunk of a read; None for all stored tokens.

    Args:
        picked: See `ReadRecord.picked`.
        counts: Stored tokens of each chunk.
        drop: Probability that a token is hidden.
        seed: Of the bank.
        index: The chunk that reads.
        layer: Number of the layer.
    """
    tokens = [None if some is None else torch.tensor(some, dtype=torch.int64) for some in picked]
    if drop == 0.0:
        return tokens
    generator = seeded_generator("drop", seed, index, layer)
    shown = []
    for some, count in zip(tokens, counts, strict=True):
        left = torch.rand(count if some is None else len(some), generator=generator) >= drop
        shown.append(left.nonzero()[:, 0] if some is None else some[left])
    return shown


def lay_out(
    parts: Sequence[StoredLayer], tokens: Sequence[Int[Tensor, " _"] | None], weights: Sequence[float]
) -> LayerKV:
    """One layer as the reader gets it: some tokens (None: all) of each chunk, one after the other, in new tensors.

    What is packed is unpacked straight into these tensors.

    Args:
        parts: The layer of each chunk, all stored in one form.
        tokens: Which of its tokens each shows.
        weights: What the values of each are multiplied by.
    """
    if isinstance(parts[0], LayerKV):
        laid = concatenate(
            [part if some is None else gather_tokens(part, some) for part, some in zip(parts, tokens, strict=True)]
        )
    else:
        laid = unpack_layers(parts, tokens)
    start = 0
    for part, some, weight in zip(parts, tokens, weights, strict=True):
        span = part.num_tokens if some is None else len(some)
        if weight != 1.0:
            laid.value.narrow(2, start, span).mul_(weight)  # narrow, not split: gradients may pass
        start += span
    return laid


def traced(read: ReadRecord, records: Mapping[int, ChunkRecord], *, drop: float, seed: int, index: int) -> RecallTrace:
    """The read in token ids of the chunks as they were written, before salient tokens were kept."""
    kept = []
    for layer, picked in enumerate(read.picked):
        stored = [records[chunk].kept[layer] for chunk in read.chunks]
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
    fields = {name: getattr(read, name) for name in ("chunks", "kinds", "similarity", "spans", "weights")}
    return RecallTrace(index=index, shares=shares, kept=tuple(kept), **fields)
