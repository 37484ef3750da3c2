"""Per-chunk noise levels, boundary shuffling and denoising grids for block-diffusion video."""
