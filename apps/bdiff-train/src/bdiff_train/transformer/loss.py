"""The loss on real videos: flow matching on a batch, and Block Forcing where it is asked for."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core import ChunkDiT
from bdiff_train.transformer.batches import Batch
from forcing_losses import block_forcing_loss, flow_matching_loss

_HALF_MOTION = 0.15
"""Motion at which half of the motion weight is reached: about a tenth of the variance of latents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockForcingConfig:
    """Settings of Block Forcing (BlockVid section 3.3, Eq. 5), which is added to flow matching."""

    weight: float
    """Weight of Eq. 5 (w); flow matching has weight 1."""
    gamma: float = 1.0
    """Factor of the reference in the target of Eq. 5."""
    top_l: int = 2
    """Number of similar past chunks whose mean is the reference x_cond."""

    def __post_init__(self) -> None:
        if self.weight <= 0 or not 0 <= self.gamma <= 1 or self.top_l < 1:
            raise ValueError(
                f"weight is {self.weight}, gamma {self.gamma}, top_l {self.top_l}; expected a weight above 0 (leave "
                "Block Forcing out for plain flow matching), a gamma in [0, 1] and at least 1 chunk"
            )


def copies_velocity(
    model: ChunkDiT, batch: Batch, *, frames_per_chunk: int, bfloat16: bool = False
) -> Float[Tensor, "b c t_target h w"]:
    """Compute the velocity of the noisy copies of a batch's targets."""
    with torch.autocast(batch.latents.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        velocity = model.gathered(
            batch.latents, batch.levels, batch.text, batch.gather, frames_per_chunk=frames_per_chunk
        )
    return velocity[:, :, -batch.clean.shape[2] :].float()


def fidelity_loss(
    velocity: Float[Tensor, "b c t_target h w"],
    batch: Batch,
    *,
    frames_per_chunk: int,
    motion: float = 0.0,
    block_forcing: BlockForcingConfig | None = None,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Flow matching (Eqs. 2-4), weighted by motion, plus weight * Eq. 5; a target without a past has no second part.

    Args:
        velocity: The model's velocity of the noisy copies.
        batch: The batch; it has a reference if Block Forcing is asked for.
        frames_per_chunk: Latent frames of a chunk.
        motion: Strength of `motion_weight`.
        block_forcing: Weight and gamma of Eq. 5; None: flow matching alone.

    Returns:
        The loss, and its parts as figures if there are two.

    Raises:
        ValueError: If Block Forcing is asked for and the batch has no reference.
    """
    weight = motion_weight(batch.clean, frames_per_chunk=frames_per_chunk, strength=motion)
    loss = flow_matching_loss(velocity, batch.clean, batch.noise, weight=weight)
    if block_forcing is None:
        return loss, {}
    if batch.reference is None:
        raise ValueError("Block Forcing needs the reference of a batch: give make_batch reference_chunks")
    later = torch.tensor([target > 0 for target in batch.targets], device=velocity.device)
    if not later.any():
        return loss, {"flow_matching": loss.item()}
    parts = (velocity[later], batch.noise[later], batch.reference[later])
    alignment = block_forcing_loss(*parts, gamma=block_forcing.gamma) * (later.sum() / len(later))
    figures = {"flow_matching": loss.item(), "block_forcing": alignment.item()}
    return loss + block_forcing.weight * alignment, figures


def motion_weight(
    clean: Float[Tensor, "b c t h w"], *, frames_per_chunk: int, strength: float
) -> Float[Tensor, "b 1 t h w"]:
    """Compute the weight of each latent: it rises from 1 to ``1 + strength`` with motion, then the mean becomes 1.

    Motion is the mean square over channels of the distance to the chunk's median frame.

    Args:
        clean: Latents of whole chunks.
        frames_per_chunk: Latent frames of a chunk.
        strength: Weight of motion; at 0 all latents have the same weight.
    """
    chunks = clean.unflatten(2, (-1, frames_per_chunk))
    motion = (chunks - chunks.median(3, keepdim=True).values).square().mean(1, keepdim=True).flatten(2, 3)
    weight = 1 + strength * motion / (motion + _HALF_MOTION)
    return weight / weight.mean()
