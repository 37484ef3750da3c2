"""Prompts and image tokens as a model takes them."""

from dataclasses import dataclass

from torch import Tensor

from bdiff_core.attention.layers import TextKV
from bdiff_core.config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TextStates:
    """Prompts (and image tokens) as every layer's cross attention sees them; made once, used for all steps."""

    layers: tuple[TextKV, ...]
    num_prompts: int
    """Prompts a video: 1, or one for each chunk."""


def check_text(text: Tensor, image_tokens: Tensor | None, config: ModelConfig) -> None:
    """Whether prompts and image tokens are of the model's sizes.

    Raises:
        ValueError: If they are not, or image tokens are missing or not wanted.
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
    """Whether prompts go with the latents: as many videos, and one prompt a video or one a chunk.

    Raises:
        ValueError: If they do not.
    """
    frames = latents.shape[2]
    if batch != latents.shape[0]:
        raise ValueError(f"text has a batch of {batch}, latents of {latents.shape[0]}")
    if num_prompts > 1 and (frames_per_chunk is None or num_prompts * frames_per_chunk != frames):
        raise ValueError(
            f"{num_prompts} prompts a video, one a chunk, need frames_per_chunk * {num_prompts} latent frames; "
            f"there are {frames} and frames_per_chunk is {frames_per_chunk}"
        )
