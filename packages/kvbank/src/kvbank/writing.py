"""From the layers of a chunk to what a bank stores of them."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.inputs import check_floats, check_tensor, is_finite
from kvbank.policies.context import LayerSummary, RecallPolicy
from kvbank.quantization import StoredLayer
from kvbank.reading import ChunkRecord
from kvbank.recall import LayerKV, LayerLike, gather_tokens
from kvbank.salience import salient_tokens
from kvbank.seeds import seeded_generator
from kvbank.settings import Settings
from kvbank.token_set import TokenSet

Rotate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WrittenChunk:
    """A chunk ready to be stored, and the chunks that are freed with it."""

    index: int
    """Its number."""
    record: ChunkRecord
    """What stays known of it."""
    embedding: Float[Tensor, " d"] | None
    """Embedding of its prompt; the bank's own copy."""
    summaries: tuple[LayerSummary, ...]
    """Summaries of its layers, if the policy uses them."""
    layers: tuple[StoredLayer, ...]
    """Its layers as they are stored."""
    frees: tuple[int, ...]
    """Chunks, perhaps this one, that no later chunk can see."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkWriter:
    """Cuts chunks down to their salient tokens and packs them."""

    settings: Settings
    """Settings of the bank."""
    rotate: Rotate | None
    """The model's RoPE, to score salience."""

    @property
    def summarizes(self) -> bool:
        """Whether the policy uses summaries."""
        policy = self.settings.policy
        return isinstance(policy, RecallPolicy) and policy.uses_summaries

    def written(
        self,
        index: int,
        layers: Iterable[LayerLike],
        *,
        embedding: Float[Tensor, " d"] | None,
        metadata: dict,
        held: Iterable[int],
    ) -> WrittenChunk:
        """A chunk as it will be stored; nothing is shared with the model.

        Args:
            index: Its number.
            layers: As the model hands them over, consumed one by one.
            embedding: Embedding of its prompt.
            metadata: What is attached to it.
            held: The chunks that the bank holds; those before this one stay.

        Raises:
            ValueError: If a layer has no tokens, no queries where they are needed, or numbers that are not finite.
            TypeError: If a layer lacks something, or what it has is no tensor.
        """
        stored, num_tokens, summaries = [], [], []
        kept: list[range | TokenSet] = []
        for number, layer in enumerate(layers):
            whole = self._whole(layer, f"layer {number} of chunk {index}")
            tokens = self._salient(whole, index, number)
            stored.append(self._as_stored(whole, tokens))
            if self.summarizes:
                summaries.append(LayerSummary.of(whole))
            if tokens is None or len(tokens) == whole.num_tokens:
                kept.append(range(whole.num_tokens))
            else:
                kept.append(TokenSet.of(tokens, whole.num_tokens))
            num_tokens.append(whole.num_tokens)
        before = [each for each in held if each < index]
        return WrittenChunk(
            index=index,
            record=ChunkRecord(num_tokens=tuple(num_tokens), kept=tuple(kept), metadata=metadata),
            embedding=None if embedding is None else embedding.detach().to("cpu", copy=True),
            summaries=tuple(summaries),
            layers=tuple(stored),
            frees=tuple(each for each in (*before, index) if not self.settings.policy.retains(index + 1, each)),
        )

    def _whole(self, layer: LayerLike, where: str) -> LayerKV:
        """Check a layer as it came, and return it as a `LayerKV`; queries are checked where they are used."""
        if missing := [name for name in ("key", "value", "position", "query") if not hasattr(layer, name)]:
            raise TypeError(f"{where} is a {type(layer).__name__} without {', '.join(missing)}; expected a LayerKV")
        for name in ("key", "value"):
            check_floats(getattr(layer, name), f"{name} of {where}")
        if layer.query is not None:
            check_floats(layer.query, f"query of {where}")
        check_tensor(layer.position, f"position of {where}")
        whole = LayerKV(layer.key, layer.value, layer.position.to(layer.key.device), query=layer.query)
        if whole.num_tokens == 0:
            raise ValueError(f"{where} has no tokens; a chunk is never empty")
        used = {"key": whole.key, "value": whole.value}
        if whole.query is not None and (self.settings.policy.coverage is not None or self.summarizes):
            used["query"] = whole.query
        if not is_finite(*used.values()):
            names = [name for name, tensor in used.items() if not is_finite(tensor)]
            raise ValueError(f"{' and '.join(names)} of {where} hold numbers that are not finite: NaN or infinity")
        return whole

    def _salient(self, layer: LayerKV, chunk: int, number: int) -> Int[Tensor, " kept"] | None:
        """Tokens of one layer to store; None for all of them."""
        policy, salience = self.settings.policy, self.settings.salience
        if policy.coverage is None:
            return None
        if layer.query is None:
            if policy.coverage == 1.0 and salience.max_tokens is None:
                return None  # all of the attention, whatever the queries are
            raise ValueError(
                f"layer {number} of chunk {chunk} has no query; {policy} needs queries to find salient tokens"
            )
        query, key = layer.query, layer.key
        if self.rotate is not None:
            with torch.no_grad():
                query, key = self.rotate(query, layer.position), self.rotate(key, layer.position)
        generator = seeded_generator("probes", self.settings.seed, chunk, number)
        return salient_tokens(query, key, coverage=policy.coverage, generator=generator, **asdict(salience))

    def _as_stored(self, layer: LayerKV, tokens: Int[Tensor, " kept"] | None) -> StoredLayer:
        """A copy of some tokens (None: of all), packed if the bank has a quantization."""
        quantization = self.settings.quantization
        if quantization is None:
            return gather_tokens(layer, tokens)
        return quantization.pack(layer if tokens is None else gather_tokens(layer, tokens))


def missing_rotate(x: Tensor, position: Tensor) -> Tensor:
    """Takes the place of `rotate` in a bank that was saved with one and loaded without; raises when called."""
    raise ValueError("this bank was saved with a rotate; give it to KVBank.load(path, rotate=...) before writing")
