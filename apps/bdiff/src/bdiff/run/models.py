"""A transformer with what surrounds it: autoencoder, text encoder, solver, and how all of it wants to be sampled.

Two kinds of folder are read, local or as repositories of the hub: our own (``transformer/``, ``vae.safetensors``,
``sampling.json``) and the pipelines of diffusers (``model_index.json``, ``transformer/``, ``vae/``, ``text_encoder/``,
``tokenizer/``, ``scheduler/``; image-to-video: ``image_encoder/``, ``image_processor/``).
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff.defaults import Sampling
from bdiff.presets import PRESETS, find_preset, recognised
from bdiff.run.parts import Parts
from bdiff_core import ChunkDiT, ModelConfig, SentenceTextEncoder, load_vae
from bdiff_core.checkpoint import Checkpoint, open_checkpoint
from bdiff_core.files import read_json, what_is
from bdiff_core.wan import UMT5TextEncoder, WanVAE, load_image_encoder

_INDEX = "model_index.json"
_PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
_OPTIONS = ("transformer", "vae", "text_encoder")
"""Parts that an option gives."""
_TRAINED_FRAMES = {"Wan": 21, "SkyReels": 31}
"""Latent frames that a family's published models saw at once in training, at most: 81 and 121 frames of video."""


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

        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except ImportError:
        raise ValueError(f"{name} is no folder; to fetch it: pip install 'bdiff-core[hub]'") from None
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{name} is no folder and cannot be fetched from the hub: {reason}") from None


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is a pipeline of diffusers."""
    return (folder / _INDEX).is_file()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder of either kind, from which each part is loaded when it is asked for.

    Every method raises a ValueError if its part is missing or damaged, or does not fit the transformer.
    """

    folder: Path
    dtype: torch.dtype
    device: torch.device | str
    parts: Parts = field(default_factory=Parts)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The transformer's checkpoint; read once, from headers alone."""
        if self.parts.transformer is not None:
            return open_checkpoint(self.parts.transformer, entry=self.parts.entry)
        file = self.folder / "transformer"
        if not file.exists():
            raise ValueError(
                f"{self.folder} is no model: it has no transformer/; expected that and what surrounds it, or give "
                "--transformer FILE"
            )
        return open_checkpoint(file, entry=self.parts.entry)

    @property
    def config(self) -> ModelConfig:
        """Config of the transformer."""
        return self.checkpoint.config

    def preset(self, name: str | None = None) -> str | None:
        """The preset by which the model is sampled; None: by its own settings.

        Args:
            name: The preset that is asked for. None: if the transformer makes videos chunk by chunk and there are no
                settings with it, the preset that its files are recognised as.

        Raises:
            ValueError: If there is no such preset, or the transformer would need one and is not recognised.
        """
        if name is not None:
            find_preset(name)
            return name
        given = self.parts.transformer
        told = (self.folder / "sampling.json").is_file() and given is None
        if told or (given is None and not is_pipeline(self.folder)) or self.config.native_mode != "cached":
            return None
        found = recognised(given or str(self.folder.resolve()))
        if found is None:
            raise ValueError(
                f"{given or self.folder} makes videos chunk by chunk and does not say how it is sampled; give "
                f"--preset, one of {', '.join(PRESETS)} (see bdiff presets)"
            )
        return found

    def sampling(self, preset: str | None = None) -> Sampling:
        """How the model wants to be sampled.

        By its sampling.json, or by a preset; a pipeline without either as its authors do, at 832 x 480.
        """
        if preset is not None:
            return Sampling().changed({**find_preset(preset).settings, "negative": ""})
        if not is_pipeline(self.folder):
            return Sampling.of_model(self.folder)
        mode, kind = self.config.native_mode, _index(self.folder).get("_class_name", "")
        scheduler = read_json(self.folder / "scheduler" / "scheduler_config.json")
        native = Sampling(
            mode=mode,
            solver="scheduler",
            negative="",
            fps=24 if mode == "overlap" or kind.startswith("SkyReels") else 16,
            latent_frames={"cached": 3, "overlap": 5, "whole": 21}[mode],
            height=480,
            width=832,
            scale=1,
            steps=50,
            shift=float(scheduler.get("flow_shift", scheduler.get("shift", 1.0))),
            guidance=5.0,
        )
        return Sampling.of_model(self.folder, otherwise=native)

    @property
    def trained_frames(self) -> int | None:
        """Latent frames that the model saw at once in training, at most; None: unknown."""
        kind = _index(self.folder).get("_class_name", "") if is_pipeline(self.folder) else ""
        return next((frames for family, frames in _TRAINED_FRAMES.items() if kind.startswith(family)), None)

    def encoder(self) -> SentenceTextEncoder | UMT5TextEncoder:
        """What encodes prompts."""
        config, encoder = self.config, self._encoder()
        if encoder.width != config.text_dim:
            raise ValueError(f"{self.folder}: wants text of width {config.text_dim}, the encoder's is {encoder.width}")
        return encoder

    def vae(self) -> Autoencoder:
        """What encodes and decodes pixels."""
        own = not is_pipeline(self.folder) and self.parts.vae is None
        place = self.folder / "vae" if self.parts.vae is None else Path(self.parts.vae)
        vae = load_vae(self.folder, device=self.device) if own else WanVAE.load(place, **self._where)
        config, channels = self.config, vae.latent_channels
        if own and config.in_channels != channels:
            taken = f"the transformer takes {config.in_channels} channels, the autoencoder has {channels}"
            raise ValueError(f"{self.folder}: {taken}")
        if config.out_channels != channels:
            given = f"the transformer gives {config.out_channels} channels, the autoencoder has {channels}"
            raise ValueError(f"{self.folder}: {given}")
        return vae

    def image_encoder(self) -> ImageEncoder | None:
        """What makes tokens of a picture; None for a model without them."""
        if not is_pipeline(self.folder) or self.config.image_dim is None:
            return None
        model, processor = load_image_encoder(self.folder, **self._where)
        return ImageEncoder(model=model, processor=processor)

    def transformer(self) -> ChunkDiT:
        """What denoises."""
        return self.checkpoint.load(loras=self.parts.lora_strengths(), **self._where).eval()

    def scheduler(self) -> Any:
        """The scheduler of diffusers; None: the model has none."""
        return _load_scheduler(self.folder) if is_pipeline(self.folder) else None

    def check(self) -> None:
        """Raise a ValueError if it is a pipeline that lacks a part, or one that cannot be run."""
        if not is_pipeline(self.folder):
            return
        given = {
            "transformer": self.parts.transformer,
            "vae": self.parts.vae,
            "text_encoder": self.parts.text_encoder,
            "tokenizer": self.parts.text_encoder,
        }
        if missing := [part for part in _PARTS if not (self.folder / part).is_dir() and given.get(part) is None]:
            lacking = f"is a pipeline without {', '.join(missing)}/; expected {', '.join(_PARTS)}"
            options = [f"--{part.replace('_', '-')}" for part in missing if part in _OPTIONS]
            raise ValueError(f"{self.folder} {lacking}" + (f", or give {', '.join(options)}" if options else ""))
        if any(_index(self.folder).get("transformer_2") or ()):
            raise ValueError(
                f"{self.folder} has two transformers, as Wan 2.2 does; expected a pipeline of Wan 2.1 or SkyReels-V2"
            )

    @property
    def _where(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "device": self.device}

    def _encoder(self) -> SentenceTextEncoder | UMT5TextEncoder:
        length, place = self.config.text_length, self.parts.text_encoder
        if is_pipeline(self.folder) or place is not None:
            return UMT5TextEncoder.load(place or self.folder, text_length=length, **self._where)
        return SentenceTextEncoder(text_length=length)


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    parts: Parts | None = None,
    scheduler: bool = True,
) -> Model:
    """All parts of a folder of either kind, and those that take the place of its own.

    Args:
        folder: The model's folder.
        dtype: Dtype of the weights.
        device: Where they go.
        parts: What is taken from elsewhere.
        scheduler: Whether the scheduler is loaded, too.

    Raises:
        ValueError: If a part is missing or damaged, or the parts do not fit each other.
    """
    source = Source(folder=folder, dtype=dtype, device=device, parts=parts or Parts())
    source.check()
    return Model(
        vae=source.vae(),
        transformer=source.transformer(),
        encoder=source.encoder(),
        image_encoder=source.image_encoder(),
        scheduler=source.scheduler() if scheduler else None,
    )


def _index(folder: Path) -> dict[str, Any]:
    """What a pipeline says of itself."""
    return read_json(folder / _INDEX)


def _load_scheduler(folder: Path) -> Any:
    import diffusers

    file = folder / "scheduler" / "scheduler_config.json"
    try:
        kind = read_json(file)["_class_name"]
        return getattr(diffusers, kind).from_pretrained(str(folder), subfolder="scheduler")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file}: no scheduler of diffusers: {reason}") from None
