"""What a policy may look at, and its answer: chunks, tokens and weights of each layer."""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.policies.standard import Policy
from kvbank.policies.windows import FramePolicy
from kvbank.recall import LayerLike


@dataclass(frozen=True, slots=True, eq=False)
class LayerSummary:
    """Mean key and mean query of each head in one layer of a chunk, over all tokens, before RoPE and selection."""

    key: Float[Tensor, "branches heads dh"]
    """Mean key, float32."""
    query: Float[Tensor, "branches heads dh"] | None
    """Mean query, float32; None if the chunk came without queries."""

    @classmethod
    def of(cls, layer: LayerLike) -> "LayerSummary":
        """The summary of a layer as the model made it."""
        query = None if layer.query is None else layer.query.detach().float().mean(2)
        return cls(layer.key.detach().float().mean(2), query)

    def to(self, device: torch.device | str) -> "LayerSummary":
        """The same on a device."""
        return LayerSummary(self.key.to(device), None if self.query is None else self.query.to(device))

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return self.key.nbytes + (0 if self.query is None else self.query.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerPick:
    """What one layer shows: whole chunks or some of their tokens, at full weight or less."""

    chunks: tuple[int, ...]
    """Ids of the chunks shown in this layer, ascending."""
    tokens: Mapping[int, Int[Tensor, " _"]] = field(default_factory=dict)
    """For chunks that are shown in part, by id: numbers of the stored tokens to show, ascending from 0."""
    weights: Mapping[int, float] = field(default_factory=dict)
    """For chunks that are not shown at full weight, by id: factor of their values; not negative."""


def _no_keys(chunk: int, layer: int) -> Tensor:
    raise ValueError(
        f"this PolicyContext was made without keys, so those of chunk {chunk}, layer {layer}, are not there; pass keys="
    )


def _no_times(chunk: int) -> Tensor:
    raise ValueError(f"this PolicyContext was made without times, so those of chunk {chunk} are not there; pass times=")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyContext:
    """What a policy may look at when chunk `index` reads.

    `KVBank.policy_context` makes one. A test of a policy may make one by hand.
    """

    index: int
    """The chunk that reads."""
    spans: Mapping[int, tuple[int, ...]]
    """Stored tokens in each layer of every chunk that is held and older than the reader, ascending by id."""
    embedding: Float[Tensor, " d"] | None = None
    """Embedding of the reader's prompt."""
    embeddings: Mapping[int, Float[Tensor, " d"] | None] = field(default_factory=dict)
    """Embeddings of the prompts of the chunks held."""
    similarity: Mapping[int, float] = field(default_factory=dict)
    """Cosine similarity of the reader's prompt to those of the chunks held."""
    metadata: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Metadata of each earlier chunk (time, place, pose, shot, latent ...) and, under `index`, of the reader."""
    summaries: Mapping[int, tuple[LayerSummary, ...]] = field(default_factory=dict)
    """Mean keys and queries of each layer of the chunks held, for policies that use them."""
    budget: int | None = None
    """Tokens that a layer may show; None: as many as the policy likes."""
    keys: Callable[[int, int], Float[Tensor, "branches heads tokens dh"]] = _no_keys
    """`keys(chunk, layer)`: the stored keys, before RoPE, on the device where they are held; one layer at a time."""
    times: Callable[[int], Int[Tensor, " tokens"]] = _no_times
    """`times(chunk)`: position in time of each token of a chunk that is stored whole."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Ids of the chunks held, ascending."""
        return tuple(self.spans)

    @property
    def num_layers(self) -> int:
        """Layers of every chunk; 0 if none is held."""
        return len(next(iter(self.spans.values()), ()))

    def in_every_layer(self, chunks: Sequence[int]) -> tuple[LayerPick, ...]:
        """The answer of a policy that shows the same whole chunks in all layers."""
        return (LayerPick(chunks=tuple(chunks)),) * max(1, self.num_layers)

    def num_frames(self, chunks: Sequence[int]) -> dict[int, int]:
        """Latent frames of those chunks that are held; they are stored whole."""
        return {chunk: len(self.times(chunk).unique()) for chunk in chunks if chunk in self.spans}

    def frames_in_every_layer(self, frames: Mapping[int, Set[int]]) -> tuple[LayerPick, ...]:
        """The answer of a policy that shows the same latent frames of chunks, counted from 0, in all layers."""
        tokens = {}
        for chunk, shown in frames.items():
            if chunk not in self.spans:
                continue  # a read refuses it, a prefetch leaves it
            times = self.times(chunk)
            every = times.unique().tolist()
            if len(shown) < len(every):
                wanted = torch.tensor([every[frame] for frame in sorted(shown)], device=times.device)
                tokens[chunk] = torch.isin(times, wanted).nonzero()[:, 0].cpu()
        return (LayerPick(chunks=tuple(sorted(frames)), tokens=tokens),) * max(1, self.num_layers)

    def noted(self, chunk: int, name: str) -> Any:
        """One entry of a chunk's metadata.

        Raises:
            ValueError: If the chunk has no such entry.
        """
        known = self.metadata.get(chunk, {})
        if name not in known:
            raise ValueError(
                f"chunk {chunk} has no {name!r} in its metadata, only {sorted(known)}; "
                f"add it before chunk {self.index} reads: bank.annotate({chunk}, {{{name!r}: ...}})"
            )
        return known[name]

    def within_budget(
        self, ranked: Sequence[int], *, always: Sequence[int], layers: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """The chunks of `always`, and those of `ranked`, best first, until one exceeds the budget.

        Args:
            ranked: Candidates, best first.
            always: Chunks that are shown whatever the budget is.
            layers: Layers that show them; None: all.
        """
        if self.budget is None:
            return tuple(sorted({*always, *ranked}))
        layers = range(self.num_layers) if layers is None else layers
        used = [sum(self.spans[chunk][layer] for chunk in always) for layer in layers]
        fitting = []
        for chunk in ranked:
            used = [so_far + self.spans[chunk][layer] for so_far, layer in zip(used, layers, strict=True)]
            if max(used, default=0) > self.budget:
                break
            fitting.append(chunk)
        return tuple(sorted({*always, *fitting}))


@runtime_checkable
class RecallPolicy(Policy, Protocol):
    """A policy that sees more than prompts and may answer layer by layer.

    A bank calls `recall` in place of `select`. `select` is still a pure function of numbers, as for `Policy`, but of
    scores of the policy's own. `recall` must be pure too: the same context gives the same answer. It must not show a
    chunk that `retains` has refused. `kind` and `retains` see chunk numbers only.
    """

    @property
    def uses_summaries(self) -> bool:
        """Whether the bank must keep a `LayerSummary` of each layer of each chunk."""

    def recall(self, past: PolicyContext) -> tuple[LayerPick, ...]:
        """What each layer shows: one `LayerPick` a layer, or something empty if no chunk is held."""


def check_policy(policy: Policy) -> None:
    """Refuse a policy without all attributes of its protocol, which would be taken for a simpler one.

    Raises:
        TypeError: If attributes of `Policy`, or of `RecallPolicy` where there is a `recall`, are missing.
    """
    names = ["coverage", "drop", "uses_similarity", "select", "kind", "retains"]
    names += ["uses_summaries"] if hasattr(policy, "recall") else []
    if missing := [name for name in names if not hasattr(policy, name)]:
        kind = "RecallPolicy" if hasattr(policy, "recall") else "Policy"
        raise TypeError(f"{policy} has no {', '.join(missing)}; expected all attributes of kvbank.policies.{kind}")


def ask(policy: Policy, past: PolicyContext) -> tuple[LayerPick, ...]:
    """Ask a policy of either kind what each layer shows, and check the answer.

    Raises:
        ValueError: If the answer is not well formed or exceeds the budget.
    """
    if not isinstance(policy, RecallPolicy):
        # Only prefetch asks before all earlier chunks are written; a missing chunk is never the most similar.
        known = [past.similarity.get(chunk, -math.inf) for chunk in range(past.index)] if policy.uses_similarity else ()
        chunks = sorted(set(policy.select(past.index, known)))
        shown = policy.shown_frames(past.index, past.num_frames(chunks)) if isinstance(policy, FramePolicy) else None
        picks = past.in_every_layer(chunks) if shown is None else past.frames_in_every_layer(shown)
    else:
        picks = tuple(policy.recall(past))
        if past.num_layers and len(picks) != past.num_layers:
            raise ValueError(f"{policy} answered for {len(picks)} layers; the chunks held have {past.num_layers}")
    for number, pick in enumerate(picks):
        _check_pick(pick, number, past, policy)
    return picks


def shown_chunks(picks: Sequence[LayerPick]) -> tuple[int, ...]:
    """Chunks that any layer shows, ascending."""
    return tuple(sorted({chunk for pick in picks for chunk in pick.chunks}))


def _check_pick(pick: LayerPick, number: int, past: PolicyContext, policy: Policy) -> None:
    where = f"{policy}, asked for chunk {past.index}, layer {number},"
    if list(pick.chunks) != sorted({chunk for chunk in pick.chunks if 0 <= chunk < past.index}):
        raise ValueError(f"{where} answered chunks {pick.chunks}; expected earlier chunks, ascending, each once")
    if strange := sorted({*pick.tokens, *pick.weights} - {*pick.chunks}):
        raise ValueError(f"{where} gave tokens or weights for chunks {strange}, which it does not show")
    shown = {chunk: past.spans[chunk][number] for chunk in pick.chunks if chunk in past.spans}
    for chunk, tokens in pick.tokens.items():
        fits = tokens.ndim == 1 and tokens.dtype == torch.int64
        ids = tokens.tolist() if fits else []
        if not fits or ids != sorted(set(ids)) or (ids and not 0 <= ids[0] <= ids[-1] < shown.get(chunk, 0)):
            raise ValueError(
                f"{where} answered tokens {tokens} of chunk {chunk}; "
                f"expected int64 ids of its {shown.get(chunk, 0)} stored tokens, ascending, each once"
            )
        shown[chunk] = len(ids)
    for chunk, weight in pick.weights.items():
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"{where} gave chunk {chunk} the weight {weight}; expected a finite number of at least 0")
    if past.budget is not None and sum(shown.values()) > past.budget:
        raise ValueError(
            f"{where} shows {sum(shown.values())} tokens; the budget is {past.budget}. Let the policy show fewer "
            "chunks, store fewer tokens (SalienceOptions.max_tokens), or raise the budget"
        )
