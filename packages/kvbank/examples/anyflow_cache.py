"""A `KVBank` behind the cache of diffusers' `AnyFlowFARTransformer3DModel`: dicts with a full and a compressed part.

The model keeps its last `full_chunk_limit - 1` chunks in full and patches older ones coarsely. With a bank the full
part holds what the bank recalls instead, and nothing is compressed: a place from long ago is seen as sharply as the
last chunk. Keys are stored before RoPE, as a bank wants them, and the model rotates by order, so recalled chunks take
the slots right before the current one. The model is not changed; chunks must have the same number of frames, and a
policy must not show more than `full_chunk_limit - 1`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kvbank import KVBank, LayerKV


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """Arguments of a call of the model for one chunk."""

    kv_cache: dict[int, dict[str, Tensor]]
    """The cache of each layer."""
    kv_cache_flag: dict[str, Any]
    """Counts of cached chunks."""
    chunk_partition: tuple[int, ...]
    """Frames of the chunks shown and of the current one."""


class AnyFlowCache:
    """Reads and writes a bank in the model's layout.

    Args:
        bank: Empty, of a policy that keeps whole chunks.
        frames_per_chunk: Latent frames of a chunk.
        tokens_per_frame: Tokens of a frame at full resolution.
        shape: Layers, branches, heads and head width of the model.
    """

    def __init__(
        self, bank: KVBank, *, frames_per_chunk: int, tokens_per_frame: int, shape: tuple[int, int, int, int]
    ) -> None:
        self._bank = bank
        self._frames, self._tokens, self._shape = frames_per_chunk, tokens_per_frame, shape

    def view(self, index: int, *, embedding: Tensor | None) -> CacheView:
        """What chunk `index` sees, for `model(..., kv_cache=, kv_cache_flag=, chunk_partition=)`."""
        recall = self._bank.read(index, embedding=embedding)
        num_layers, branches, heads, dh = self._shape
        nothing = torch.zeros(2, branches, heads, 0, dh)
        full = [torch.stack([layer.key, layer.value]) for layer in recall.layers] or [nothing] * num_layers
        shown = len(recall.chunks)
        return CacheView(
            kv_cache={number: {"full_cache": each, "compressed_cache": nothing} for number, each in enumerate(full)},
            kv_cache_flag={"num_cached_chunks": shown, "is_cache_step": False},
            chunk_partition=(self._frames,) * (shown + 1),
        )

    def keep(
        self, index: int, kv_cache: dict[int, dict[str, Tensor]], *, num_full: int, embedding: Tensor | None
    ) -> None:
        """Remember chunk `index` after the model's own cache step.

        Args:
            index: Chunk number.
            kv_cache: As the model filled it in a step with `is_cache_step`; this chunk is the last in its full part.
            num_full: Chunks in that part.
            embedding: Embedding of the chunk's prompt.
        """
        count = self._frames * self._tokens
        start = (num_full - 1) * count
        place = torch.arange(count)
        position = torch.stack([index * self._frames + place // self._tokens, place % self._tokens, 0 * place], dim=1)
        parts = [kv_cache[number]["full_cache"][:, :, :, start : start + count] for number in sorted(kv_cache)]
        self._bank.write(index, [LayerKV(key, value, position) for key, value in parts], embedding=embedding)
