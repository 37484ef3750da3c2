"""Chunk-causal Wan-family diffusion transformer, causal video VAE and the generation loop."""
