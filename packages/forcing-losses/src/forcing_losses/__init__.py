"""Training losses for block-diffusion video: flow matching and Block Forcing on plain tensors.

from forcing_losses import flow_matching_loss, interpolate

noisy = interpolate(clean, noise, levels)  # levels[b t]: 0 clean, 1 pure noise
loss = flow_matching_loss(model(noisy, levels, text), clean, noise)
loss.backward()
"""

from importlib.metadata import version

from forcing_losses.block_forcing import block_forcing_loss, block_forcing_objective
from forcing_losses.flow_matching import flow_matching_loss, interpolate, velocity
from forcing_losses.reference import semantic_reference

__version__ = version("forcing-losses")

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # flow matching
    "flow_matching_loss",
    "interpolate",
    "velocity",
    # Block Forcing
    "block_forcing_loss",
    "block_forcing_objective",
    "semantic_reference",
]
