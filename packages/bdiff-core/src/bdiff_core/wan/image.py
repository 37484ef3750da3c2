"""The condition of an image-to-video model of Wan's family, made of a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core.errors import first_line
from bdiff_core.wan.checks import check_files, check_module


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCondition:
    """Inputs beside the latents and the prompt."""

    extra: Float[Tensor, "1 extra t h8 w8"]
    """Four channels that mark the known frames, and the latents of the picture followed by grey."""
    image_tokens: Float[Tensor, "1 m clip"] | None
    """States of the picture before the last layer of its CLIP encoder; None for a model without them."""


@torch.no_grad()
def image_condition(
    picture: Float[Tensor, "1 3 h w"], vae: Any, *, num_frames: int, encoder: Any = None, processor: Any = None
) -> ImageCondition:
    """The condition of a video that begins with a picture.

    Args:
        picture: RGB in [-1, 1], of the video's size.
        vae: A `WanVAE`, or what encodes as it does. It encodes the picture, followed by frames of zeros, as a stream:
            memory does not grow with the video.
        num_frames: Frames of the video, 4n - 3.
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


def load_image_encoder(
    path_or_repo: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Any, Any]:
    """Read the folders ``image_encoder`` and ``image_processor`` of a pipeline, or of a repository on the hub.

    Returns:
        The `encoder` and the `processor` that `image_condition` takes.

    Raises:
        ValueError: If transformers is missing, or the folders do not hold them, or the weights are not finite.
    """
    try:
        import transformers
        from transformers.utils import logging as transformers_logging
    except ImportError:
        raise ValueError("Wan's image encoder needs transformers: pip install 'bdiff-core[wan]'") from None
    transformers_logging.disable_progress_bar()
    # Pillow resizes as the published pipelines did; where torchvision is installed the other class would not.
    processor_kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    check_files(Path(path_or_repo, "image_encoder"))
    try:
        where: dict[str, Any] = {"subfolder": "image_encoder"}
        config = transformers.AutoConfig.from_pretrained(str(path_or_repo), **where)
        projected = "CLIPVisionModelWithProjection" in (config.architectures or ())
        kind: Any = transformers.CLIPVisionModelWithProjection if projected else transformers.CLIPVisionModel
        encoder, found = kind.from_pretrained(str(path_or_repo), dtype=dtype, output_loading_info=True, **where)
        processor = processor_kind.from_pretrained(str(path_or_repo), subfolder="image_processor")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path_or_repo}: cannot load the image encoder: {first_line(error)}") from None
    check_module(encoder, found, Path(path_or_repo, "image_encoder"))
    return encoder.to(device).eval().requires_grad_(False), processor


def _image_tokens(picture: Tensor, encoder: Any, processor: Any) -> Tensor:
    pixels = ((picture[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    given = processor(images=[pixels.cpu().numpy()], return_tensors="pt").to(encoder.device, dtype=encoder.dtype)
    states: Tensor = encoder(**given, output_hidden_states=True).hidden_states[-2]
    return states
