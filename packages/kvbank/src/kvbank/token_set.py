"""Sets of token ids, one bit a token."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenSet:
    """A set of token ids of one chunk, stored as one bit for each token of the chunk.

    A bank remembers for every chunk which tokens each layer kept. For an hour of video at the shapes of a 1.3B model
    this takes 25 MB; ids of 4 bytes would take 800 MB.
    """

    bits: bytes
    """Token i is bit i % 8 of byte i // 8."""
    count: int
    """How many there are."""

    @classmethod
    def of(cls, ids: Int[Tensor, " count"] | Sequence[int], num_tokens: int) -> "TokenSet":
        """From ids below ``num_tokens``, each once, in any order."""
        flags = torch.zeros(-(-num_tokens // 8) * 8, dtype=torch.uint8)
        flags[torch.as_tensor(ids, dtype=torch.int64, device="cpu")] = 1
        packed = (flags.view(-1, 8) << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)
        return cls(bytes(packed.tolist()), len(ids))

    def __len__(self) -> int:
        return self.count

    def ids(self) -> "array[int]":
        """The ids, ascending, as int32."""
        if not self.bits:
            return array("i")
        packed = torch.frombuffer(bytearray(self.bits), dtype=torch.uint8)
        flags = packed[:, None] >> torch.arange(8, dtype=torch.uint8) & 1
        return array("i", flags.flatten().nonzero().flatten().tolist())
