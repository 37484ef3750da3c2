"""The protocol of stores, and the store in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch

from kvbank.quantization import StoredLayer


@runtime_checkable
class Store(Protocol):
    """Holds the layers of chunks. The bank decides which chunks are put and removed, and whether they are packed."""

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and positions held."""

    def put(self, chunk: int, layers: tuple[StoredLayer, ...], *, instead_of: Sequence[int] = ()) -> None:
        """Hold a chunk, and let go of others once it is held; if this raises, nothing has changed.

        Args:
            chunk: Its number; not held already, or one of `instead_of`.
            layers: As they are stored.
            instead_of: Held chunks that the new one replaces; their memory may be used for it.
        """

    def get(self, chunk: int, *, home: bool = True) -> tuple[StoredLayer, ...]:
        """The layers of a held chunk, on the device they came from or else where they are; not to be modified."""

    def prefetch(self, chunks: Sequence[int]) -> None:
        """Start to copy these chunks to where `get` returns them; copies of other chunks are no longer needed."""

    def remove(self, chunk: int) -> None:
        """Let go of a held chunk."""


class MemoryStore:
    """Holds chunks in memory: where they were made, or on another device.

    With `MemoryStore(device="cpu")` a model on a GPU keeps its past in host memory (pinned), and `prefetch` starts the
    copies of what the next chunk will see before that chunk reads.

    Args:
        device: Where to hold; None leaves every chunk on the device it comes from.

    Raises:
        ValueError: From all methods, if a chunk is not held.
    """

    def __init__(self, *, device: torch.device | str | None = None) -> None:
        self._device = None if device is None else torch.device(device)
        self._layers: dict[int, tuple[StoredLayer, ...]] = {}
        self._home: dict[int, torch.device] = {}
        self._fetched: dict[int, tuple[StoredLayer, ...]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and positions held; copies under way by `prefetch` are not counted."""
        return sum(layer.nbytes for layers in self._layers.values() for layer in layers)

    def put(self, chunk: int, layers: tuple[StoredLayer, ...], *, instead_of: Sequence[int] = ()) -> None:
        """Hold a chunk, and let go of others once it is held; if this raises, nothing has changed.

        Args:
            chunk: Its number; not held already, or one of `instead_of`.
            layers: As they are stored.
            instead_of: Held chunks that the new one replaces.
        """
        for each in instead_of:
            self._check_held(each)
        if chunk in self._layers and chunk not in instead_of:
            raise ValueError(f"chunk {chunk} is held already; remove it first")
        home = layers[0].key.device
        if self._device is not None and self._device != home:
            pin = self._device.type == "cpu" and home.type == "cuda"
            layers = tuple(moved_layer(layer, self._device, pin=pin) for layer in layers)
        for each in instead_of:
            self.remove(each)
        self._layers[chunk], self._home[chunk] = layers, home

    def get(self, chunk: int, *, home: bool = True) -> tuple[StoredLayer, ...]:
        """The layers of a held chunk, on the device they came from or else where they are; not to be modified."""
        self._check_held(chunk)
        if not home:
            return self._layers[chunk]
        if chunk in self._fetched:
            return self._fetched.pop(chunk)
        return tuple(moved_layer(layer, self._home[chunk]) for layer in self._layers[chunk])

    def prefetch(self, chunks: Sequence[int]) -> None:
        """Start to copy these chunks home, and forget earlier copies of others."""
        fetched = {}
        for chunk in chunks:
            self._check_held(chunk)
            if self._layers[chunk][0].key.device != self._home[chunk]:
                fetched[chunk] = self._fetched.get(chunk) or self.get(chunk)
        self._fetched = fetched

    def remove(self, chunk: int) -> None:
        """Let go of a held chunk."""
        self._check_held(chunk)
        del self._layers[chunk], self._home[chunk]
        self._fetched.pop(chunk, None)

    def _check_held(self, chunk: int) -> None:
        if chunk not in self._layers:
            raise ValueError(f"chunk {chunk} is not held; the store has {sorted(self._layers)}")


def moved_layer(layer: StoredLayer, device: torch.device, *, pin: bool = False) -> StoredLayer:
    """A layer on a device, in pinned memory if `pin`; without a copy if it is there already."""
    parts = layer.tensors()
    moved: dict[str, Any] = {}
    for name, part in parts.items():
        if pin:
            moved[name] = torch.empty_like(part, device="cpu", pin_memory=True).copy_(part)
        else:
            moved[name] = part.to(device, non_blocking=part.is_pinned())
    return replace(layer, **moved)
