"""Training losses for block-diffusion video: flow matching, Block Forcing and Self Forcing on plain tensors.

Example:
    >>> from forcing_losses import flow_matching_loss, interpolate
    >>> noisy = interpolate(clean, noise, levels)  # doctest: +SKIP
    >>> loss = flow_matching_loss(model(noisy, levels, text), clean, noise)  # doctest: +SKIP
    >>> loss.backward()  # doctest: +SKIP

Latents are [b c t h w]. Levels are [b t]; 0 is clean, 1 is pure noise.
"""

from importlib.metadata import version

from forcing_losses.adversarial import discriminator_loss, generator_loss, gradient_penalty
from forcing_losses.block_forcing import block_forcing_loss, block_forcing_objective, velocity_forcing_loss
from forcing_losses.discriminator import FeatureDiscriminator, VideoDiscriminator
from forcing_losses.distribution_matching import distribution_matching_loss, score_identity_loss
from forcing_losses.flow_matching import flow_matching_loss, interpolate, velocity
from forcing_losses.reference import semantic_reference
from forcing_losses.rollout import ChunkGenerator, RolloutChunk, RolloutMemory, Truncation, self_forcing_rollout

__version__ = version("forcing-losses")

__all__ = [  # noqa: RUF022 - grouped by use
    # flow matching
    "flow_matching_loss",
    "interpolate",
    "velocity",
    # Block Forcing
    "block_forcing_loss",
    "block_forcing_objective",
    "semantic_reference",
    "velocity_forcing_loss",
    # Self Forcing: roll-outs
    "ChunkGenerator",
    "RolloutChunk",
    "RolloutMemory",
    "Truncation",
    "self_forcing_rollout",
    # Self Forcing: losses with a discriminator
    "FeatureDiscriminator",
    "VideoDiscriminator",
    "discriminator_loss",
    "generator_loss",
    "gradient_penalty",
    # Self Forcing: losses with a teacher
    "distribution_matching_loss",
    "score_identity_loss",
]
