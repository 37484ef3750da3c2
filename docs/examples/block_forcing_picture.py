"""forcing-losses: the best answer to the objective of Block Forcing, in the pixels of a rendered story."""

from pathlib import Path

import torch
from PIL import Image

import storyworld
from forcing_losses import block_forcing_objective, semantic_reference, velocity

story = storyworld.render(11, 12, richness=0)
chunks = list(story.frames[None].split(list(story.chunk_frames), dim=2))
place = story.truth.place.tolist()
current = next(c for c in range(len(place) - 1, 0, -1) if place[:c].count(place[c]) >= 2)
similarity = [float(place[c] == place[current]) for c in range(current)]
clean = chunks[current]
reference = semantic_reference(chunks[:current], similarity, top_l=2, num_frames=clean.shape[2])

shown, noise = [clean, reference], torch.zeros_like(clean)  # any noise will do: it is on both sides
for weight in (0.25, 1.0):
    answer = (clean + weight * reference) / (1 + weight)
    pred = velocity(answer, noise).requires_grad_()
    loss = block_forcing_objective(pred, clean, noise, reference, gamma=1.0, weight=weight)
    assert torch.autograd.grad(loss, pred)[0].abs().max() < 1e-8  # no other answer is better
    shown.append(answer)

strip = torch.cat([torch.nn.functional.pad(video[0, :, -1], (2, 2, 2, 2), value=1.0) for video in shown], dim=2)
picture = strip.add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
Image.fromarray(picture).resize((3 * picture.shape[1], 3 * picture.shape[0]), Image.Resampling.NEAREST).save(
    Path("losses-block-forcing.png"), optimize=True
)
