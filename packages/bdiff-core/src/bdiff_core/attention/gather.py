"""The chunks of a training step."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Gather:
    """Chunks picked from one video for a training step: where each sits and which others it sees.

    The latents of the step hold the chunks one after the other, `frames_per_chunk` frames each.
    """

    slots: Int[Tensor, "b chunks"]
    """Position of each chunk, in chunks; 0 is the chunk that is learned, -1 the one before it."""
    visible: Bool[Tensor, "b chunks chunks"]
    """`visible[:, i, j]`: tokens of chunk i see tokens of chunk j. The diagonal is True."""
    keep: Bool[Tensor, "b chunks tokens"] | None = None
    """Tokens that other chunks may see; a chunk always sees all of its own. None: all."""

    def __post_init__(self) -> None:
        if self.visible.shape != (*self.slots.shape, self.slots.shape[1]):
            raise ValueError(
                f"visible is {tuple(self.visible.shape)} and slots {tuple(self.slots.shape)}; "
                "expected (b, chunks, chunks) and (b, chunks)"
            )
        if self.keep is not None and self.keep.shape[:2] != self.slots.shape:
            raise ValueError(f"keep is {tuple(self.keep.shape)}; expected {tuple(self.slots.shape)} + (tokens,)")

    @property
    def num_shared(self) -> int:
        """Chunks in front that other chunks may see; each later one, a noisy copy, is seen by itself alone."""
        own = torch.eye(self.visible.shape[1], dtype=torch.bool, device=self.visible.device)
        shared = (self.visible & ~own).flatten(0, 1).any(dim=0).nonzero()
        return int(shared[-1]) + 1 if len(shared) else 0

    def mask(self, num_tokens: int) -> Bool[Tensor, "b 1 n n"]:
        """Which token sees which, for `num_tokens` tokens a chunk."""
        visible = self.visible[:, :, None, :, None]
        if self.keep is not None:
            if self.keep.shape[2] != num_tokens:
                raise ValueError(f"keep has {self.keep.shape[2]} tokens a chunk; the latents make {num_tokens}")
            own = torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)[:, None, :, None]
            visible = visible & (self.keep[:, None, None] | own)
        mask = visible.expand(-1, -1, num_tokens, -1, num_tokens)
        return rearrange(mask, "b i m j n -> b 1 (i m) (j n)")
