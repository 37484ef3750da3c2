"""A transformer with what surrounds it: autoencoder, text encoder, image encoder and solver."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff_core import ChunkDiT, SentenceTextEncoder
from bdiff_core.files import what_is
from bdiff_core.wan import UMT5TextEncoder

_FROM_HUB = ["*.json", "*.safetensors", "*.model", "*.txt", "*.pth"]
"""Files of a repository that are fetched."""


class Autoencoder(Protocol):
    """Pixels to latents and back, as a stream; `CausalVAE` and `WanVAE` are such."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame."""
        ...

    @property
    def spatial_stride(self) -> int:
        """Pixels, in each direction, that a latent covers."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """Move it."""
        ...

    def decode(self, latents: Float[Tensor, "b c t h w"], state: Any = None) -> tuple[Float[Tensor, "b 3 T H W"], Any]:
        """Decode the next latents of a stream."""
        ...

    def encode(self, frames: Float[Tensor, "b 3 T H W"], state: Any = None) -> tuple[Float[Tensor, "b c t h w"], Any]:
        """Encode the next frames of a stream."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEncoder:
    """What makes tokens of a picture, for image-to-video models."""

    model: Any
    """A `CLIPVisionModel` of transformers."""
    processor: Any
    """Its `CLIPImageProcessor`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What makes a video."""

    transformer: ChunkDiT
    vae: Autoencoder
    encoder: SentenceTextEncoder | UMT5TextEncoder
    image_encoder: ImageEncoder | None = None
    scheduler: Any = None
    """A scheduler of diffusers; None: levels are walked by Euler steps."""


def local_folder(path_or_repo: str | Path) -> Path:
    """The folder of a model; one of the hub is fetched first.

    Raises:
        ValueError: If it is neither a folder nor a repository that can be fetched.
    """
    path = Path(path_or_repo)
    if path.is_dir():
        return path.resolve()
    name = str(path_or_repo)
    if path.is_symlink():
        raise ValueError(f"{name} is a link to {path.readlink()}, which is not there")
    if path.exists():
        problem = what_is(path) if path.is_file() else None
        found = f"; it {problem}" if problem is not None else ""
        raise ValueError(
            f"{name} is a file{found}; expected the folder of a model, with its transformer and what surrounds it"
        )
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise ValueError(
            f"{name} is no folder; expected the folder of a model, or a repository of the hub (owner/name)"
        )
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=_FROM_HUB))
    except ImportError:
        raise ValueError(f"{name} is no folder; to fetch it: pip install 'bdiff-core[hub]'") from None
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{name} is no folder and cannot be fetched from the hub: {reason}") from None
