"""noisesched: levels that grow along the chunks of a video, and the noise of any chunk at once."""

import torch

from noisesched import NoiseStream, chunk_levels, denoising_grid, sample_levels

# Training: later chunks train at higher noise, so that they learn to use the earlier ones.
levels = chunk_levels(8, "cosine", level_min=0.5, level_max=0.83)
print("level of each chunk:", [round(level, 3) for level in levels.tolist()])
drawn = sample_levels(levels, 4096, generator=torch.Generator().manual_seed(0))
print("median of the training levels:", [round(level, 3) for level in drawn.median(dim=0).values.tolist()])

# Sampling: one grid for every chunk, from pure noise to clean.
print("grid:", [round(level, 3) for level in denoising_grid(8, shift=5.0).tolist()])

# Chunk 1000 costs what chunk 0 costs, and is the same whenever it is asked for.
noise = NoiseStream((16, 8, 8), 5, seed=7)
late = noise.chunk(1000)
assert torch.equal(late, NoiseStream((16, 8, 8), 5, seed=7).chunk(1000))
# All chunks hold the same base frames; only the frames at their boundaries change places.
assert torch.allclose(late.sum(dim=0), noise.chunk(3).sum(dim=0), atol=1e-5)
print("noise of chunk 1000:", tuple(late.shape))
