"""A bank for models that keep positions: recalled keys come out where the model shall see them, already rotated."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvbank.bank import KVBank
from kvbank.policies.context import RecallPolicy
from kvbank.recall import LayerKV, Recall
from kvbank.writing import Rotate

Positions = Literal["slots", "absolute"]
"""Where recalled chunks sit in time. `slots`: right before the current chunk, which is at 0. `absolute`: where they
are in the video."""

Placed = tuple[Float[Tensor, "branches heads tokens dh"], Float[Tensor, "branches heads tokens dh"]]
"""Rotated keys, and values, of one layer."""


class PlacedBank:
    """Reads a bank with keys placed and rotated, and writes chunks with their places.

    Keys are stored before RoPE with their positions in the video. The first latent frame of a chunk and the number of
    its frames are noted in its metadata as `start` and `frames`, so chunks may have unequal lengths.

    Args:
        bank: The memory.
        rope: The model's RoPE.
        grid: Rows and columns of tokens in a latent frame.
        positions: `slots` or `absolute`.

    Raises:
        ValueError: If `positions` or the grid is something else.
    """

    def __init__(self, bank: KVBank, *, rope: Rotate, grid: tuple[int, int], positions: Positions) -> None:
        if positions not in ("slots", "absolute"):
            raise ValueError(f"positions is {positions!r}; expected 'slots' or 'absolute'")
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f"grid is {grid}; expected rows and columns of tokens in a latent frame, such as (30, 52)")
        self.bank = bank
        self.rope = rope
        self._grid = grid
        self._slots = positions == "slots"

    @property
    def frame_tokens(self) -> int:
        """Tokens of a latent frame."""
        return self._grid[0] * self._grid[1]

    @property
    def needs_queries(self) -> bool:
        """Whether the policy looks at queries."""
        policy = self.bank.policy
        return policy.coverage is not None or (isinstance(policy, RecallPolicy) and policy.uses_summaries)

    def origin(self, start: int) -> int:
        """The position of the first frame of a chunk as the model rotates it.

        Args:
            start: Its first latent frame in the video.
        """
        return 0 if self._slots else start

    def positions(self, num_tokens: int, *, start: int, device: torch.device) -> Int[Tensor, "tokens 3"]:
        """(t, h, w) of the tokens of a chunk.

        Args:
            num_tokens: Its tokens.
            start: Position of its first frame.
            device: Where the positions are made.

        Raises:
            ValueError: If the tokens are no whole latent frames.
        """
        frames, rest = divmod(num_tokens, self.frame_tokens)
        if rest or not frames:
            rows, columns = self._grid
            raise ValueError(
                f"a chunk has {num_tokens} tokens; expected a multiple of {self.frame_tokens}, "
                f"the {rows} x {columns} tokens of a latent frame in grid"
            )
        axes = (torch.arange(count, device=device) for count in (frames, *self._grid))
        position = torch.cartesian_prod(*axes)
        position[:, 0] += start
        return position

    def start_of(self, index: int) -> int:
        """First latent frame of a chunk whose predecessor is written."""
        if index == 0:
            return 0
        metadata = self.bank.metadata
        if index - 1 not in metadata:
            raise ValueError(f"chunk {index} cannot begin yet; chunk {index - 1} is not in the bank")
        return sum(frames_of(metadata, index - 1))

    def read(self, index: int, *, embedding: Float[Tensor, " d"] | None) -> tuple[Recall, list[Placed]]:
        """What a chunk sees, and keys and values of each layer as the model's attention takes them.

        Args:
            index: Chunk number.
            embedding: Embedding of its prompt.
        """
        recall = self.bank.read(index, embedding=embedding)
        metadata = self.bank.metadata
        shifts = slot_shifts(recall, metadata) if self._slots else [0] * len(recall.chunks)
        placed = []
        for layer, spans in zip(recall.layers, recall.spans, strict=True):
            position = layer.position.clone()
            shift = torch.tensor(shifts).repeat_interleave(torch.tensor(spans))
            position[:, 0] += shift.to(position.device)
            placed.append((self.rope(layer.key, position), layer.value))
        return recall, placed

    def write(
        self,
        index: int,
        layers: Iterable[tuple[Tensor, Tensor, Tensor | None]],
        *,
        num_tokens: int,
        embedding: Float[Tensor, " d"] | None,
        start: int,
    ) -> None:
        """Store a finished chunk.

        Args:
            index: Chunk number.
            layers: Keys before RoPE, values and queries before RoPE of each layer, `[branches, heads, tokens, dh]`.
            num_tokens: Tokens of the chunk.
            embedding: Embedding of its prompt.
            start: Its first latent frame in the video.
        """
        position = self.positions(num_tokens, start=start, device=torch.device("cpu"))
        kept = (LayerKV(key, value, position.to(key.device), query=query) for key, value, query in layers)
        metadata = {"start": start, "frames": num_tokens // self.frame_tokens}
        self.bank.write(index, kept, embedding=embedding, metadata=metadata)


def slot_shifts(recall: Recall, metadata: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """By how many frames each recalled chunk moves from its place in the video into its slot.

    Recent chunks come right before the current one, whose first frame is at 0. The others come before them. Both keep
    the order of the video.
    """
    order = sorted(range(len(recall.chunks)), key=lambda place: recall.kinds[place] == "recent")
    shifts, first = [0] * len(order), 0
    for place in reversed(order):
        start, frames = frames_of(metadata, recall.chunks[place])
        first -= frames
        shifts[place] = first - start
    return shifts


def frames_of(metadata: Mapping[int, Mapping[str, Any]], chunk: int) -> tuple[int, int]:
    """First latent frame of a chunk, and the number of its frames.

    Raises:
        ValueError: If they were not noted, since the chunk was written by something else.
    """
    noted = metadata[chunk]
    if "start" not in noted or "frames" not in noted:
        raise ValueError(
            f"the metadata of chunk {chunk} lacks its start and frames; expected a bank whose chunks were written by "
            f"kvbank.adapters. For others call bank.annotate({chunk}, {{'start': ..., 'frames': ...}}), in frames"
        )
    return int(noted["start"]), int(noted["frames"])
