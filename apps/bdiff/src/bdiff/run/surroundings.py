"""The parts around a transformer, of the three kinds of folders that are read, local or as repositories of the hub.

Ours: ``transformer/``, ``vae.safetensors``, ``sampling.json``. A pipeline of diffusers: ``model_index.json``,
``transformer/``, ``vae/``, ``text_encoder/``, ``tokenizer/``, ``scheduler/``; image-to-video: ``image_encoder/``,
``image_processor/``. Wan's own: ``config.json``, ``diffusion_pytorch_model*.safetensors``, ``Wan2.1_VAE.pth``,
``models_t5_umt5-xxl-enc-bf16.pth``, ``google/umt5-xxl/``.
"""

from pathlib import Path
from typing import Any, Literal

import torch

from bdiff.defaults import Sampling
from bdiff_core import ModelConfig
from bdiff_core.files import read_json
from bdiff_core.wan import UMT5TextEncoder, WanVAE, is_original, load_original_text_encoder, load_original_vae

Layout = Literal["own", "pipeline", "wan"]
"""Ours, that of diffusers, or that of Wan's own release."""

_INDEX = "model_index.json"
_ORIGINAL_SHIFT = 5.0
"""Shift of Wan's own sampler; a pipeline of diffusers has one in its scheduler."""


def layout(folder: Path) -> Layout:
    """The kind of a model's folder."""
    if (folder / _INDEX).is_file():
        return "pipeline"
    return "wan" if is_original(folder) else "own"


def pipeline_index(folder: Path) -> dict[str, Any]:
    """What a pipeline of diffusers says of itself; nothing for other folders."""
    return read_json(folder / _INDEX) if (folder / _INDEX).is_file() else {}


def native_sampling(folder: Path, config: ModelConfig) -> Sampling:
    """How the authors of a published pipeline sample it, at 832 x 480."""
    mode, kind = config.native_mode, pipeline_index(folder).get("_class_name", "")
    shift = _ORIGINAL_SHIFT
    if layout(folder) == "pipeline":
        scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
        shift = float(scheduler.get("flow_shift", scheduler.get("shift", 1.0)))
    return Sampling(
        mode=mode,
        solver="scheduler",
        negative="",
        fps=24 if mode == "overlap" or kind.startswith("SkyReels") else 16,
        latent_frames={"cached": 3, "overlap": 5, "whole": 21}[mode],
        height=480,
        width=832,
        scale=1,
        steps=50,
        shift=shift,
        guidance=5.0,
    )


def load_autoencoder(place: Path, *, dtype: torch.dtype, device: torch.device | str) -> WanVAE:
    """Wan's autoencoder: a folder of diffusers, or Wan's own file or the folder that holds it."""
    if place.is_file() or is_original(place):
        return load_original_vae(place, dtype=dtype, device=device)
    return WanVAE.load(place, dtype=dtype, device=device)


def load_text_encoder(
    place: Path, *, text_length: int, dtype: torch.dtype, device: torch.device | str
) -> UMT5TextEncoder:
    """Wan's text encoder: of a pipeline's folder, or of Wan's own."""
    load = load_original_text_encoder if is_original(place) else UMT5TextEncoder.load
    return load(place, text_length=text_length, dtype=dtype, device=device)


def load_scheduler(folder: Path) -> Any:
    """The scheduler of a folder; None: it has none, as ours.

    Raises:
        ValueError: If a pipeline's is missing, or of no class of diffusers.
    """
    kind = layout(folder)
    if kind == "own":
        return None
    import diffusers

    if kind == "wan":
        return diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=_ORIGINAL_SHIFT
        )
    file = folder / "scheduler" / "scheduler_config.json"
    try:
        name = read_json(file)["_class_name"]
        return getattr(diffusers, name).from_pretrained(str(folder), subfolder="scheduler")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file}: no scheduler of diffusers: {reason}") from None
