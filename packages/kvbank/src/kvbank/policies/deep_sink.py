"""A policy with a long sink, and single tokens from between the sink and the window."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.kinds import Kind
from kvbank.policies.context import LayerPick, PolicyContext
from kvbank.policies.standard import Similarity, check_count, kind_of, last_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSink:
    """A sink as long as the window, and single tokens from between (Deep Forcing, arXiv 2512.05081).

    Sink and window are shown whole. From the chunks between them each layer shows the `num_tokens` tokens whose keys
    agree most with the queries of the window, before RoPE (Participative Compression). Deep Forcing forgets the other
    tokens. Here stored tokens stay as they are, so a token may be shown again later, and `reach` bounds the memory.
    The reader decides the positions: slots move the sink next to the window, as Deep Forcing does.

    Layers show different tokens, and may show none of a chunk: its span in that layer is then 0.

    Raises:
        ValueError: If a count is negative, or no chunk recent.
        TypeError: If a count is no integer.
    """

    num_sink: int = 2
    """Chunks from the start of the video; in Deep Forcing they are half of the chunks seen."""
    num_recent: int = 2
    """Chunks right before the current one, whose queries score the tokens; at least 1."""
    num_tokens: int | None = None
    """Tokens shown from between; None: as many as the bank's budget leaves."""
    reach: int | None = None
    """How many chunks before the window are candidates, and kept; None: all."""

    coverage: ClassVar[None] = None
    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False
    uses_summaries: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("num_sink", self.num_sink)
        check_count("num_recent", self.num_recent, least=1)
        for name in ("num_tokens", "reach"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))

    def select(self, index: int, similarity: Similarity = ()) -> tuple[int, ...]:
        """Every chunk of which a layer may show tokens: sink, candidates and window."""
        return tuple(chunk for chunk in range(last_chunks(index, index).stop) if self.retains(index, chunk))

    def kind(self, index: int, chunk: int) -> Kind:
        """`recent`, else `sink`, else `recalled`."""
        return kind_of(index, chunk, num_recent=self.num_recent, num_sink=self.num_sink)

    def retains(self, index: int, chunk: int) -> bool:
        """The sink, the window, and as many chunks before it as `reach` says."""
        recent = self.kind(index, chunk) != "recalled"
        return recent or self.reach is None or chunk >= index - self.num_recent - self.reach

    def recall(self, past: PolicyContext) -> tuple[LayerPick, ...]:
        """For each layer, sink and window whole and the best tokens from between; ties go to the newest.

        Raises:
            ValueError: If chunks came without queries, or if neither `num_tokens` nor a budget is given.
        """
        chunks = self.select(past.index)
        candidates = [chunk for chunk in chunks if self.kind(past.index, chunk) == "recalled"]
        if not candidates:
            return past.in_every_layer(chunks)
        whole = [chunk for chunk in chunks if chunk not in candidates]
        return tuple(self._pick(past, layer, whole, candidates) for layer in range(past.num_layers))

    def _pick(self, past: PolicyContext, layer: int, whole: list[int], candidates: list[int]) -> LayerPick:
        count = self.num_tokens
        if past.budget is not None:
            left = max(0, past.budget - sum(past.spans[chunk][layer] for chunk in whole))
            count = left if count is None else min(count, left)
        if count is None:
            raise ValueError(f"{self} has no num_tokens and the bank no budget; set one of them")
        tokens = self._best_tokens(past, layer, candidates, count) if count else {}
        return LayerPick(chunks=tuple(sorted([*whole, *tokens])), tokens=tokens)

    def _best_tokens(
        self, past: PolicyContext, layer: int, candidates: list[int], count: int
    ) -> dict[int, Int[Tensor, " _"]]:
        query = self._query(past, layer)
        scores = []
        for chunk in reversed(
            candidates
        ):  # newest first, and in a chunk the last token first, so that ties go to the newest
            key = past.keys(chunk, layer)
            products = torch.einsum("bhnd,bhd->n", key.float(), query.to(key.device))
            scores.append(products.flip(0).cpu())  # chunks may lie on several tiers
        order = torch.sort(torch.cat(scores), descending=True, stable=True).indices[:count]
        taken = torch.zeros(sum(map(len, scores)), dtype=torch.bool).index_fill_(0, order, True)
        parts = taken.split([len(part) for part in scores])
        shown = {chunk: part.flip(0).nonzero()[:, 0] for chunk, part in zip(reversed(candidates), parts, strict=True)}
        return {chunk: tokens for chunk, tokens in shown.items() if len(tokens)}

    def _query(self, past: PolicyContext, layer: int) -> Float[Tensor, "branches heads dh"]:
        """Sum of the mean queries of the window; its product with a key is the sum of their products with it."""
        window = last_chunks(past.index, self.num_recent)
        queries = [query for chunk in window if (query := past.summaries[chunk][layer].query) is not None]
        if len(queries) < len(window):
            raise ValueError(f"chunks before {past.index} came without queries; {self} needs those of every chunk")
        return torch.stack(queries).sum(0)
