"""A memory that is never ahead of the chunks on disk."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from kvbank import KVBank


class DeferredMemory:
    """A memory that a chunk enters when the next one asks for it: by then the chunk itself is safe on disk.

    So a bank that lives in a folder is never ahead of the chunks, whenever a run is stopped. The layers of a chunk are
    computed when they enter; those of the last chunk never are.
    """

    def __init__(self, bank: KVBank) -> None:
        self._bank = bank
        self._waiting: dict[str, Any] | None = None

    def read(self, index: int, *, embedding: Tensor | None) -> Any:
        """Recall for chunk ``index``."""
        self.flush()
        return self._bank.read(index, embedding=embedding)

    def write(self, index: int, layers: Iterable[Any], *, embedding: Tensor | None) -> None:
        """Take note of chunk ``index``; one that waits enters before it."""
        self.flush()
        self._waiting = {"index": index, "layers": layers, "embedding": embedding}

    def prefetch(self, index: int, *, embedding: Tensor | None) -> None:
        """Announce that chunk ``index`` will be read."""
        self._bank.prefetch(index, embedding=embedding)

    def flush(self) -> None:
        """Let the chunk that waits enter."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._bank.write(**waiting)
