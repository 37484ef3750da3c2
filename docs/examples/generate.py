"""bdiff-core, kvbank and noisesched together: the generation loop, with a small untrained model.

It prints what each of five chunks was shown of the past. Stopping after the third chunk and continuing gives the same
latents as not stopping.
"""

from dataclasses import replace

import torch

from bdiff_core import ChunkCondition, ChunkDiT, generate, tiny
from kvbank import KVBank, SemanticSparse
from noisesched import NoiseStream, denoising_grid

PLACES = [0, 1, 1, 1, 0]  # the last chunk returns to the place of the first
CONFIG = replace(tiny(), dim=48, num_layers=2, num_heads=2, ffn_dim=96)

torch.manual_seed(0)
model = ChunkDiT(CONFIG).eval().requires_grad_(False)
for parameter in model.parameters():  # the last layer of a new model is zero
    parameter.normal_(std=0.05)
texts = torch.randn(2, CONFIG.text_length, CONFIG.text_dim)
chunks = [
    ChunkCondition(
        index=index,
        text=texts[place],
        negative=torch.zeros_like(texts[place]),
        embedding=torch.nn.functional.one_hot(torch.tensor(place), 2).float(),
    )
    for index, place in enumerate(PLACES)
]
bank = KVBank(policy=SemanticSparse(top_l=1, num_recent=2, coverage=0.9), rotate=model.rotate)
noise = NoiseStream((16, 8, 8), 5, seed=7)
grid = denoising_grid(4, shift=3.0)

made = []
for stop_at in (3, 5):  # generate three chunks, stop, and continue
    rest = chunks[len(made) : stop_at]
    for chunk in generate(model, rest, memory=bank, noise=noise, grid=grid, guidance=3.0):
        made.append(chunk.latents)
        seen = dict(zip(chunk.recall.chunks, chunk.recall.kinds, strict=True))
        print(f"chunk {chunk.index} (place {PLACES[chunk.index]}) was shown {seen}")

assert seen == {0: "recalled", 2: "recent", 3: "recent"}
fresh = KVBank(policy=SemanticSparse(top_l=1, num_recent=2, coverage=0.9), rotate=model.rotate)
whole = [chunk.latents for chunk in generate(model, chunks, memory=fresh, noise=noise, grid=grid, guidance=3.0)]
assert all(torch.equal(one, other) for one, other in zip(whole, made, strict=True))
