"""Context as sampling will show it: not true chunks, but what the model makes of them."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bdiff_core import Gather
from bdiff_train.transformer.batches import Batch
from forcing_losses import interpolate

_COARSE = 4
"""Colours of an anchor are made true in a picture of so many places a side."""

_LEAST, _MOST = 0.5, 0.93  # levels from which a chunk is still estimated as itself, its colours and its place


@torch.no_grad()
def with_estimated_context(
    model: nn.Module,
    batch: Batch,
    *,
    share: float,
    frames_per_chunk: int,
    generator: torch.Generator,
    passes: int = 1,
    tint: float = 0.0,
) -> Batch:
    """A batch in which some samples see estimates of their context instead of the truth.

    A model that has only seen true chunks copies the softness of its own into the next one. Here each context chunk is
    noised to a random level and estimated in one step, x_0 = x_t - t v, under the true chunks before it; what is
    learned stays the true target. (Self Forcing does this with whole roll-outs; one step costs a forward pass.)

    A further pass makes estimates of the estimates, under those before them: what is recalled late in a film has been
    recalled before, and each time some of it was lost. A model that has seen such learns to put back what it can.

    A sink stays true: it is what a film begins with, and where a model can look up what the others have lost.

    With `tint` the estimates get false colours, smooth ones, each chunk its own; only the anchor, the oldest chunk that
    shows what the target shows, gets the true ones. All are as soft. So the model learns whose colours to take: those
    of the copy that was copied least.

    Args:
        model: The model in training.
        batch: From `make_batch`.
        share: Of the samples, at least 0 and at most 1; 0 gives the batch back.
        frames_per_chunk: Latent frames of a chunk.
        generator: Of the choice, the levels and the noise; on the CPU, wherever the batch is.
        passes: Most of them; their number is drawn for the batch, each from 1 on as likely as any other.
        tint: Largest standard deviation of the false colours; each chunk's is drawn evenly from 0 on.
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
    model: nn.Module, batch: Batch, chosen: Tensor, *, frames_per_chunk: int, generator: torch.Generator
) -> Batch:
    """One pass: the chosen samples with estimates of what they hold now."""
    samples, context = batch.sink[chosen].shape
    length, device = context * frames_per_chunk, batch.latents.device
    clean = batch.latents[chosen, :, :length]
    per_chunk = _LEAST + (_MOST - _LEAST) * torch.rand(samples, context, generator=generator)
    levels = per_chunk.repeat_interleave(frames_per_chunk, dim=1).to(device)
    noisy = interpolate(clean, torch.randn(clean.shape, generator=generator).to(device), levels)
    velocity = model(
        torch.cat([clean, noisy], dim=2),
        torch.cat([torch.zeros_like(levels), levels], dim=1),
        batch.text[chosen, :context].repeat(1, 2, 1, 1),
        frames_per_chunk=frames_per_chunk,
        gather=_twice(batch.gather, chosen, context),
    )[:, :, length:]
    estimated = noisy - levels[:, None, :, None, None] * velocity.float()
    stays = _frames(batch.sink[chosen], frames_per_chunk)
    latents = batch.latents.clone()
    latents[chosen, :, :length] = torch.where(stays, clean, estimated)
    return replace(batch, latents=latents)


def _tinted(
    batch: Batch, true: Tensor, chosen: Tensor, *, tint: float, frames_per_chunk: int, generator: torch.Generator
) -> Batch:
    """The chosen samples with false colours in the context, but for the sink, and with the true ones in the anchor."""
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
    """What holds for context places, for their frames: to be used with latents."""
    return places.repeat_interleave(frames_per_chunk, dim=1)[:, None, :, None, None]


def _smooth(grid: Tensor, size: torch.Size) -> Tensor:
    """A coarse picture of each frame, drawn out to the full size."""
    return F.interpolate(grid, (grid.shape[2], *size), mode="trilinear", align_corners=True)


def _twice(gather: Gather, chosen: Tensor, context: int) -> Gather:
    """The context chunks clean, then noisy: each noisy one sees itself and the clean ones that its clean twin sees."""
    seen = gather.visible[chosen, :context, :context]
    own = torch.eye(context, dtype=torch.bool, device=seen.device).expand_as(seen)
    visible = torch.cat([torch.cat([seen, torch.zeros_like(own)], dim=2), torch.cat([seen & ~own, own], dim=2)], dim=1)
    return Gather(slots=gather.slots[chosen, :context].repeat(1, 2), visible=visible)
