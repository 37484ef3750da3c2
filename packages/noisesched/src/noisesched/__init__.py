"""Per-chunk noise levels, boundary shuffling and denoising grids for block-diffusion video.

from noisesched import NoiseStream, denoising_grid

noise = NoiseStream((16, 8, 8), 5, seed=7)
grid = denoising_grid(num_steps=30, shift=5.0)
latents = noise.chunk(12)  # chunk 12 straight away: no earlier chunk is needed
"""

from importlib.metadata import version

from noisesched.boundaries import shuffle_boundaries
from noisesched.levels import denoising_grid, level_from_snr, shift_levels, snr_from_level
from noisesched.sampling import sample_levels
from noisesched.schedules import chunk_levels
from noisesched.stream import NoiseStream

__version__ = version("noisesched")

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # training: a noise level per chunk
    "chunk_levels",
    "sample_levels",
    # levels and grids
    "denoising_grid",
    "level_from_snr",
    "shift_levels",
    "snr_from_level",
    # sampling: the noise itself
    "NoiseStream",
    "shuffle_boundaries",
]
