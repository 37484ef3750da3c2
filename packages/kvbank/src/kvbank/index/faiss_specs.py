"""The indexes of FAISS behind one spec."""

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# A graph of one link a prompt would end the process.
_SPEC = re.compile(r"(?:(flat)|(ivf)([1-9]\d*)(?:,nprobe=([1-9]\d*))?|(hnsw)([2-9]|[1-9]\d+)(?:,ef=([1-9]\d*))?)")
_PROMPTS_PER_LIST = 39  # below this FAISS warns that centroids are poorly placed


@runtime_checkable
class Neighbours(Protocol):
    """Vectors by number, and the nearest of them."""

    @property
    def ready(self) -> bool:
        """Whether `search` can be used yet."""

    def add(self, number: int, vector: Float[Tensor, " d"]) -> None:
        """Hold a vector; numbers count up and never come again."""

    def remove(self, number: int) -> None:
        """Let go of a vector."""

    def search(self, query: Float[Tensor, " d"], count: int) -> tuple[list[float], list[int]]:
        """Inner products and numbers of up to `count` vectors, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaissSpec:
    """A parsed spec."""

    text: str
    """The spec as it was given."""
    kind: Literal["flat", "ivf", "hnsw"]
    """Kind of the index."""
    size: int
    """Lists of "ivf", links of each prompt of "hnsw"."""
    effort: int
    """Lists ("ivf") or candidates ("hnsw") that a search looks at."""

    @classmethod
    def parsed(cls, text: str) -> "FaissSpec":
        """Parse "flat", "ivf1024,nprobe=32" or "hnsw32,ef=64".

        Raises:
            ValueError: If it is none of these.
        """
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ValueError(f'spec is {text!r}; expected "flat", "ivf1024,nprobe=32" or "hnsw32,ef=64"')
        if match[1]:
            return cls(text=text, kind="flat", size=0, effort=0)
        if match[2]:
            lists = int(match[3])
            return cls(text=text, kind="ivf", size=lists, effort=int(match[4] or max(1, lists // 16)))
        return cls(text=text, kind="hnsw", size=int(match[6]), effort=int(match[7] or 64))

    def built(self, width: int) -> Neighbours:
        """An empty index for vectors of this width."""
        kinds: dict[str, type[_Flat] | type[_Ivf] | type[_Hnsw]] = {"flat": _Flat, "ivf": _Ivf, "hnsw": _Hnsw}
        return kinds[self.kind](self, width)


class _Flat:
    """Exact search."""

    ready = True

    def __init__(self, spec: FaissSpec, width: int) -> None:
        import faiss  # on first use: it is 66 MB, and most banks do without

        self._index: Any = faiss.IndexIDMap(faiss.IndexFlatIP(width))  # alone it renumbers its entries on removal

    def add(self, number: int, vector: Float[Tensor, " d"]) -> None:
        self._index.add_with_ids(vector[None].numpy(), np.array([number]))

    def remove(self, number: int) -> None:
        self._index.remove_ids(np.array([number]))

    def search(self, query: Float[Tensor, " d"], count: int) -> tuple[list[float], list[int]]:
        return _found(self._index.search(query[None].numpy(), count))


class _Ivf:
    """Lists around centroids, which are trained once there are enough vectors."""

    def __init__(self, spec: FaissSpec, width: int) -> None:
        import faiss

        self._index: Any = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, spec.size, faiss.METRIC_INNER_PRODUCT)
        self._index.nprobe = spec.effort
        self._needed = _PROMPTS_PER_LIST * spec.size
        self._waiting: dict[int, Float[Tensor, " d"]] = {}

    @property
    def ready(self) -> bool:
        return self._index.is_trained

    def add(self, number: int, vector: Float[Tensor, " d"]) -> None:
        self._waiting[number] = vector
        if not self.ready and len(self._waiting) < self._needed:
            return
        vectors = torch.stack(list(self._waiting.values())).numpy()
        if not self.ready:
            self._index.train(vectors)
        self._index.add_with_ids(vectors, np.array(list(self._waiting)))
        self._waiting.clear()

    def remove(self, number: int) -> None:
        if self._waiting.pop(number, None) is None:
            self._index.remove_ids(np.array([number]))

    def search(self, query: Float[Tensor, " d"], count: int) -> tuple[list[float], list[int]]:
        return _found(self._index.search(query[None].numpy(), count))


class _Hnsw:
    """A graph of vectors. FAISS cannot remove from it; searches pass over removed vectors."""

    ready = True

    def __init__(self, spec: FaissSpec, width: int) -> None:
        import faiss

        # Numbers count up from 0 without a gap, as the graph itself numbers what it is given.
        self._index: Any = faiss.IndexHNSWFlat(width, spec.size, faiss.METRIC_INNER_PRODUCT)
        self._effort = spec.effort
        self._removed: list[int] = []
        self._selected = 0
        self._selectors: list[Any] = [None]  # FAISS keeps pointers to them, not references

    def add(self, number: int, vector: Float[Tensor, " d"]) -> None:
        self._index.add(vector[None].numpy())

    def remove(self, number: int) -> None:
        self._removed.append(number)

    def search(self, query: Float[Tensor, " d"], count: int) -> tuple[list[float], list[int]]:
        import faiss

        library: Any = faiss  # type checkers do not know all of its names
        if self._selected < len(self._removed):
            batch = library.IDSelectorBatch(np.array(self._removed))
            self._selectors, self._selected = [batch, library.IDSelectorNot(batch)], len(self._removed)
        how = library.SearchParametersHNSW(efSearch=max(self._effort, count), sel=self._selectors[-1])
        return _found(self._index.search(query[None].numpy(), count, params=how))


def _found(answer: tuple[np.ndarray, np.ndarray]) -> tuple[list[float], list[int]]:
    """Scores and numbers of an answer without its empty places."""
    (scores,), (numbers,) = answer
    there = numbers >= 0
    return scores[there].tolist(), numbers[there].tolist()
