"""Prompt embeddings by chunk, searched by cosine similarity (Eq. 8)."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# Float32 noise between candidates must not decide: faiss scores are trusted to this much, then computed again.
_FAISS_NOISE = 1e-5
_DECIMALS = 7


@runtime_checkable
class Index(Protocol):
    """Where a bank looks for chunks with a similar prompt."""

    def add(self, chunk: int, embedding: Float[Tensor, " d"]) -> None:
        """Remember the embedding of `chunk`."""

    def remove(self, chunk: int) -> None:
        """Forget `chunk`."""

    def search(self, embedding: Float[Tensor, " d"], count: int | None = None) -> dict[int, float]:
        """Cosine similarity of the `count` nearest chunks (None: of all), best first, ties newest first."""

    def __len__(self) -> int: ...


class ExactIndex:
    """Exact search in torch; for the chunks of one film nothing faster is needed.

    Cosines are rounded to 7 decimals, so that the same prompt ties with itself whatever the order of summation.
    """

    def __init__(self) -> None:
        self._vectors: dict[int, Float[Tensor, " d"]] = {}

    def add(self, chunk: int, embedding: Float[Tensor, " d"]) -> None:
        """Remember the embedding of `chunk`."""
        vector = _unit_vector(embedding)
        if chunk in self._vectors:
            raise ValueError(f"chunk {chunk} is in the index already; remove it first")
        if self._vectors:
            _check_width(vector.numel(), next(iter(self._vectors.values())).numel())
        self._vectors[chunk] = vector

    def remove(self, chunk: int) -> None:
        """Forget `chunk`."""
        if chunk not in self._vectors:
            raise ValueError(f"chunk {chunk} is not in the index")
        del self._vectors[chunk]

    def search(self, embedding: Float[Tensor, " d"], count: int | None = None) -> dict[int, float]:
        """Cosine similarity of the `count` nearest chunks (None: of all), best first, ties newest first."""
        query = _unit_vector(embedding)
        if not self._vectors:
            return {}
        vectors = torch.stack(list(self._vectors.values()))
        _check_width(query.numel(), vectors.shape[1])
        return _ranked(list(self._vectors), vectors, query, count)

    def __len__(self) -> int:
        return len(self._vectors)


class FaissIndex:
    """The same search by FAISS: a flat inner product index over normalised vectors.

    What FAISS finds is scored again as `ExactIndex` does, so that both return the same numbers in the same order.
    """

    def __init__(self) -> None:
        self._index: Any = None
        self._chunks: set[int] = set()

    def add(self, chunk: int, embedding: Float[Tensor, " d"]) -> None:
        """Remember the embedding of `chunk`."""
        import faiss  # on first use: it is 66 MB, and most banks do without

        vector = _unit_vector(embedding)
        if self._index is None:
            # IDMap, as a flat index alone renumbers its entries on removal; the 2 also finds vectors by id.
            self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(vector.numel()))
        _check_width(vector.numel(), self._index.d)
        if chunk in self._chunks:
            raise ValueError(f"chunk {chunk} is in the index already; remove it first")
        self._index.add_with_ids(vector[None].numpy(), np.array([chunk], dtype=np.int64))
        self._chunks.add(chunk)

    def remove(self, chunk: int) -> None:
        """Forget `chunk`."""
        if chunk not in self._chunks:
            raise ValueError(f"chunk {chunk} is not in the index")
        self._index.remove_ids(np.array([chunk], dtype=np.int64))
        self._chunks.remove(chunk)

    def search(self, embedding: Float[Tensor, " d"], count: int | None = None) -> dict[int, float]:
        """Cosine similarity of the `count` nearest chunks (None: of all), best first, ties newest first."""
        query = _unit_vector(embedding)
        total = len(self)
        count = total if count is None else min(count, total)
        if count == 0:
            return {}
        _check_width(query.numel(), self._index.d)
        fetched = count
        while True:
            fetched = min(2 * fetched, total)
            scores, chunks = self._index.search(query[None].numpy(), fetched)
            # All that could tie with the last one wanted must be there before the ties are decided.
            if fetched == total or scores[0, count - 1] - scores[0, -1] > _FAISS_NOISE:
                break
        vectors = torch.from_numpy(self._index.reconstruct_batch(chunks[0]))
        return _ranked(chunks[0].tolist(), vectors, query, count)

    def __len__(self) -> int:
        return len(self._chunks)


def _ranked(
    chunks: list[int], vectors: Float[Tensor, "n d"], query: Float[Tensor, " d"], count: int | None
) -> dict[int, float]:
    cosines = (vectors.double() @ query.double()).clamp(-1.0, 1.0).tolist()
    rounded = [(round(cosine, _DECIMALS), chunk) for cosine, chunk in zip(cosines, chunks, strict=True)]
    return {chunk: cosine for cosine, chunk in sorted(rounded, reverse=True)[:count]}


def _unit_vector(embedding: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Length 1 in float32 on the CPU; zero stays zero, which is similar to nothing."""
    if embedding.ndim != 1 or embedding.numel() == 0:
        raise ValueError(f"embedding has shape {tuple(embedding.shape)}; expected one vector [d], such as a mean state")
    vector = embedding.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(vector).all()):
        raise ValueError("embedding holds NaN or infinity; expected finite numbers")
    return torch.nn.functional.normalize(vector, dim=0).float()


def _check_width(got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"embedding has {got} numbers; the index holds embeddings of {expected}")
