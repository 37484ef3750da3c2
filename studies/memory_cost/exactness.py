"""What packing costs in exactness: attention over real keys, values and queries, taken from a model while it films."""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from bdiff.run.loading import Parts
from bdiff.run.sample import generate_chunks
from bdiff_core import LayerKV, prepare_context
from kvbank import Float8, Int4, Int8, KVBank

FORMATS: dict[str, Int8 | Int4 | Float8] = {"int8": Int8(), "float8": Float8(), "int4": Int4()}


class Listener:
    """A memory that keeps every chunk packed as well, and compares what attention makes of either.

    Args:
        parts: What films; its bank says how it remembers.
        settled: The first chunk whose reads are compared: before it the past is short.
        query_scale: What the queries are multiplied by: sharper attention, as larger models have, shows more error.
    """

    def __init__(self, parts: Parts, *, settled: int, query_scale: float = 1.0) -> None:
        self._parts, self._settled, self._scale = parts, settled, query_scale
        how = {"policy": parts.bank.policy, "rotate": parts.model.rotate, "seed": parts.script.seed}
        self._plain = KVBank(**how)
        self._packed = {name: KVBank(**how, quantization=form) for name, form in FORMATS.items()}
        self._recalls: dict[str, Any] = {}
        self.errors: dict[str, dict[str, list[list[float]]]] = {
            name: {"recalled": [], "with_own": []} for name in FORMATS
        }
        """By format and by what is attended to: for each chunk the relative error of each layer."""

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes held, as they come and in each format."""
        return {"plain": self._plain.nbytes} | {name: bank.nbytes for name, bank in self._packed.items()}

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        """The plain recall."""
        self._recalls = {name: bank.read(index, embedding=embedding) for name, bank in self._packed.items()}
        self._recalls["plain"] = self._plain.read(index, embedding=embedding)
        return self._recalls["plain"]

    def write(self, index: int, layers: Iterable[LayerKV], *, embedding: Tensor | None) -> None:
        """Compare, and keep."""
        whole = list(layers)
        if index >= self._settled:
            self._compare(index, whole)
        for bank in (self._plain, *self._packed.values()):
            bank.write(index, whole, embedding=embedding)

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        """Nothing is far away."""

    def _compare(self, index: int, layers: list[LayerKV]) -> None:
        model, frames = self._parts.model, self._parts.sampling.latent_frames
        contexts = {
            name: prepare_context(recall, model=model, index=index, frames_per_chunk=frames).layers
            for name, recall in self._recalls.items()
        }
        for name in FORMATS:
            found: dict[str, list[float]] = {"recalled": [], "with_own": []}
            for layer, plain, packed in zip(layers, contexts["plain"], contexts[name], strict=True):
                query = self._scale * model.rotate(layer.query, layer.position)
                own = model.rotate(layer.key, layer.position), layer.value
                found["recalled"].append(_error(query, (plain.key, plain.value), (packed.key, packed.value)))
                joined = [
                    tuple(torch.cat(pair, 2) for pair in zip((past.key, past.value), own, strict=True))
                    for past in (plain, packed)
                ]
                found["with_own"].append(_error(query, *joined))
            for kind, errors in found.items():
                self.errors[name][kind].append(errors)


def measure_exactness(parts: Parts, *, num_chunks: int, settled: int = 4, query_scale: float = 1.0) -> dict[str, Any]:
    """Relative error of attention outputs by format and layer, over the chunks of a film from `settled` on."""
    listener = Listener(parts, settled=settled, query_scale=query_scale)
    film = dataclasses.replace(parts, plan=parts.plan[:num_chunks], bank=cast(KVBank, listener))
    for _ in generate_chunks(film):
        pass
    size = listener.nbytes
    return {
        "chunks": num_chunks - settled,
        "query_scale": query_scale,
        "bytes": {name: number / size["plain"] for name, number in size.items()},
        "formats": {
            name: {kind: _summary(errors) for kind, errors in kinds.items()} for name, kinds in listener.errors.items()
        },
    }


def _error(query: Tensor, plain: tuple[Tensor, Tensor], packed: tuple[Tensor, Tensor]) -> float:
    exact = scaled_dot_product_attention(query, *plain)
    return float((scaled_dot_product_attention(query, *packed) - exact).norm() / exact.norm())


def _summary(errors: list[list[float]]) -> dict[str, Any]:
    """Of chunks by layers: the mean of each layer, and over everything."""
    flat = [error for chunk in errors for error in chunk]
    return {
        "layers": [statistics.fmean(layer) for layer in zip(*errors, strict=True)],
        "mean": statistics.fmean(flat),
        "most": max(flat),
    }
