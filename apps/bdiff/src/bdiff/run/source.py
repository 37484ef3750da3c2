"""A model's folder, and what takes the place of its parts: each part is loaded when it is asked for."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bdiff.defaults import Sampling
from bdiff.presets import CLASSES, PRESETS, find_preset, recognised
from bdiff.run.models import Autoencoder, ImageEncoder, Model
from bdiff.run.parts import Parts
from bdiff.run.surroundings import (
    layout,
    load_autoencoder,
    load_scheduler,
    load_text_encoder,
    native_sampling,
    pipeline_index,
)
from bdiff_core import ChunkDiT, ModelConfig, SentenceTextEncoder, load_vae
from bdiff_core.checkpoint import Checkpoint, open_checkpoint
from bdiff_core.files import read_json
from bdiff_core.wan import UMT5TextEncoder, load_image_encoder

_PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
_OPTIONS = ("transformer", "vae", "text_encoder")
"""Parts that an option gives."""
_TRAINED_FRAMES = {"Wan": 21, "SkyReels": 31}
"""Latent frames that a family's published models saw at once in training, at most: 81 and 121 frames of video."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder of any kind, from which each part is loaded when it is asked for.

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
        if layout(self.folder) == "wan":
            file = self.folder
        elif not file.exists():
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
        if told or (given is None and layout(self.folder) == "own") or self.config.native_mode != "cached":
            return None
        found = recognised(given or str(self.folder.resolve())) or self._recognised_by_class()
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
        if layout(self.folder) == "own":
            return Sampling.of_model(self.folder)
        return Sampling.of_model(self.folder, otherwise=native_sampling(self.folder, self.config))

    @property
    def trained_frames(self) -> int | None:
        """Latent frames that the model saw at once in training, at most; None: unknown."""
        kind = "Wan" if layout(self.folder) == "wan" else pipeline_index(self.folder).get("_class_name", "")
        return next((frames for family, frames in _TRAINED_FRAMES.items() if kind.startswith(family)), None)

    def encoder(self) -> SentenceTextEncoder | UMT5TextEncoder:
        """What encodes prompts."""
        config, encoder = self.config, self._encoder()
        if encoder.width != config.text_dim:
            raise ValueError(f"{self.folder}: wants text of width {config.text_dim}, the encoder's is {encoder.width}")
        return encoder

    def vae(self) -> Autoencoder:
        """What encodes and decodes pixels."""
        own = layout(self.folder) == "own" and self.parts.vae is None
        place = self.folder / "vae" if layout(self.folder) == "pipeline" else self.folder
        if self.parts.vae is not None:
            place = Path(self.parts.vae)
        vae = load_vae(self.folder, device=self.device) if own else load_autoencoder(place, **self._where)
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
        if layout(self.folder) == "own" or self.config.image_dim is None:
            return None
        if layout(self.folder) == "wan":
            raise ValueError(
                f"{self.folder} is Wan's own folder, whose image encoder is not read; expected a pipeline of "
                "diffusers, such as Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
            )
        model, processor = load_image_encoder(self.folder, **self._where)
        return ImageEncoder(model=model, processor=processor)

    def transformer(self) -> ChunkDiT:
        """What denoises."""
        return self.checkpoint.load(loras=self.parts.lora_strengths(), **self._where).eval()

    def scheduler(self) -> Any:
        """The scheduler of diffusers; None: the model has none."""
        return load_scheduler(self.folder)

    def check(self) -> None:
        """Raise a ValueError if it is a pipeline that lacks a part, or one that cannot be run."""
        if layout(self.folder) != "pipeline":
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
        if any(pipeline_index(self.folder).get("transformer_2") or ()):
            raise ValueError(
                f"{self.folder} has two transformers, as Wan 2.2 does; expected a pipeline of Wan 2.1 or SkyReels-V2"
            )

    def _recognised_by_class(self) -> str | None:
        """The preset of the class that the transformer's config.json names."""
        place = self.checkpoint.path
        file = (place if place.is_dir() else place.parent) / "config.json"
        return CLASSES.get(str(read_json(file).get("_class_name"))) if file.is_file() else None

    @property
    def _where(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "device": self.device}

    def _encoder(self) -> SentenceTextEncoder | UMT5TextEncoder:
        length, place = self.config.text_length, self.parts.text_encoder
        if layout(self.folder) != "own" or place is not None:
            return load_text_encoder(Path(place or self.folder), text_length=length, **self._where)
        return SentenceTextEncoder(text_length=length)


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    parts: Parts | None = None,
    scheduler: bool = True,
) -> Model:
    """All parts of a folder of any kind, and those that take the place of its own.

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
