"""What an image-to-video model of Wan's family is given of its picture."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.wan.vae import WanVAE


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCondition:
    """Inputs beside the latents and the prompt."""

    extra: Float[Tensor, "1 20 t h8 w8"]
    """Four channels that mark the known frames, and the latents of the picture followed by grey."""
    image_tokens: Float[Tensor, "1 m clip"] | None
    """Of the picture's CLIP encoder, the states before its last layer; None for a model without them."""


@torch.no_grad()
def image_condition(
    picture: Float[Tensor, "1 3 h w"], vae: WanVAE, *, num_frames: int, encoder: Any = None, processor: Any = None
) -> ImageCondition:
    """The condition of a video that begins with a picture.

    Args:
        picture: RGB in [-1, 1], of the video's size.
        vae: Encodes the picture, followed by frames of zeros, as a stream: memory does not grow with the video.
        num_frames: Of the video, 4n - 3.
        encoder: A `CLIPVisionModel`, with its `processor`; None for a model without image tokens.
        processor: A `CLIPImageProcessor`.

    Raises:
        ValueError: If num_frames is not 4n - 3.
    """
    group = vae.temporal_stride
    if num_frames < 1 or (num_frames - 1) % group:
        raise ValueError(f"num_frames is {num_frames}; expected 4n - 3 (1, 5, 9, ...)")
    first, state = vae.encode(picture[:, :, None])
    latents = [first]
    grey = torch.zeros_like(picture)[:, :, None].expand(-1, -1, group, -1, -1)
    for _ in range((num_frames - 1) // group):
        more, state = vae.encode(grey, state)
        latents.append(more)
    known = torch.cat(latents, dim=2)
    mask = torch.zeros_like(known[:, :group])
    mask[:, :, 0] = 1
    return ImageCondition(
        extra=torch.cat([mask, known], dim=1),
        image_tokens=None if encoder is None else _image_tokens(picture, encoder, processor),
    )


def _image_tokens(picture: Tensor, encoder: Any, processor: Any) -> Tensor:
    pixels = ((picture[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    given = processor(images=[pixels.cpu().numpy()], return_tensors="pt").to(encoder.device)
    states: Tensor = encoder(**given, output_hidden_states=True).hidden_states[-2]
    return states
