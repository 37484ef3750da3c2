"""The inputs of a pass: checked, and prepared once for all layers."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from bdiff_core.attention.backends import Backend
from bdiff_core.attention.gather import Gather
from bdiff_core.attention.kernels import HALF
from bdiff_core.attention.view import View
from bdiff_core.config import ModelConfig
from bdiff_core.context import Context, ContextLayer
from bdiff_core.rope import rotation


def token_positions(
    latents: Float[Tensor, "b c t h w"], config: ModelConfig, *, start: int = 0
) -> Int[Tensor, "tokens 3"]:
    """Time, row and column of each token; `start` is the time of the first latent frame."""
    _, rows, columns = config.patch_size
    frames, height, width = latents.shape[2:]
    ranges = ((start, start + frames), (0, height // rows), (0, width // columns))
    return torch.cartesian_prod(*(torch.arange(*ends, device=latents.device) for ends in ranges))


def chunk_view(
    latents: Float[Tensor, "b c t h w"],
    config: ModelConfig,
    backend: Backend,
    *,
    frames_per_chunk: int | None,
    start: int,
    context: Context | None,
) -> View:
    """What a pass over consecutive frames sees.

    Raises:
        ValueError: If the frames do not divide into chunks.
    """
    _check_chunks(latents, frames_per_chunk)
    position = token_positions(latents, config, start=start)
    chunk_tokens = None if frames_per_chunk is None else len(position) // latents.shape[2] * frames_per_chunk
    cos, sin = rotation(position, config.head_dim, config.rope_theta)
    view = View(cos=cos[None, None], sin=sin[None, None], attend=backend.attend, chunk_tokens=chunk_tokens)
    if backend.block_masks is None:
        return view
    past = [layer.length for layer in context.layers] if context is not None else []
    return replace(view, block_masks=backend.block_masks(view, past or [0]))


def gathered_view(
    latents: Float[Tensor, "b c t h w"],
    config: ModelConfig,
    backend: Backend,
    gather: Gather,
    *,
    frames_per_chunk: int,
    dtype: torch.dtype,
) -> View:
    """What a pass over gathered chunks sees; `dtype` is the one in which attention runs.

    Raises:
        ValueError: If the latents do not hold the chunks of the gather.
    """
    _check_chunks(latents, frames_per_chunk)
    expected = (latents.shape[0], latents.shape[2] // frames_per_chunk)
    if gather.slots.shape != expected:
        raise ValueError(
            f"gather.slots is {tuple(gather.slots.shape)}; the latents are {expected[0]} videos of {expected[1]} chunks"
        )
    chunk = token_positions(latents[:, :, :frames_per_chunk], config)
    shift = F.pad(gather.slots[..., None] * frames_per_chunk, (0, 2))
    position = rearrange(shift[:, :, None] + chunk, "b chunks n txy -> b (chunks n) txy")
    cos, sin = rotation(position, config.head_dim, config.rope_theta)
    # Scores are shifted by a mask of their own dtype, made once: each layer would make it anew of a boolean one.
    zero = torch.zeros((), dtype=dtype, device=latents.device)
    # Only the kernel for half precision on a CPU uses the count; elsewhere counting would wait for the device.
    counted = dtype in HALF and latents.device.type == "cpu"
    view = View(
        cos=cos.unsqueeze(1),
        sin=sin.unsqueeze(1),
        attend=backend.attend,
        chunk_tokens=len(chunk),
        mask=zero.where(gather.mask(len(chunk)), float("-inf")),
        num_shared=gather.num_shared if counted else None,
    )
    return view if backend.block_masks is None else replace(view, block_masks=backend.block_masks(view, [0]))


def past_layers(context: Context | None, num_layers: int) -> tuple[ContextLayer | None, ...]:
    """The keys and values of earlier chunks for each layer; None where there are none.

    Raises:
        ValueError: If the context is that of another model.
    """
    if context is None or not context.layers:
        return (None,) * num_layers
    if len(context.layers) != num_layers:
        raise ValueError(f"context has {len(context.layers)} layers, the model {num_layers}")
    return context.layers


def check_latents(latents: Tensor, levels: Tensor, config: ModelConfig, *, extra: Tensor | None) -> None:
    """Check latents, the channels beside them and their levels.

    Raises:
        ValueError: If a size is not what the config or the latents need.
    """
    _, rows, columns = config.patch_size
    channels = latents.shape[1] + (0 if extra is None else extra.shape[1])
    if channels != config.in_channels:
        raise ValueError(f"latents (with extra) have {channels} channels, expected {config.in_channels}")
    if latents.shape[3] % rows or latents.shape[4] % columns:
        raise ValueError(f"latents are {tuple(latents.shape[3:])} high and wide; patches are {rows} by {columns}")
    if levels.shape != (latents.shape[0], latents.shape[2]):
        raise ValueError(
            f"levels are {tuple(levels.shape)}; expected one for each video and frame, "
            f"{(latents.shape[0], latents.shape[2])}"
        )


def check_text(text: Tensor, config: ModelConfig, *, image_tokens: Tensor | None) -> None:
    """Check the states of prompts, and the image tokens that go with them.

    Raises:
        ValueError: If a size is not what the config needs, or image tokens are missing or not wanted.
    """
    if text.shape[-1] != config.text_dim or text.shape[-2] > config.text_length:
        raise ValueError(
            f"text is {tuple(text.shape)}; expected at most {config.text_length} tokens (text_length) of width "
            f"{config.text_dim} (text_dim)"
        )
    if (image_tokens is None) != (config.image_dim is None):
        raise ValueError("image_tokens go with config.image_dim: give both or neither")
    if image_tokens is None:
        return
    batch, length = text.shape[0], config.image_length
    count = image_tokens.shape[0] * image_tokens.shape[1]
    fits = image_tokens.shape[0] == batch if length is None else count == batch * length
    if not fits or image_tokens.shape[2] != config.image_dim:
        many = "any number of" if length is None else f"{length} (image_length)"
        raise ValueError(
            f"image_tokens are {tuple(image_tokens.shape)}; expected {many} tokens of width {config.image_dim} "
            f"(image_dim) for each of {batch} videos"
        )


def check_prompts(num_prompts: int, batch: int, latents: Tensor, *, frames_per_chunk: int | None) -> None:
    """Check that the prompts are as many as the videos and, if there are several a video, as its chunks.

    Raises:
        ValueError: If they are not.
    """
    frames = latents.shape[2]
    if batch != latents.shape[0]:
        raise ValueError(f"text has a batch of {batch}, latents of {latents.shape[0]}")
    if num_prompts > 1 and (frames_per_chunk is None or num_prompts * frames_per_chunk != frames):
        raise ValueError(
            f"{num_prompts} prompts a video, one for each chunk, need frames_per_chunk * {num_prompts} latent frames; "
            f"there are {frames} and frames_per_chunk is {frames_per_chunk}"
        )


def _check_chunks(latents: Tensor, frames_per_chunk: int | None) -> None:
    frames = latents.shape[2]
    if frames_per_chunk is not None and (frames_per_chunk < 1 or frames % frames_per_chunk):
        raise ValueError(f"{frames} latent frames do not divide into chunks of {frames_per_chunk} frames_per_chunk")
