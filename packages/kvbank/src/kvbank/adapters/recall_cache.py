"""A key/value cache for attention processors, whose past is what a bank recalls."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvbank.adapters.placed_bank import Placed, PlacedBank, Positions
from kvbank.bank import KVBank
from kvbank.recall import Recall
from kvbank.writing import Rotate


class RecallCache:
    """A cache with `update`, `get` and `reset` over a `KVBank`, for chunk-causal models of diffusers and others.

    `begin` opens a chunk: the chunk before it goes to the bank, and its own past is recalled. In every layer and at
    every step an attention processor gives its keys and values to `update` and attends to `get`. Whatever the last
    step gave is what the chunk leaves behind, so the last step of a chunk is a pass over its clean latents.

    All tensors have the layout of diffusers, `[branches, tokens, heads, dh]`. Keys and queries go in before RoPE, and
    keys come out after it. Branches, such as those of guidance, are rows of one batch and share the recall.

    Args:
        bank: The memory; for a policy with a coverage give it `rotate=rope`.
        rope: The model's RoPE.
        grid: Rows and columns of tokens in a latent frame.
        positions: `slots` places recalled chunks right before the current one, so a video has any length. `absolute`
            leaves them where they are in the video.

    Raises:
        ValueError: If `positions` or the grid is something else.
    """

    def __init__(self, bank: KVBank, *, rope: Rotate, grid: tuple[int, int], positions: Positions = "slots") -> None:
        self._bank = PlacedBank(bank, rope=rope, grid=grid, positions=positions)
        self.reset()

    @property
    def bank(self) -> KVBank:
        """The memory."""
        return self._bank.bank

    @property
    def index(self) -> int | None:
        """The chunk that is being made; None before the first."""
        return self._index

    def reset(self) -> None:
        """Begin another video: what is not in the bank yet is dropped, and the next chunk is 0.

        The bank forgets the earlier video as soon as chunk 0 of the next one is kept.
        """
        self._index: int | None = None
        self._embedding: Tensor | None = None
        self._start = 0
        self._past: list[Placed] = []
        self._chunk: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    def begin(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> Recall:
        """Open a chunk: keep the one before it, and recall its past.

        Args:
            index: Chunk number, from 0. A number that is already written makes that chunk again, and forgets the later
                ones.
            embedding: Embedding of the chunk's prompt; may be None if the policy does not compare prompts.

        Raises:
            ValueError: If a chunk before it is not written, or an embedding is missing.
        """
        if self._index is not None and index == self._index + 1:
            self.keep()
        self._chunk = {}
        recall, self._past = self._bank.read(index, embedding=embedding)
        self._index, self._embedding, self._start = index, embedding, self._bank.start_of(index)
        return recall

    def update(
        self,
        key: Float[Tensor, "branches tokens heads dh"],
        value: Float[Tensor, "branches tokens heads dh"],
        layer: int,
        *,
        query: Float[Tensor, "branches tokens heads dh"] | None = None,
    ) -> None:
        """Take a layer's keys and values of the current chunk in place of those of the step before.

        Args:
            key: Keys before RoPE.
            value: Values.
            layer: Number of the layer, from 0.
            query: Queries before RoPE; a policy with a coverage needs them.

        Raises:
            ValueError: If no chunk is open, or queries are missing.
        """
        self._opened()
        if query is None and self._bank.needs_queries:
            raise ValueError(f"query is None; {self.bank.policy} needs queries: update(key, value, layer, query=query)")
        kept = query if self._bank.needs_queries else None
        self._chunk[layer] = (key, value, kept)

    def get(
        self, layer: int
    ) -> tuple[Float[Tensor, "branches shown heads dh"], Float[Tensor, "branches shown heads dh"]]:
        """Rotated keys, and values, that a layer attends to: the recalled past, then the current chunk.

        Args:
            layer: Number of the layer, from 0.

        Raises:
            ValueError: If the layer has not been updated since `begin`.
        """
        if layer not in self._chunk:
            raise ValueError(f"layer {layer} has nothing of the current chunk; call update before get")
        key, value, _ = self._chunk[layer]
        key = self.rotate(key)
        if not self._past:
            return key, value
        if layer >= len(self._past):
            raise ValueError(f"layer is {layer}; the chunks before have {len(self._past)} layers")
        past_key, past_value = (part.transpose(1, 2) for part in self._past[layer])
        return torch.cat((past_key.to(key), key), dim=1), torch.cat((past_value.to(value), value), dim=1)

    def rotate(self, x: Float[Tensor, "branches tokens heads dh"]) -> Float[Tensor, "branches tokens heads dh"]:
        """Rotate queries or keys of the current chunk to where `get` expects them.

        Args:
            x: Queries or keys before RoPE.

        Raises:
            ValueError: If no chunk is open, or the tokens are no whole latent frames.
        """
        self._opened()
        position = self._bank.positions(x.shape[1], start=self._bank.origin(self._start), device=x.device)
        return self._bank.rope(x.transpose(1, 2), position).transpose(1, 2)

    def keep(self) -> None:
        """Write the current chunk, as its last step left it, to the bank; `begin` does it for the chunk before.

        Call it after the last chunk of a video whose bank is saved or continued. Again without a step in between it
        does nothing.

        Raises:
            ValueError: If no chunk is open, or no step of it was run.
        """
        index = self._opened()
        if not self._chunk and self.bank.next_index > index:
            return
        if not self._chunk:
            raise ValueError(f"chunk {index} has no keys and values; run the model between begin and keep")
        layers = [self._chunk[layer] for layer in sorted(self._chunk)]
        heads_first = (
            (key.transpose(1, 2), value.transpose(1, 2), None if query is None else query.transpose(1, 2))
            for key, value, query in layers
        )
        num_tokens = layers[0][0].shape[1]
        self._bank.write(index, heads_first, num_tokens=num_tokens, embedding=self._embedding, start=self._start)
        self._chunk = {}

    def _opened(self) -> int:
        if self._index is None:
            raise ValueError("no chunk is open; call begin(index, embedding=...) before the steps of a chunk")
        return self._index
