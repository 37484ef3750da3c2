"""The types that a memory takes and gives: layers of keys and values, recalls, traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.inputs import check_floats, check_tensor
from kvbank.kinds import Kind

_NARROW_INTEGERS = (torch.int32, torch.int16, torch.int8, torch.uint8)


@runtime_checkable
class LayerLike(Protocol):
    """Anything with the attributes of `LayerKV`; a model may bring a class of its own."""

    @property
    def key(self) -> Float[Tensor, "branches heads tokens dh"]:
        """Keys before RoPE."""

    @property
    def value(self) -> Float[Tensor, "branches heads tokens dh"]:
        """Values."""

    @property
    def position(self) -> Int[Tensor, "tokens 3"]:
        """Position (t, h, w) of each token."""

    @property
    def query(self) -> Float[Tensor, "branches heads tokens dh"] | None:
        """Queries before RoPE, if there are any."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerKV:
    """Keys and values of one layer, before the rotary embedding.

    Raises:
        ValueError: If the shapes do not agree, or positions are no integers.
        TypeError: If one of them is no tensor, or keys, values or queries are no floating numbers.
    """

    key: Float[Tensor, "branches heads tokens dh"]
    """Keys before RoPE; branches are the guidance pair of one video."""
    value: Float[Tensor, "branches heads tokens dh"]
    """Values."""
    position: Int[Tensor, "tokens 3"]
    """Position (t, h, w) of each token; narrower integers become int64."""
    query: Float[Tensor, "branches heads tokens dh"] | None = None
    """Queries before RoPE, to find salient tokens by; never stored."""

    def __post_init__(self) -> None:
        for name in ("key", "value", "query"):
            if name != "query" or self.query is not None:
                check_floats(getattr(self, name), name)
        check_tensor(self.position, "position")
        if self.key.ndim != 4:
            raise ValueError(f"key has shape {tuple(self.key.shape)}; expected [branches, heads, tokens, dh]")
        for name in ("value", "query"):
            other = getattr(self, name)
            if other is not None and other.shape != self.key.shape:
                raise ValueError(f"{name} has shape {tuple(other.shape)}; the key has {tuple(self.key.shape)}")
        if self.position.dtype in _NARROW_INTEGERS:
            object.__setattr__(self, "position", self.position.long())
        if self.position.shape != (self.key.shape[2], 3) or self.position.dtype != torch.int64:
            raise ValueError(
                f"position is {tuple(self.position.shape)} {self.position.dtype}; "
                f"expected [{self.key.shape[2]}, 3] torch.int64, a (t, h, w) for each token"
            )

    @property
    def num_tokens(self) -> int:
        """Tokens in this layer."""
        return self.key.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and positions."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are stored, by name: keys, values and positions."""
        return {"key": self.key, "value": self.value, "position": self.position}

    def write_into(
        self,
        key: Float[Tensor, "branches heads shown dh"],
        value: Float[Tensor, "branches heads shown dh"],
        tokens: Int[Tensor, " shown"] | None,
    ) -> None:
        """Copy some tokens (None: all) into `key` and `value`."""
        for out, own in ((key, self.key), (value, self.value)):
            out.copy_(own if tokens is None else own.index_select(2, tokens))


def gather_tokens(layer: LayerKV, tokens: Int[Tensor, " kept"] | None) -> LayerKV:
    """A copy of some tokens (None: of all) without queries; it shares no memory with the model."""
    if tokens is None:
        parts = (layer.key, layer.value, layer.position)
        return LayerKV(*(part.clone(memory_format=torch.contiguous_format) for part in parts))
    tokens = tokens.to(layer.key.device)
    key, value = layer.key.index_select(2, tokens), layer.value.index_select(2, tokens)
    return LayerKV(key, value, layer.position.index_select(0, tokens))


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """What one chunk is shown of the chunks before it.

    Layers may show different chunks or tokens. `chunks` then holds every chunk that any layer shows. A layer that does
    not show one of them has a span of 0 there. Order, kinds and slots of the chunks are the same for all layers.
    """

    chunks: tuple[int, ...]
    """Ids of the chunks shown, in chronological order."""
    kinds: tuple[Kind, ...]
    """Why each chunk is shown."""
    similarity: tuple[float | None, ...]
    """Cosine similarity of each chunk's prompt to the reader's; None where an embedding is missing."""
    spans: tuple[tuple[int, ...], ...]
    """`spans[layer][i]`: how many tokens of `chunks[i]` the layer shows."""
    layers: tuple[LayerKV, ...]
    """Keys and values of the tokens shown, concatenated; empty if no chunk is shown. The reader owns these tensors."""
    weights: tuple[tuple[float, ...], ...] = ()
    """`weights[layer][i]`: factor by which the values of `chunks[i]` are multiplied already; () if all are 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallTrace:
    """A recall without its tensors: which tokens of which chunks were shown, and why."""

    index: int
    """The chunk that read."""
    chunks: tuple[int, ...]
    """Ids of the chunks shown, in chronological order."""
    kinds: tuple[Kind, ...]
    """Why each chunk was shown."""
    similarity: tuple[float | None, ...]
    """Cosine similarity of each chunk's prompt to the reader's; None where an embedding is missing."""
    spans: tuple[tuple[int, ...], ...]
    """`spans[layer][i]`: how many tokens of `chunks[i]` the layer showed."""
    shares: tuple[float, ...]
    """Share of each chunk's tokens that was shown, mean over the layers."""
    kept: tuple[tuple[Sequence[int], ...], ...]
    """`kept[layer][i]`: which tokens of `chunks[i]` the layer showed, ascending; a range where it is all of them."""
    weights: tuple[tuple[float, ...], ...] = ()
    """`weights[layer][i]`: factor by which the values of `chunks[i]` were multiplied; () if all are 1."""
