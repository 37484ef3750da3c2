"""Classifier-free guidance: one velocity of a model that may run two branches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.attention.layers import TextStates
from bdiff_core.context import Context, LayerKV
from bdiff_core.model import ChunkDiT


def branches(
    text: Float[Tensor, "*chunks n d"], negative: Float[Tensor, "*chunks n d"], *, guidance: float
) -> Float[Tensor, "b *chunks n d"]:
    """The prompts of the branches: the conditional one and, with guidance, the one to move away from."""
    return text[None] if guidance == 1.0 else torch.stack([text, negative])


@dataclass(frozen=True, slots=True)
class GuidedModel:
    """A model with everything that stays the same while frames are denoised; the batch axis holds the branches."""

    model: ChunkDiT
    text: TextStates
    """The texts of `branches`, embedded."""
    guidance: float = 1.0
    """v = v_null + guidance * (v_text - v_null); 1 runs the conditional branch alone."""
    context: Context | None = None
    """Earlier chunks."""
    start: int = 0
    """Position of the first latent frame."""
    frames_per_chunk: int | None = None
    """Latent frames of a chunk in a block-causal window; None: all frames see each other."""
    extra: Float[Tensor, "1 extra t h w"] | None = None
    """Channels of an image-to-video model."""

    def velocity(self, x: Float[Tensor, "1 c t h w"], level: float | Sequence[float]) -> Float[Tensor, "1 c t h w"]:
        """The guided velocity, at one level for all frames or at one level for each frame."""
        out = self.model(
            self._per_branch(x),
            self._levels(x, level),
            self.text,
            context=self.context,
            start=self.start,
            frames_per_chunk=self.frames_per_chunk,
            extra=None if self.extra is None else self._per_branch(self.extra),
        )
        if self.guidance == 1.0:
            return out
        conditional, null = out.chunk(2)
        return null + self.guidance * (conditional - null)

    def keys_values(self, x: Float[Tensor, "1 c t h w"], *, level: float = 0.0) -> Iterator[LayerKV]:
        """Keys and values of finished frames, from one pass in which the model is told a level."""
        return self.model.keys_values(
            self._per_branch(x), self._levels(x, level), self.text, context=self.context, start=self.start
        )

    def _per_branch(self, x: Tensor) -> Tensor:
        return x if self.guidance == 1.0 else x.expand(2, -1, -1, -1, -1)

    def _levels(self, x: Tensor, level: float | Sequence[float]) -> Tensor:
        row = torch.as_tensor(level, dtype=torch.float32, device=x.device)
        return row.expand(1 if self.guidance == 1.0 else 2, x.shape[2])
