"""Previews of a model in training: a held-out story as it is, above the same story as the model generates it."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bdiff import Sampling
from bdiff_core import CausalVAE, ChunkDiT, TextEncoder
from bdiff_core.files import whole_file
from bdiff_train.transformer.story_sampler import Story, StorySampler
from kvbank import Policy

PREVIEW_STORY = 1_000_007
"""Seed of the story of previews, a held-out one."""


def write_preview(
    model: ChunkDiT,
    vae: CausalVAE,
    encoder: TextEncoder,
    *,
    story: Story,
    policy: Policy,
    sampling: Sampling,
    path: Path,
) -> None:
    """Write three frames of each chunk as a PNG: the truth above the model's video, whose first chunk is given."""
    sampler = StorySampler(model=model, vae=vae, encoder=encoder, sampling=sampling)
    generated = sampler.sample(story, policy=policy, seed=0).frames
    ends = torch.tensor(story.chunk_frames).cumsum(0)
    length = story.chunk_frames[-1]
    chosen = torch.cat([ends - 17 * length // 20, ends - 9 * length // 20, ends - 1])
    chosen = chosen.clamp(min=0).sort().values  # the first chunk is shorter
    rows = torch.cat([story.frames[:, chosen], generated[:, chosen]], dim=2)
    # two lines of whole chunks, each with the truth above; the second may be shorter
    per_line = 3 * ((len(story.chunk_frames) + 1) // 2)
    first, *second = [_line(line) for line in rows.split(per_line, dim=1)]
    padded = [F.pad(line, (0, 0, 0, first.shape[1] - line.shape[1]), value=-1.0) for line in second]
    sheet = torch.cat([first, *padded]).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    with whole_file(path) as partial:
        Image.fromarray(sheet.numpy()).save(partial, format="png")


def _line(frames: Float[Tensor, "3 n h w"]) -> Float[Tensor, "h nw 3"]:
    return frames.permute(2, 1, 3, 0).flatten(1, 2)
