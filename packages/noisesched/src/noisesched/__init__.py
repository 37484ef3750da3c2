"""Noise for block-diffusion video: levels per chunk, boundary shuffling and denoising grids.

Example:
    >>> from noisesched import NoiseStream, denoising_grid
    >>> noise = NoiseStream((16, 8, 8), 5, seed=7)
    >>> grid = denoising_grid(num_steps=30, shift=5.0)
    >>> noise.chunk(12).shape  # chunk 12 needs no earlier chunk
    torch.Size([5, 16, 8, 8])
"""

from importlib.metadata import version

from noisesched.boundaries import shuffle_boundaries
from noisesched.levels import (
    denoising_grid,
    few_step_grid,
    level_from_snr,
    nearest_grid,
    shift_levels,
    snr_from_level,
)
from noisesched.sampling import sample_levels
from noisesched.schedules import chunk_levels
from noisesched.stream import NoiseStream

__version__ = version("noisesched")

__all__ = [  # noqa: RUF022 - grouped by use
    # training: a noise level per chunk
    "chunk_levels",
    "sample_levels",
    # levels and grids
    "denoising_grid",
    "few_step_grid",
    "level_from_snr",
    "nearest_grid",
    "shift_levels",
    "snr_from_level",
    # sampling: the noise itself
    "NoiseStream",
    "shuffle_boundaries",
]
