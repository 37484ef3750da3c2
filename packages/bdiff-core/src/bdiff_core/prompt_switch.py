"""What happens to the keys and values of the last chunks when the prompt changes.

They were made under the old prompt. They can be kept, made anew under the new one (LongLive, arXiv 2509.22622), or
forgotten but for the last latent frame (the KV flush of Infinity-RoPE, arXiv 2511.20649).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bdiff_core.context import LayerKV, PlacedLayer, Recall, prepare_context
from bdiff_core.guidance import GuidedModel
from bdiff_core.lengths import Lengths
from bdiff_core.plan import ChunkCondition
from bdiff_core.protocols import Memory

PromptSwitch = Literal["keep", "recompute", "flush"]
Positions = Literal["slots", "absolute"]

_SWITCHES = ("keep", "recompute", "flush")


@dataclass(frozen=True, slots=True)
class Past:
    """Some chunks as a reader is shown them; it is a `Recall`."""

    chunks: tuple[int, ...]
    """Chunk ids in chronological order."""
    kinds: tuple[str, ...]
    """`recent`, `recalled` or `sink`, for each chunk."""
    spans: tuple[tuple[int, ...], ...]
    """`spans[layer][i]`: tokens of chunk i in that layer."""
    layers: tuple[LayerKV, ...]
    """Each layer's chunks, concatenated."""
    similarity: tuple[float | None, ...]
    """How similar the prompt of each chunk is to the reader's; None where the memory does not say."""


Tokens = Int[Tensor, " shown"] | None
"""Numbers of the tokens of a chunk that stay; None: all."""


def part_of(recall: Recall, keep: Callable[[int, str, Int[Tensor, " tokens"]], Tokens | Literal[False]]) -> Past:
    """A recall without some of its chunks and tokens.

    Args:
        recall: The recall.
        keep: ``keep(chunk, kind, time)`` says which tokens of a chunk stay, from their positions in time. False: none,
            and the chunk leaves its slot.
    """
    layers, spans, staying = [], [], [True] * len(recall.chunks)
    similarity = getattr(recall, "similarity", (None,) * len(recall.chunks))
    for stored, lengths in zip(recall.layers, recall.spans, strict=True):
        parts, start = [], 0
        for number, (chunk, kind, length) in enumerate(zip(recall.chunks, recall.kinds, lengths, strict=True)):
            own = slice(start, start + length)
            shown = keep(chunk, kind, stored.position[own, 0])
            start += length
            if shown is False:
                staying[number] = False
                continue
            parts.append(torch.arange(length) + own.start if shown is None else shown.cpu() + own.start)
        spans.append(tuple(map(len, parts)))
        tokens = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        layers.append(_tokens_of(stored, tokens.to(stored.key.device)))
    left = [number for number, stays in enumerate(staying) if stays]
    return Past(
        chunks=tuple(recall.chunks[number] for number in left),
        kinds=tuple(recall.kinds[number] for number in left),
        spans=tuple(spans),
        layers=tuple(layers) if left else (),
        similarity=tuple(similarity[number] for number in left),
    )


def _tokens_of(layer: PlacedLayer, tokens: Int[Tensor, " shown"]) -> LayerKV:
    key, value = layer.key.index_select(2, tokens), layer.value.index_select(2, tokens)
    return LayerKV(key=key, value=value, position=layer.position.index_select(0, tokens.to(layer.position.device)))


class PromptChange:
    """Follows the prompts of a video, and changes what a chunk sees of the past once they change.

    Args:
        mode: `keep` changes nothing. `recompute`: the chunks that the last chunk saw as recent, and that chunk itself,
            get the keys and values that the model gives them under the new prompt, and the memory is told. Sink and
            recalled chunks stay as they are. `flush`: of the recent chunks from before the change only the last latent
            frame of the last one is shown, to all later chunks. Sink and recalled chunks stay. A chunk counts as sink
            from when the memory says so; before that it is recent.
        positions: How chunks are placed, see `prepare_context`.
        lengths: Latent frames of each chunk.
        before: The chunks before the first one that is made.
        latents: Clean latents ``[1 c t h w]`` of those that `recompute` would make anew, by their index.

    Raises:
        ValueError: If there is no such mode.
    """

    def __init__(
        self,
        mode: PromptSwitch,
        *,
        positions: Positions,
        lengths: Lengths,
        before: Sequence[ChunkCondition] = (),
        latents: Mapping[int, Tensor] | None = None,
    ) -> None:
        if mode not in _SWITCHES:
            raise ValueError(f"prompt_switch is {mode!r}; expected one of {', '.join(_SWITCHES)}")
        self._mode, self._positions, self._lengths = mode, positions, lengths
        self._conditions = {condition.index: condition for condition in before}
        self._latents = dict(latents or {})
        self._cut = 0
        for earlier, condition in pairwise(before):
            if not _same_prompt(earlier, condition):
                self._cut = condition.index

    def arrive(self, chunk: ChunkCondition, guided: GuidedModel, memory: Memory, *, level: float) -> None:
        """Note a chunk before the memory is read for it, and recompute if its prompt is a new one.

        Args:
            chunk: The chunk to come.
            guided: The model under its prompt.
            memory: Gets the new keys and values.
            level: Level that the model is told when it makes keys and values.

        Raises:
            ValueError: If the latents of the last chunk are not there.
        """
        last = self._conditions.get(chunk.index - 1)
        if last is not None and not _same_prompt(last, chunk):
            self._cut = chunk.index
            if self._mode == "recompute":
                self._recompute(chunk, guided, memory, level=level)
        self._conditions[chunk.index] = chunk

    def shown(self, recall: Recall) -> tuple[Recall, dict[int, int] | None]:
        """What a chunk sees of what the memory gives it, and the latent frames of each chunk for `prepare_context`."""
        slots = self._positions == "slots"
        frames = self._lengths.of_each(*recall.chunks) if slots else None
        last = self._cut - 1
        if self._mode != "flush" or not recall.layers or min(recall.chunks) > last:
            return recall, frames
        frame = (0 if slots else self._lengths.before(last)) + self._lengths.of(last) - 1

        def keep(chunk: int, kind: str, time: Int[Tensor, " tokens"]) -> Tokens | Literal[False]:
            if kind != "recent" or chunk > last:
                return None
            return (time == frame).nonzero()[:, 0] if chunk == last else False

        left = part_of(recall, keep)
        if frames is None or last not in left.chunks:
            return left, frames
        # It lies alone at one position, as if its chunk had one frame.
        return _from_0(left, last), frames | {last: 1}

    def leave(self, chunk: ChunkCondition, latents: Float[Tensor, "1 c t h w"], recall: Recall) -> None:
        """Note a finished chunk, and forget what no later change of the prompt needs."""
        if self._mode == "recompute":
            recent = {c for c, kind in zip(recall.chunks, recall.kinds, strict=True) if kind == "recent"}
            self._latents = {c: given for c, given in self._latents.items() if c in recent}
            self._latents[chunk.index] = latents.detach()
        needed = {chunk.index, *self._latents}
        self._conditions = {index: condition for index, condition in self._conditions.items() if index in needed}

    def _recompute(self, chunk: ChunkCondition, guided: GuidedModel, memory: Memory, *, level: float) -> None:
        again = [index for index in sorted(self._latents) if index < chunk.index]
        if not again or again != list(range(again[0], chunk.index)):
            raise ValueError(
                f"the prompt changes at chunk {chunk.index}; to recompute the chunks before it their latents are "
                f"needed, at least those of chunk {chunk.index - 1}; got chunks {again}"
            )
        if lacking := [index for index in again if index not in self._conditions]:
            raise ValueError(f"the conditions of chunks {lacking} are needed to recompute them; add them to `before`")
        recall = memory.read(chunk.index, embedding=chunk.embedding)
        others = part_of(recall, lambda index, kind, _: False if kind == "recent" or index >= again[0] else None)
        made: dict[int, tuple[LayerKV, ...]] = {}
        for index in again:
            seen = _followed_by(others, made)
            lengths = self._lengths.of_each(*seen.chunks) if self._positions == "slots" else None
            context = prepare_context(
                seen, model=guided.model, index=index, positions=self._positions, frames_per_chunk=lengths
            )
            start = self._lengths.before(index) if self._positions == "absolute" else 0
            here = replace(guided, context=context, start=start)
            x = self._latents[index].to(next(guided.model.parameters()))
            made[index] = tuple(here.keys_values(x, level=level))
        for index, layers in made.items():
            memory.write(index, layers, embedding=self._conditions[index].embedding)


def _from_0(past: Past, chunk: int) -> Past:
    """The same with the tokens of a chunk of one frame at time 0."""
    number, layers = past.chunks.index(chunk), []
    for layer, spans in zip(past.layers, past.spans, strict=True):
        position, start = layer.position.clone(), sum(spans[:number])
        position[start : start + spans[number], 0] = 0
        layers.append(replace(layer, position=position))
    return replace(past, layers=tuple(layers))


def _same_prompt(one: ChunkCondition, other: ChunkCondition) -> bool:
    return one.text.shape == other.text.shape and torch.equal(one.text, other.text)


def _followed_by(past: Past, made: Mapping[int, Sequence[LayerKV]]) -> Past:
    """Chunks followed by recent ones."""
    per_layer: Iterable[tuple[LayerKV, ...]] = zip(*made.values(), strict=True)
    if not made:
        return past
    added = [list(layers) for layers in per_layer]
    earlier = [[layer] for layer in past.layers] or [[] for _ in added]
    layers = [_joined([*old, *new]) for old, new in zip(earlier, added, strict=True)]
    spans = past.spans if past.layers else ((),) * len(added)
    return Past(
        chunks=(*past.chunks, *made),
        kinds=(*past.kinds, *("recent",) * len(made)),
        spans=tuple((*old, *(len(layer.position) for layer in new)) for old, new in zip(spans, added, strict=True)),
        layers=tuple(layers),
        similarity=(*past.similarity, *(None,) * len(made)),
    )


def _joined(layers: Sequence[LayerKV]) -> LayerKV:
    return LayerKV(
        key=torch.cat([layer.key for layer in layers], dim=2),
        value=torch.cat([layer.value for layer in layers], dim=2),
        position=torch.cat([layer.position for layer in layers]),
    )
