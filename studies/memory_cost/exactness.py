"""What packing costs in exactness: attention over the keys, values and queries of a model while it samples."""

import statistics
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from bdiff.run import LoadedRun, generate_chunks, make_memory
from bdiff_core import LayerKV, prepare_context
from kvbank import Float8, Int4, Int8

FORMATS: dict[str, Int8 | Int4 | Float8] = {"int8": Int8(), "float8": Float8(), "int4": Int4()}
"""Packed formats by name."""


class ComparedMemory:
    """A memory that also keeps every chunk packed, and compares the attention over both.

    Args:
        run: The run that is sampled.
        settled: The first chunk whose reads are compared; before it the past is short.
        query_scale: Factor of the queries. Larger models attend more sharply, and sharper attention shows more error.
    """

    def __init__(self, run: LoadedRun, *, settled: int, query_scale: float = 1.0) -> None:
        self._run, self._settled, self._scale = run, settled, query_scale
        policy, seed = run.spec.make_policy(), run.spec.seed
        self._plain = make_memory(policy, run.model, seed=seed)
        self._packed = {
            name: make_memory(policy, run.model, seed=seed, quantization=form) for name, form in FORMATS.items()
        }
        self._recalls: dict[str, Any] = {}
        self.errors: dict[str, dict[str, list[list[float]]]] = {
            name: {"recalled": [], "with_own": []} for name in FORMATS
        }
        """Relative error of each layer in each chunk, by format and by what is attended to."""

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes held, plain and in each format."""
        return {"plain": self._plain.nbytes} | {name: bank.nbytes for name, bank in self._packed.items()}

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        """The recall of the plain memory."""
        self._recalls = {name: bank.read(index, embedding=embedding) for name, bank in self._packed.items()}
        self._recalls["plain"] = self._plain.read(index, embedding=embedding)
        return self._recalls["plain"]

    def write(self, index: int, layers: Iterable[LayerKV], *, embedding: Tensor | None) -> None:
        """Compare the recalls, then write the chunk to all memories."""
        whole = list(layers)
        if index >= self._settled:
            self._compare(index, whole)
        for bank in (self._plain, *self._packed.values()):
            bank.write(index, whole, embedding=embedding)

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        """Nothing to do: all of the past is in memory."""

    def _compare(self, index: int, layers: list[LayerKV]) -> None:
        model, frames = self._run.model, self._run.sampling.latent_frames
        contexts = {
            name: prepare_context(recall, model=model, index=index, frames_per_chunk=frames).layers
            for name, recall in self._recalls.items()
        }
        for name in FORMATS:
            found: dict[str, list[float]] = {"recalled": [], "with_own": []}
            for layer, plain, packed in zip(layers, contexts["plain"], contexts[name], strict=True):
                assert layer.query is not None  # a model hands the queries over with keys and values
                query = self._scale * model.rotate(layer.query, layer.position)
                own_key = model.rotate(layer.key, layer.position)
                past = (plain.key, plain.value), (packed.key, packed.value)
                found["recalled"].append(_error(query, *past))
                plain_all, packed_all = (
                    (torch.cat((key, own_key), 2), torch.cat((value, layer.value), 2)) for key, value in past
                )
                found["with_own"].append(_error(query, plain_all, packed_all))
            for kind, errors in found.items():
                self.errors[name][kind].append(errors)


def measure_exactness(run: LoadedRun, *, num_chunks: int, settled: int = 4, query_scale: float = 1.0) -> dict[str, Any]:
    """Relative error of attention outputs by format and layer, over the chunks of a video from ``settled`` on."""
    memory = ComparedMemory(run, settled=settled, query_scale=query_scale)
    for _ in generate_chunks(run, memory, last=num_chunks):
        pass
    size = memory.nbytes
    return {
        "chunks": num_chunks - settled,
        "query_scale": query_scale,
        "bytes": {name: number / size["plain"] for name, number in size.items()},
        "formats": {
            name: {kind: _summary(errors) for kind, errors in kinds.items()} for name, kinds in memory.errors.items()
        },
    }


def _error(query: Tensor, plain: tuple[Tensor, Tensor], packed: tuple[Tensor, Tensor]) -> float:
    exact = scaled_dot_product_attention(query, *plain)
    return float((scaled_dot_product_attention(query, *packed) - exact).norm() / exact.norm())


def _summary(errors: list[list[float]]) -> dict[str, Any]:
    """The mean error of each layer, the mean over all, and the largest; ``errors`` are by chunk and layer."""
    flat = [error for chunk in errors for error in chunk]
    return {
        "layers": [statistics.fmean(layer) for layer in zip(*errors, strict=True)],
        "mean": statistics.fmean(flat),
        "most": max(flat),
    }
