"""What all layers of one pass share: where its tokens sit, which of them see each other, and what attends."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bdiff_core.rope import rotate, rotation

Attend = Callable[[Tensor, Tensor, Tensor, "PassLayout | None"], Tensor]
"""Attention of queries to keys and values `[b heads n dh]`: to those that a layout shows, or with None to all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gather:
    """Chunks picked from one video for a training step: where each sits and which others it sees.

    The latents of the step hold the chunks one after the other, `frames_per_chunk` frames each.
    """

    slots: Int[Tensor, "b chunks"]
    """Position of each chunk, in chunks; 0 is the chunk that is learned, -1 the one before it."""
    visible: Bool[Tensor, "b chunks chunks"]
    """`visible[:, i, j]`: tokens of chunk i attend to tokens of chunk j. The diagonal is True."""
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

    def mask(self, num_tokens: int) -> Bool[Tensor, "b 1 n n"]:
        """Which token attends to which, for `num_tokens` tokens a chunk."""
        visible = self.visible[:, :, None, :, None]
        if self.keep is not None:
            if self.keep.shape[2] != num_tokens:
                raise ValueError(f"keep has {self.keep.shape[2]} tokens a chunk; the latents make {num_tokens}")
            own = torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)[:, None, :, None]
            visible = visible & (self.keep[:, None, None] | own)
        mask = visible.expand(-1, -1, num_tokens, -1, num_tokens)
        return rearrange(mask, "b i m j n -> b 1 (i m) (j n)")


class PassLayout:
    """What all layers of one pass share; made once, at the top of the pass.

    Keys are those of earlier chunks, which every query sees, followed by those of the pass.

    Args:
        kernel: What attends.
        position: Time, row and column of each token of the pass; None: nothing is rotated.
        head_dim: Width of a head.
        theta: Base of the rotary frequencies.
        chunk_tokens: Tokens of one chunk when chunks see themselves and earlier ones only; None: no such order.
        mask: Added to the scores: 0 where a query (third axis) sees a key, -inf where not. None: no mask.
        visible: Where the mask is that of a `Gather`: which of its chunks see each other.
    """

    def __init__(
        self,
        kernel: Attend,
        *,
        position: Int[Tensor, "*b n 3"] | None = None,
        head_dim: int = 0,
        theta: float = 10000.0,
        chunk_tokens: int | None = None,
        mask: Float[Tensor, "b 1 n n"] | None = None,
        visible: Bool[Tensor, "b chunks chunks"] | None = None,
    ) -> None:
        self._kernel = kernel
        self.chunk_tokens, self.mask, self.visible = chunk_tokens, mask, visible
        self.block_masks: dict[int, Any] = {}
        """Masks of FlexAttention by the number of keys of earlier chunks; the first layer that asks makes one."""
        if position is not None:
            self._cos, self._sin = (x.unsqueeze(-3) for x in rotation(position, head_dim, theta))

    @classmethod
    def of_gather(
        cls,
        kernel: Attend,
        gather: Gather,
        chunk: Int[Tensor, "tokens 3"],
        *,
        frames_per_chunk: int,
        dtype: torch.dtype,
        head_dim: int,
        theta: float,
    ) -> "PassLayout":
        """The layout of a training step.

        Args:
            kernel: What attends.
            gather: Which chunks the latents hold.
            chunk: Time, row and column of each token of the first chunk of a video.
            frames_per_chunk: Latent frames of a chunk.
            dtype: Number type of the scores.
            head_dim: Width of a head.
            theta: Base of the rotary frequencies.
        """
        shift = F.pad(gather.slots[..., None] * frames_per_chunk, (0, 2))
        position = rearrange(shift[:, :, None] + chunk, "b chunks n txy -> b (chunks n) txy")
        # Scores are shifted by a mask of their own dtype, made once: each layer would make it anew of a boolean one.
        seen = torch.zeros((), dtype=dtype, device=chunk.device)
        mask = seen.where(gather.mask(len(chunk)), float("-inf"))
        return cls(kernel, position=position, head_dim=head_dim, theta=theta, mask=mask, visible=gather.visible)

    def rotate(self, x: Float[Tensor, "b heads n dh"]) -> Float[Tensor, "b heads n dh"]:
        """Apply the positions of the pass to queries or keys."""
        return rotate(x, self._cos, self._sin)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "b heads n dh"]:
        """Attention of the tokens of the pass to what each of them sees."""
        return self._kernel(q, k, v, self)

    def attend_all(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "b heads n dh"]:
        """Attention to all keys, as to those of a prompt."""
        return self._kernel(q, k, v, None)

    @cached_property
    def num_shared(self) -> int:
        """Chunks in front that others see; those behind, the noisy copies of training, see what only they see."""
        if self.visible is None:
            return 0
        own = torch.eye(self.visible.shape[1], dtype=torch.bool, device=self.visible.device)
        shared = (self.visible & ~own).flatten(0, 1).any(dim=0).nonzero()
        return int(shared[-1]) + 1 if len(shared) else 0
