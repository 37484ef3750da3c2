"""Keys and values of earlier chunks: stored before rotary positions, placed and rotated once per generated chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys and values of one layer before rotary positions, so that they can be placed anywhere later."""

    key: Float[Tensor, "branches heads tokens dh"]
    value: Float[Tensor, "branches heads tokens dh"]
    position: Int[Tensor, "tokens 3"]
    """Time (latent frames), row and column of each token, in tokens."""
    query: Float[Tensor, "branches heads tokens dh"] | None = None
    """The chunk's own queries; a memory may use them to decide which tokens to keep."""


@runtime_checkable
class PlacedLayer(Protocol):
    """Keys and values of one layer, and where their tokens sit; every `LayerKV` is one."""

    @property
    def key(self) -> Float[Tensor, "branches heads tokens dh"]:
        """Keys before rotary positions."""

    @property
    def value(self) -> Float[Tensor, "branches heads tokens dh"]:
        """Values."""

    @property
    def position(self) -> Int[Tensor, "tokens 3"]:
        """Time, row and column of each token."""


@runtime_checkable
class Recall(Protocol):
    """What a memory gives for one chunk; `kvbank.Recall` is one."""

    @property
    def chunks(self) -> Sequence[int]:
        """Chunk ids in chronological order."""

    @property
    def kinds(self) -> Sequence[str]:
        """`recent`, `recalled` or `sink`, for each chunk."""

    @property
    def spans(self) -> Sequence[Sequence[int]]:
        """`spans[layer][i]`: tokens of chunk i in that layer."""

    @property
    def layers(self) -> Sequence[PlacedLayer]:
        """Each layer's chunks, concatenated in the order of `chunks`; empty when there are none."""


class ContextLayer:
    """One layer's rotated keys and values of earlier chunks, with space behind them for those of the current chunk."""

    def __init__(self, key: Tensor, value: Tensor, *, reserve: int = 0) -> None:
        self.length = key.shape[2]
        self._key, self._value = key, value
        if reserve:
            self._grow(reserve)

    @property
    def key(self) -> Float[Tensor, "branches heads tokens dh"]:
        """Rotated keys of the earlier chunks."""
        return self._key[:, :, : self.length]

    @property
    def value(self) -> Float[Tensor, "branches heads tokens dh"]:
        """Values of the earlier chunks."""
        return self._value[:, :, : self.length]

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the earlier chunks followed by the given ones.

        Without gradients the given ones are written into the space behind the earlier ones, so that the steps of a
        chunk copy nothing else; the next call overwrites them. With gradients everything is concatenated, since the
        backward pass needs what a later call would overwrite.
        """
        if key.shape[:2] != self._key.shape[:2]:
            raise ValueError(
                f"the context has {self._key.shape[0]} branches of {self._key.shape[1]} heads; "
                f"the latents have a batch of {key.shape[0]} and the model {key.shape[1]} heads"
            )
        if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad or self._key.requires_grad):
            own = self.key.to(key.dtype), self.value.to(value.dtype)
            return torch.cat((own[0], key), dim=2), torch.cat((own[1], value), dim=2)
        end = self.length + key.shape[2]
        if self._key.shape[2] < end or self._key.dtype != key.dtype:
            self._key, self._value = self._key.to(key.dtype), self._value.to(value.dtype)
            self._grow(key.shape[2])
        self._key[:, :, self.length : end] = key
        self._value[:, :, self.length : end] = value
        return self._key[:, :, :end], self._value[:, :, :end]

    def _grow(self, reserve: int) -> None:
        key = self._key.new_empty((*self._key.shape[:2], self.length + reserve, self._key.shape[3]))
        value = torch.empty_like(key)
        key[:, :, : self.length] = self.key.detach()
        value[:, :, : self.length] = self.value.detach()
        self._key, self._value = key, value


@runtime_checkable
class RotaryModel(Protocol):
    """What `prepare_context` needs of a model."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype in which the model attends."""

    def rotate(
        self, x: Float[Tensor, "*batch tokens dh"], position: Int[Tensor, "tokens 3"]
    ) -> Float[Tensor, "*batch tokens dh"]:
        """Apply rotary positions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Earlier chunks as one generated chunk sees them: constant while that chunk is denoised."""

    layers: tuple[ContextLayer, ...]
    """One for each layer of the model; empty when there is nothing to see."""
    positions: Literal["slots", "absolute"]
    """`slots`: run the chunk with `start=0`. `absolute`: with `start` at the number of latent frames before it."""


def chunk_slots(kinds: Sequence[str]) -> tuple[int, ...]:
    """Positions of chunks relative to the current one, which is at 0.

    Recent chunks are at -1, -2, ..., and the other chunks right before them.

    Both groups keep the chronological order in which `kinds` lists them: three recalled and two recent chunks have the
    slots -5, -4, -3, -2, -1.
    """
    num_recent = sum(kind == "recent" for kind in kinds)
    next_recent, next_other = -num_recent, -len(kinds)
    placed = []
    for kind in kinds:
        if kind == "recent":
            placed.append(next_recent)
            next_recent += 1
        else:
            placed.append(next_other)
            next_other += 1
    return tuple(placed)


def _frames_per_chunk(recall: Recall) -> int:
    """Frames of a chunk, as far as the positions of the recalled tokens tell."""
    parts: dict[int, list[Tensor]] = {chunk: [] for chunk in recall.chunks}
    for stored, spans in zip(recall.layers, recall.spans, strict=True):
        for chunk, position in zip(recall.chunks, stored.position.split(list(spans)), strict=True):
            parts[chunk].append(position)
    places = {chunk: torch.cat(layers).unique(dim=0) for chunk, layers in parts.items()}
    places = {chunk: place for chunk, place in places.items() if len(place)}
    if not places:
        return 1  # nothing to place
    ends = {chunk: (int(place[0, 0]), int(place[-1, 0])) for chunk, place in places.items()}
    extent = max(last - first + 1 for first, last in ends.values())
    fewest = max(extent, *(last // (chunk + 1) + 1 for chunk, (_, last) in ends.items()))
    if max(ends) > 0 and all(chunk * fewest <= first for chunk, (first, _) in ends.items()):
        return fewest  # stored at absolute positions
    most = max(map(len, places.values()))
    if most > 1 and most == extent * len(torch.cat(list(places.values()))[:, 1:].unique(dim=0)):
        return extent  # a chunk is there as a whole
    return max(last for _, last in ends.values()) + 1  # stored from 0


def chunk_starts(kinds: Sequence[str], frames: Sequence[int]) -> tuple[int, ...]:
    """Position in time of the first latent frame of each chunk, relative to the current chunk, which starts at 0.

    The chunks lie end to end, in the order of `chunk_slots`.

    Args:
        kinds: Kind of each chunk.
        frames: Latent frames of each chunk.
    """
    starts, end = [0] * len(kinds), 0
    for _slot, number in sorted(((slot, number) for number, slot in enumerate(chunk_slots(kinds))), reverse=True):
        end -= frames[number]
        starts[number] = end
    return tuple(starts)


def _placed(
    position: Int[Tensor, "tokens 3"], spans: Sequence[int], *, starts: Sequence[int], frames: Sequence[int]
) -> Int[Tensor, "tokens 3"]:
    """Positions with each chunk moved to its start, whether they were stored as absolute ones or from 0."""
    counts = torch.tensor(list(spans))
    start, length = (
        torch.tensor(list(each)).repeat_interleave(counts).to(position.device) for each in (starts, frames)
    )
    return torch.cat(((start + position[:, 0] % length)[:, None], position[:, 1:]), dim=1)


def _frames_of_each(recall: Recall, frames_per_chunk: int | Mapping[int, int] | None) -> tuple[int, ...]:
    """Latent frames of each recalled chunk."""
    if not isinstance(frames_per_chunk, Mapping):
        return (_frames_per_chunk(recall) if frames_per_chunk is None else frames_per_chunk,) * len(recall.chunks)
    if missing := [chunk for chunk in recall.chunks if chunk not in frames_per_chunk]:
        raise ValueError(f"frames_per_chunk lacks chunks {missing}; expected the frames of every recalled chunk")
    frames = tuple(frames_per_chunk[chunk] for chunk in recall.chunks)
    if len(set(frames)) > 1:
        _check_from_0(recall, frames)
    return frames


def _check_from_0(recall: Recall, frames: Sequence[int]) -> None:
    """Refuse absolute positions of chunks of unequal length: which frame of its chunk a token is cannot be seen."""
    for stored, spans in zip(recall.layers, recall.spans, strict=True):
        for chunk, length, position in zip(recall.chunks, frames, stored.position.split(list(spans)), strict=True):
            if len(position) and int(position[:, 0].max()) >= length:
                raise ValueError(
                    f"chunk {chunk} has {length} latent frames and a token at {int(position[:, 0].max())}; with chunks "
                    "of unequal length slots need positions that were stored from 0 (start=0)"
                )


def prepare_context(
    recall: Recall,
    *,
    model: RotaryModel,
    index: int,
    positions: Literal["slots", "absolute"] = "slots",
    frames_per_chunk: int | Mapping[int, int] | None = None,
    reserve: int = 0,
) -> Context:
    """Place recalled keys and rotate them, once for all denoising steps of a chunk.

    *Slots* puts recent chunks at -1, -2, ... and the others chronologically right before them, wherever in the video
    they come from (see `chunk_slots`); run the chunk itself with `start=0`. Only time moves: a token keeps its frame
    within its chunk, its row and its column. The chunks lie end to end whatever their lengths: starts are sums of
    lengths, and a first chunk of one frame takes the one position right before the chunk after it. *Absolute* uses
    positions as they were stored; run the chunk with `start` at the number of latent frames before it, there and when
    storing it.

    Args:
        recall: What the memory gives for this chunk.
        model: The model whose rotary positions and dtype are used.
        index: Number of the chunk to come; all recalled chunks must be earlier.
        positions: `slots` or `absolute`.
        frames_per_chunk: Latent frames of every chunk, for `slots`; `generate` gives it. A mapping holds those of
            each recalled chunk. None: the fewest that a chunk can have, given the recalled
            tokens. That is exact if all chunks have as many and some layer recalls a token of a chunk's last frame.
        reserve: Tokens of the chunk to come: space for its keys is allocated now. With 0 the first step does it.

    Raises:
        ValueError: If a recalled chunk is not earlier, `positions` is neither, or a length is missing or does not fit.
    """
    if positions not in ("slots", "absolute"):
        raise ValueError(f"positions is {positions!r}; expected 'slots' or 'absolute'")
    late = [chunk for chunk in recall.chunks if chunk >= index]
    if late:
        raise ValueError(f"chunk {index} cannot see chunks {late}: a context holds earlier chunks only")
    if not recall.layers:
        return Context(layers=(), positions=positions)
    frames = _frames_of_each(recall, frames_per_chunk) if positions == "slots" else ()
    starts = chunk_starts(recall.kinds, frames) if positions == "slots" else ()
    layers = []
    for stored, spans in zip(recall.layers, recall.spans, strict=True):
        position = stored.position
        if positions == "slots":
            position = _placed(position, spans, starts=starts, frames=frames)
        key = model.rotate(stored.key.to(model.compute_dtype), position)
        layers.append(ContextLayer(key, stored.value.to(model.compute_dtype), reserve=reserve))
    return Context(layers=tuple(layers), positions=positions)
