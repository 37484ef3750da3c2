"""Finished chunks as they lie on disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from bdiff.files import load_checked


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredChunk:
    """A finished chunk as it lies on disk."""

    index: int
    latents: Float[Tensor, "1 c t h w"]
    packets: tuple[bytes, ...]
    """Encoded pictures, one packet a frame, see `VideoWriter`."""
    thumbnail: UInt8[Tensor, "h w 3"]
    entry: dict[str, Any]
    """Its entry in the record."""


class StoredLatents(Mapping[int, Tensor]):
    """Latents of the first chunks of a folder, read when they are asked for."""

    def __init__(self, folder: Path, num_chunks: int) -> None:
        self._folder, self._num_chunks = folder, num_chunks

    def __getitem__(self, index: int) -> Tensor:
        if index not in self:
            raise KeyError(index)
        return load_checked(self._folder / f"{index:06d}.safetensors")[0]["latents"]

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self._num_chunks

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._num_chunks))

    def __len__(self) -> int:
        return self._num_chunks


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What of a run is there when it begins or is gone on with."""

    num_chunks: int
    """Finished chunks."""
    latents: Mapping[int, Tensor]
    """Their latents."""
    given: Mapping[int, Tensor]
    """Latents of chunks that show a picture or a video instead of being made."""
    decoded: int
    """Chunks after which `decoder_state` was kept."""
    decoder_state: Any
    """What the decoder carries on from them; None: nothing."""
