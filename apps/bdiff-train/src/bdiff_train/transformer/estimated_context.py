"""Context as sampling will show it: the model's own estimates instead of true chunks."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bdiff_core import ChunkDiT
from bdiff_core.attention import Gather
from bdiff_train.transformer.batches import Batch
from forcing_losses import interpolate

_COARSE = 4
"""Side of the coarse picture in which the colours of an anchor are corrected."""

_LEAST, _MOST = 0.5, 0.93
"""Range of levels from which an estimate still has the chunk's own colours and place."""


@torch.no_grad()
def with_estimated_context(
    model: ChunkDiT,
    batch: Batch,
    *,
    share: float,
    frames_per_chunk: int,
    generator: torch.Generator,
    passes: int = 1,
    tint: float = 0.0,
) -> Batch:
    """Replace the context of some samples by the model's estimates of it.

    A model that has only seen true chunks copies the softness of its own chunks into the next one. Here each context
    chunk is noised to a random level and estimated in one step, x_0 = x_t - t v, under the true chunks before it. The
    target stays true. (Self Forcing does this with whole roll-outs; here one step costs one forward pass.)

    A further pass makes estimates of the estimates, under those before them. Late in a video, a recalled chunk was made
    from recalled chunks itself, and each time something was lost. A model trained so learns to restore what it can.

    A sink stays true: a video starts with it, and the model can look up there what the other chunks have lost.

    With `tint` the estimates get false, smooth colours, different for each chunk. Only the anchor, which is the oldest
    chunk that shows the target's scene, gets the true colours. All estimates are equally soft. So the model learns to
    take colours from the chunk that was copied least.

    Args:
        model: The model in training.
        batch: A batch of `make_batch`.
        share: Share of the samples, from 0 to 1; at 0 the batch is returned as it is.
        frames_per_chunk: Latent frames of a chunk.
        generator: The generator of all draws; on the CPU, wherever the batch is.
        passes: Largest number of passes; the number is drawn for the batch, uniformly from 1 on.
        tint: Largest standard deviation of the false colours; that of each chunk is drawn uniformly from 0 on.
    """
    chosen = torch.rand(len(batch.latents), generator=generator) < share
    if not chosen.any():
        return batch
    number = 1 if passes == 1 else int(torch.randint(1, passes + 1, (), generator=generator))
    estimated = batch
    for _ in range(number):
        estimated = _estimated(model, estimated, chosen, frames_per_chunk=frames_per_chunk, generator=generator)
    if not tint:
        return estimated
    return _tinted(estimated, batch.latents, chosen, tint=tint, frames_per_chunk=frames_per_chunk, generator=generator)


def _estimated(
    model: ChunkDiT, batch: Batch, chosen: Tensor, *, frames_per_chunk: int, generator: torch.Generator
) -> Batch:
    """Make one pass: estimate the context that the chosen samples hold now."""
    samples, context = batch.sink[chosen].shape
    length, device = context * frames_per_chunk, batch.latents.device
    clean = batch.latents[chosen, :, :length]
    per_chunk = _LEAST + (_MOST - _LEAST) * torch.rand(samples, context, generator=generator)
    levels = per_chunk.repeat_interleave(frames_per_chunk, dim=1).to(device)
    noisy = interpolate(clean, torch.randn(clean.shape, generator=generator).to(device), levels)
    velocity = model.gathered(
        torch.cat([clean, noisy], dim=2),
        torch.cat([torch.zeros_like(levels), levels], dim=1),
        batch.text[chosen, :context].repeat(1, 2, 1, 1),
        _twice(batch.gather, chosen, context),
        frames_per_chunk=frames_per_chunk,
    )[:, :, length:]
    estimated = noisy - levels[:, None, :, None, None] * velocity.float()
    stays = _frames(batch.sink[chosen], frames_per_chunk)
    latents = batch.latents.clone()
    latents[chosen, :, :length] = torch.where(stays, clean, estimated)
    return replace(batch, latents=latents)


def _tinted(
    batch: Batch, true: Tensor, chosen: Tensor, *, tint: float, frames_per_chunk: int, generator: torch.Generator
) -> Batch:
    """Give the context of the chosen samples false colours, the anchor its true ones; the sink stays as it is."""
    samples, context = batch.anchor[chosen].shape
    channels, size = true.shape[1], true.shape[-2:]
    length = context * frames_per_chunk
    spread = tint * torch.rand(samples, 1, context, 1, 1, generator=generator)
    corners = spread * torch.randn(samples, channels, context, 2, 2, generator=generator)
    false = _smooth(corners.to(true.device), size).repeat_interleave(frames_per_chunk, dim=2)
    shown = batch.latents[chosen, :, :length]
    lost = true[chosen, :, :length] - shown
    coarse = F.adaptive_avg_pool3d(lost, (length, min(_COARSE, size[0]), min(_COARSE, size[1])))
    change = torch.where(_frames(batch.anchor[chosen], frames_per_chunk), _smooth(coarse, size), false)
    stays = _frames(batch.sink[chosen], frames_per_chunk)
    latents = batch.latents.clone()
    latents[chosen, :, :length] = shown + torch.where(stays, 0.0, change)
    return replace(batch, latents=latents)


def _frames(places: Tensor, frames_per_chunk: int) -> Tensor:
    """Spread values of context places over their frames, in a shape that broadcasts with latents."""
    return places.repeat_interleave(frames_per_chunk, dim=1)[:, None, :, None, None]


def _smooth(grid: Tensor, size: torch.Size) -> Tensor:
    """Enlarge a coarse picture of each frame smoothly to the full size."""
    return F.interpolate(grid, (grid.shape[2], *size), mode="trilinear", align_corners=True)


def _twice(gather: Gather, chosen: Tensor, context: int) -> Gather:
    """Lay out the context clean, then noisy: each noisy chunk sees itself and the clean chunks before it."""
    seen = gather.visible[chosen, :context, :context]
    own = torch.eye(context, dtype=torch.bool, device=seen.device).expand_as(seen)
    visible = torch.cat([torch.cat([seen, torch.zeros_like(own)], dim=2), torch.cat([seen & ~own, own], dim=2)], dim=1)
    return Gather(slots=gather.slots[chosen, :context].repeat(1, 2), visible=visible)
