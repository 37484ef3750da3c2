"""A `KVBank` behind the cache of Self-Forcing and its descendants: a list of dicts, one a layer.

Their models attend to `cache["k"][:, :local_end_index]`, write the current chunk behind it at every denoising step, and
leave the clean chunk there after a last pass at level 0. `BankedCache` is such a list. Before a chunk, `fill` puts what
the bank recalls where the model expects earlier chunks. After it, `keep` writes the clean chunk to the bank. The model
is not changed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kvbank import KVBank, LayerKV

Rotate = Callable[[Tensor, Tensor], Tensor]


class BankedCache(list[dict[str, Tensor]]):
    """`kv_cache1` of Self-Forcing, filled by a bank.

    These models store keys after RoPE, a bank holds them before it. Keys that leave the cache are rotated by negative
    positions, which undoes RoPE. Recalled keys are rotated by their own positions, as in the original.

    Args:
        bank: Empty. Policies that drop tokens need queries, which this cache never sees: use `coverage=None`.
        rotate: The model's RoPE, `rotate(x, position)` on `[branches, heads, tokens, dh]` and `[tokens, 3]`.
        num_layers: Layers of the model.
        shape: Branches, tokens that fit, heads and head width of `cache["k"]`.
    """

    def __init__(self, bank: KVBank, *, rotate: Rotate, num_layers: int, shape: tuple[int, int, int, int]) -> None:
        names = ("global_end_index", "local_end_index")
        super().__init__(
            {
                "k": torch.zeros(shape),
                "v": torch.zeros(shape),
                **{name: torch.zeros(1, dtype=torch.long) for name in names},
            }
            for _ in range(num_layers)
        )
        self._bank, self._rotate = bank, rotate

    def fill(self, index: int, *, embedding: Tensor | None, current_start: int) -> None:
        """Put what chunk `index` sees where the model expects earlier chunks.

        Args:
            index: Chunk number.
            embedding: Embedding of its prompt.
            current_start: Tokens before it in the video, as given to the model.
        """
        recall = self._bank.read(index, embedding=embedding)
        for number, cache in enumerate(self):
            count = 0
            if recall.layers:
                layer = recall.layers[number]
                count = layer.num_tokens
                cache["k"][:, :count] = self._rotate(layer.key, layer.position).transpose(1, 2)
                cache["v"][:, :count] = layer.value.transpose(1, 2)
            cache["local_end_index"].fill_(count)
            cache["global_end_index"].fill_(current_start)

    def keep(self, index: int, position: Tensor, *, embedding: Tensor | None) -> None:
        """Write the clean chunk that the model left in the cache, after the chunks it saw.

        Args:
            index: Chunk number.
            position: (t, h, w) of each of its tokens, as the model rotated them.
            embedding: Embedding of its prompt.
        """

        def layers():  # noqa: ANN202
            for cache in self:
                end = int(cache["local_end_index"])
                key, value = (cache[name][:, end - len(position) : end].transpose(1, 2) for name in ("k", "v"))
                yield LayerKV(self._rotate(key, -position), value, position)

        self._bank.write(index, layers(), embedding=embedding)
