"""Prompt embeddings by chunk, searched by cosine similarity (Eq. 8)."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kvbank.index.faiss_specs import FaissSpec, Neighbours
from kvbank.inputs import check_tensor

# Float32 noise between candidates must not decide: such scores are trusted to this much, then computed again.
_NOISE = 1e-5
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


class _Vectors:
    """Unit vectors by chunk, side by side in one growing matrix."""

    def __init__(self) -> None:
        self._matrix = torch.empty(0, 0)
        self._chunks: list[int] = []
        self._rows: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._chunks)

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._rows

    def check_width(self, vector: Float[Tensor, " d"]) -> None:
        if self._chunks and vector.numel() != self._matrix.shape[1]:
            raise ValueError(
                f"embedding has {vector.numel()} numbers; the index holds embeddings of {self._matrix.shape[1]}"
            )

    def check_search(self, query: Float[Tensor, " d"], count: int | None) -> None:
        self.check_width(query)
        if count is not None and count < 0:
            raise ValueError(f"count is {count}; expected at least 0, or None for all chunks")

    def add(self, chunk: int, vector: Float[Tensor, " d"]) -> None:
        self.check_width(vector)
        if chunk in self._rows:
            raise ValueError(f"chunk {chunk} is in the index already; remove it first")
        count = len(self._chunks)
        if not count or count == len(self._matrix):
            grown = torch.empty(max(16, 2 * count), vector.numel())
            grown[:count] = self._matrix[:count] if count else 0.0
            self._matrix = grown
        self._matrix[count] = vector
        self._rows[chunk] = count
        self._chunks.append(chunk)

    def remove(self, chunk: int) -> Float[Tensor, " d"]:
        """Forget a chunk, and put the last one in its place."""
        if chunk not in self._rows:
            raise ValueError(f"chunk {chunk} is not in the index")
        row, last = self._rows.pop(chunk), self._chunks.pop()
        vector = self._matrix[row].clone()
        if last != chunk:
            self._matrix[row] = self._matrix[len(self._chunks)]
            self._chunks[row], self._rows[last] = last, row
        return vector

    def search(self, query: Float[Tensor, " d"], count: int | None) -> dict[int, float]:
        """Exact."""
        total = len(self._chunks)
        if count is None or count >= total:
            return self.ranked(self._chunks, query, total)
        if count == 0:
            return {}
        scores = self._matrix[:total] @ query
        # All that could tie with the last one wanted must be there before the ties are decided.
        near = scores >= scores.topk(count).values[-1] - _NOISE
        return self.ranked([self._chunks[row] for row in near.nonzero()[:, 0].tolist()], query, count)

    def ranked(self, chunks: Sequence[int], query: Float[Tensor, " d"], count: int) -> dict[int, float]:
        """The best of some chunks by cosines in double precision, rounded so that the same prompt ties with itself."""
        vectors = self._matrix[torch.tensor([self._rows[chunk] for chunk in chunks], dtype=torch.int64)]
        cosines = (vectors.double() @ query.double()).clamp(-1.0, 1.0).tolist() if chunks else []
        rounded = [(round(cosine, _DECIMALS), chunk) for cosine, chunk in zip(cosines, chunks, strict=True)]
        return {chunk: cosine for cosine, chunk in sorted(rounded, reverse=True)[:count]}


class ExactIndex:
    """Exact search in torch; fast enough for the chunks of one video.

    Cosines are rounded to 7 decimals, so that the same prompt ties with itself whatever the order of summation.
    """

    def __init__(self) -> None:
        self._vectors = _Vectors()

    def add(self, chunk: int, embedding: Float[Tensor, " d"]) -> None:
        """Remember the embedding of `chunk`.

        Raises:
            ValueError: If it is there already, or the embedding is no finite vector as wide as the others.
            TypeError: If the embedding is no tensor.
        """
        self._vectors.add(chunk, _unit_vector(embedding))

    def remove(self, chunk: int) -> None:
        """Forget `chunk`.

        Raises:
            ValueError: If it is not there.
        """
        self._vectors.remove(chunk)

    def search(self, embedding: Float[Tensor, " d"], count: int | None = None) -> dict[int, float]:
        """Cosine similarity of the `count` nearest chunks (None: of all), best first, ties newest first.

        Raises:
            ValueError: If the count is negative, or the embedding is no finite vector as wide as the others.
            TypeError: If the embedding is no tensor.
        """
        query = _unit_vector(embedding)
        self._vectors.check_search(query, count)
        return self._vectors.search(query, count)

    def __len__(self) -> int:
        return len(self._vectors)


class FaissIndex:
    """The same search by FAISS on the CPU, exact or approximate.

    What FAISS finds is scored again as `ExactIndex` does, so that what both find has the same numbers in the same
    order. A prompt that many chunks share is held once, so they tie here too. Chunks are added and removed one by one,
    without building anything anew. A search for all chunks is exact whatever the spec; a bank makes such a search for
    each read, as policies may look at all similarities.

    Args:
        spec: "flat": exact. "ivf1024,nprobe=32": 1024 lists, of which 32 are searched; exact until there are 39 prompts
            a list, on which it is then trained, once. "hnsw32,ef=64": a graph of 32 links a prompt, 64 candidates a
            search; what is removed from it is passed over. Without them, nprobe is a sixteenth of the lists, and ef 64.

    Raises:
        ValueError: If the spec is none of these.
    """

    def __init__(self, spec: str = "flat") -> None:
        self._spec = FaissSpec.parsed(spec)
        self._vectors = _Vectors()
        self._neighbours: Neighbours | None = None
        self._numbers: dict[bytes, int] = {}
        self._sharing: dict[int, set[int]] = {}
        self._next_number = 0

    @property
    def spec(self) -> str:
        """As it was given."""
        return self._spec.text

    def add(self, chunk: int, embedding: Float[Tensor, " d"]) -> None:
        """Remember the embedding of `chunk`.

        Raises:
            ValueError: If it is there already, or the embedding is no finite vector as wide as the others.
            TypeError: If the embedding is no tensor.
        """
        vector = _unit_vector(embedding)
        self._vectors.add(chunk, vector)
        if self._neighbours is None:
            self._neighbours = self._spec.built(vector.numel())
        if (content := vector.numpy().tobytes()) not in self._numbers:
            self._numbers[content] = self._next_number
            self._sharing[self._next_number] = set()
            self._neighbours.add(self._next_number, vector)
            self._next_number += 1
        self._sharing[self._numbers[content]].add(chunk)

    def remove(self, chunk: int) -> None:
        """Forget `chunk`.

        Raises:
            ValueError: If it is not there.
        """
        content = self._vectors.remove(chunk).numpy().tobytes()
        number = self._numbers[content]
        self._sharing[number].remove(chunk)
        if not self._sharing[number] and self._neighbours is not None:
            self._neighbours.remove(number)
            del self._sharing[number], self._numbers[content]
        if not len(self):  # the next one may have another width
            self._neighbours, self._next_number = None, 0

    def search(self, embedding: Float[Tensor, " d"], count: int | None = None) -> dict[int, float]:
        """Cosine similarity of the `count` nearest chunks (None: of all), best first, ties newest first.

        Raises:
            ValueError: If the count is negative, or the embedding is no finite vector as wide as the others.
            TypeError: If the embedding is no tensor.
        """
        query = _unit_vector(embedding)
        self._vectors.check_search(query, count)
        neighbours = self._neighbours
        if count is None or count >= len(self) or neighbours is None or not neighbours.ready:
            return self._vectors.search(query, count)
        if count == 0:
            return {}
        fetched, total = min(8, 2 * count), len(self._sharing)
        while True:
            fetched = min(2 * fetched, total)
            scores, numbers = neighbours.search(query, fetched)
            found = [self._sharing[number] for number in numbers]
            enough = next((i for i in range(len(found)) if sum(map(len, found[: i + 1])) >= count), None)
            # All that could tie with the last one wanted must be there before the ties are decided.
            settled = enough is not None and scores[enough] - scores[-1] > _NOISE
            if settled or fetched == total or len(found) < fetched:
                break
        if enough is None:  # the lists searched, or the graph between what was removed, had no more
            return self._vectors.search(query, count)
        return self._vectors.ranked([chunk for sharing in found for chunk in sharing], query, count)

    def __len__(self) -> int:
        return len(self._vectors)


def _unit_vector(embedding: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """Length 1 in float32 on the CPU; zero stays zero, which is similar to nothing."""
    check_tensor(embedding, "embedding")
    if embedding.ndim != 1 or embedding.numel() == 0:
        raise ValueError(f"embedding has shape {tuple(embedding.shape)}; expected one vector [d], such as a mean state")
    vector = embedding.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(vector).all()):
        raise ValueError("embedding holds NaN or infinity; expected finite numbers")
    return torch.nn.functional.normalize(vector, dim=0).float()
