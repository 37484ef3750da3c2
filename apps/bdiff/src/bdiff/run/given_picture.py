"""Pictures from outside, as the model sees them: of its size, pixels in [-1, 1]."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff.files import missing

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenPicture:
    """A picture that a video begins with."""

    path: str
    """Absolute path of the file."""
    sha256: str | None
    """None in runs of older versions, which did not note it."""

    def missing(self) -> str | None:
        """What of the file is no longer what it was, in words; None if nothing is known of."""
        return missing(Path(self.path), self.sha256)


def read_picture(path: Path, *, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """A picture file, cut to the proportions of the model and scaled to its size.

    Raises:
        ValueError: If it cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return to_pixels(ImageOps.exif_transpose(image).convert("RGB"), height=height, width=width)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture that can be read; give a PNG or a JPEG") from None
    except (OSError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: cannot read the picture: {reason.lower()}") from None


def to_pixels(image: "Image", *, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """An RGB picture at the model's size; what does not fit its proportions is cut off on both sides alike.

    A picture made of whole squares, as the video of a small model is, comes back to the very pixels it was made of.
    """
    import numpy as np
    from PIL import Image, ImageOps

    whole = image.width * height == image.height * width and image.width % width == 0
    method = Image.Resampling.BOX if whole else Image.Resampling.BICUBIC
    fitted = ImageOps.fit(image, (width, height), method=method)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1) / 127.5 - 1
