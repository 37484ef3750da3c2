"""The causal video autoencoder: a stream of frames to a stream of latents and back."""

from bdiff_core.vae.autoencoder import CausalVAE, VAEConfig, VAEState
from bdiff_core.vae.saving import load_vae, save_vae

__all__ = ["CausalVAE", "VAEConfig", "VAEState", "load_vae", "save_vae"]
