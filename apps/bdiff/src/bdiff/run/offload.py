"""Parts of a model one after the other, so that the peak of memory is that of the largest phase, not of all parts."""

import gc
from typing import Any

import torch
from torch import Tensor

from bdiff.run.allocator import give_back_freed
from bdiff.run.models import Autoencoder


class OnDemand:
    """An autoencoder that is on the device only while it codes.

    Args:
        vae: The autoencoder; it is moved to the CPU at once.
        device: Where it is to compute.
    """

    def __init__(self, vae: Autoencoder, device: torch.device) -> None:
        self._vae, self._device = vae, device
        vae.to("cpu")

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame."""
        return self._vae.latent_channels

    @property
    def spatial_stride(self) -> int:
        """Pixels, in each direction, that a latent covers."""
        return self._vae.spatial_stride

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    def to(self, device: torch.device | str) -> "OnDemand":
        """Compute elsewhere from now on."""
        self._device = torch.device(device)
        return self

    def decode(self, latents: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Decode the next latents of a stream."""
        self._vae.to(self._device)
        try:
            return self._vae.decode(latents, state)
        finally:
            self._vae.to("cpu")

    def encode(self, frames: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Encode the next frames of a stream."""
        self._vae.to(self._device)
        try:
            return self._vae.encode(frames, state)
        finally:
            self._vae.to("cpu")


def give_back() -> None:
    """Hand the memory of parts that are no longer needed back to the system and the device."""
    gc.collect()
    give_back_freed()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
