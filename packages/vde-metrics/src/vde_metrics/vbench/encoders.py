"""The image encoders of VBench, with VBench's preparation of frames."""

import functools
from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.models.pretrained import PretrainedEncoder

DINO_B16 = "facebook/dino-vitb16"
CLIP_B32 = "openai/clip-vit-base-patch32"
CLIP_L14 = "openai/clip-vit-large-patch14"
SIDE = 224
"""Shorter side of a frame for DINO."""

Colour = tuple[float, float, float]
DINO_MEAN: Colour = (0.485, 0.456, 0.406)
DINO_STD: Colour = (0.229, 0.224, 0.225)
CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
OFFSET = 0.1
"""DINO adds this to the number of patches along a side when it resizes its position embeddings."""


class CLIP(PretrainedEncoder):
    """Image embeddings of a CLIP with VBench's preparation of frames.

    The shorter side is resized to the model's side by bicubic interpolation, without antialiasing and without rounding.
    Then the middle square is cropped. VBench runs CLIP in half precision on a GPU. This class uses single precision.
    """

    def __init__(
        self, source: str | PathLike[str] = CLIP_B32, *, revision: str | None = None, device: str | torch.device = "cpu"
    ) -> None:
        """Choose the weights, as for `PretrainedEncoder`.

        Args:
            source: a folder, or the name of a repository on the hub.
            revision: commit or tag of the repository.
            device: where the model runs.
        """
        super().__init__(source, revision=revision, device=device)

    def _preparation(self) -> str:
        return "VBench: bicubic without antialiasing, middle square, CLIP's colours"

    def _pixels(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n 3 h w"]:
        side = self._model.config.vision_config.image_size
        resized = [middle_square(shorter_side(picture, side, mode="bicubic"), side) for picture in pictures]
        return normalised(torch.cat(resized), CLIP_MEAN, CLIP_STD).to(self._device)


class DINO(PretrainedEncoder):
    """Embeddings of the first DINO with VBench's preparation of frames.

    The shorter side is resized to 224 by bilinear interpolation without antialiasing. Nothing is cropped. The position
    embeddings are resized to the wider grid of patches, as in DINO's own code.
    """

    def __init__(
        self,
        source: str | PathLike[str] = DINO_B16,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        side: int = SIDE,
    ) -> None:
        """Choose the weights, as for `PretrainedEncoder`.

        Args:
            source: a folder, or the name of a repository on the hub, with a ViT in the layout of transformers.
            revision: commit or tag of the repository.
            device: where the model runs.
            side: the shorter side of a frame after resizing; 224 in VBench.
        """
        super().__init__(source, revision=revision, device=device)
        self._side = side

    def _preparation(self) -> str:
        return f"VBench: bilinear without antialiasing to {self._side}, ImageNet's colours"

    def _pixels(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n 3 h w"]:
        resized = [shorter_side(picture, self._side, mode="bilinear") for picture in pictures]
        return normalised(torch.cat(resized), DINO_MEAN, DINO_STD).to(self._device)

    def _embed(self, pixels: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
        found: Tensor = self._resizing(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        return found

    @functools.cached_property
    def _resizing(self) -> Any:
        """The model with DINO's way to resize position embeddings, which differs a little from that of transformers."""
        embeddings = self._model.embeddings
        embeddings.interpolate_pos_encoding = functools.partial(
            resized_positions, embeddings.position_embeddings, self._model.config.patch_size
        )
        return self._model


def resized_positions(
    positions: Float32[Tensor, "1 n d"], patch: int, tokens: Float32[Tensor, "b m d"], height: int, width: int
) -> Float32[Tensor, "1 m d"]:
    """Position embeddings for a picture of another size, as in DINO's own code.

    Args:
        positions: position embeddings of the model: that of the class token, then those of a square grid.
        patch: side of a patch in pixels.
        tokens: tokens of the picture.
        height: height of the picture in pixels.
        width: width of the picture in pixels.
    """
    grid = round((positions.shape[1] - 1) ** 0.5)
    if tokens.shape[1] == positions.shape[1] and height == width:
        return positions
    square = positions[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    scale = ((height // patch + OFFSET) / grid, (width // patch + OFFSET) / grid)
    resized = F.interpolate(square, scale_factor=scale, mode="bicubic")
    return torch.cat([positions[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def shorter_side(
    picture: UInt8[Tensor, "h w 3"], side: int, *, mode: Literal["bilinear", "bicubic"]
) -> Float32[Tensor, "1 3 i j"]:
    """Resize a picture so that its shorter side is ``side``. Values stay 0 to 255, but bicubic may overshoot."""
    height, width = picture.shape[:2]
    short, long = min(height, width), int(side * max(height, width) / min(height, width))
    size = (side, long) if height == short else (long, side)
    pixels = picture.permute(2, 0, 1)[None].float()
    return pixels if size == (height, width) else F.interpolate(pixels, size=size, mode=mode, align_corners=False)


def middle_square(pixels: Float32[Tensor, "n 3 h w"], side: int) -> Float32[Tensor, "n 3 s s"]:
    """Crop the square in the middle."""
    top, left = (round((length - side) / 2.0) for length in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]


def normalised(pixels: Float32[Tensor, "n 3 h w"], mean: Colour, std: Colour) -> Float32[Tensor, "n 3 h w"]:
    """Scale values of 0 to 255 to [0, 1], subtract the mean and divide by the standard deviation."""
    centre, spread = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (mean, std))
    return (pixels / 255.0 - centre) / spread
