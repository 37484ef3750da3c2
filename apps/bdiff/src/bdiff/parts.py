"""Everything that a run needs, loaded and checked before anything is written."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff import defaults
from bdiff.record import digests
from bdiff.script import Script, Take
from bdiff_core import (
    CausalVAE,
    ChunkCondition,
    ChunkDiT,
    SentenceTextEncoder,
    Storyboard,
    count_chunks,
    load_transformer,
    load_vae,
    plan_chunks,
)
from bdiff_core.plan import chunk_shots
from kvbank import KVBank

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """One video to make."""

    storyboard: Storyboard
    """What is to be seen."""
    out: Path
    """Folder for the video and everything about it; it must not exist, or be empty."""
    model: Path = defaults.WEIGHTS
    """Folder with transformer/ and vae.safetensors."""
    seconds: float | None = None
    """Length of the video; None: of the storyboard."""
    seed: int = 0
    """Seed of every random draw."""
    policy: str = "semantic"
    """Which past chunks a chunk is shown, see `defaults.policy`."""
    steps: int | None = None
    """Denoising steps a chunk; None: as the model wants it."""
    guidance: float | None = None
    """Classifier-free guidance, 1 for none; None: as the model wants it."""
    noise: str | None = None
    """Base noise, fresh or shared; None: as the model wants it."""
    scale: int | None = None
    """Side of a model pixel in the file; None: as the model wants it."""
    image: Path | None = None
    """A picture for the first chunk to show."""
    device: str = "cpu"
    """Where to compute."""
    dtype: Dtype = "float32"
    """What the transformer computes in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a script is made with."""

    script: Script
    out: Path
    """The run's folder."""
    model: ChunkDiT
    vae: CausalVAE
    bank: KVBank
    """Empty; a run that is written to disk has its bank there."""
    plan: list[ChunkCondition]
    prefix: Float[Tensor, "1 c t h w"] | None
    """Latents of a picture that the first chunk shows."""
    seconds_to_load: float

    @property
    def sampling(self) -> defaults.Sampling:
        """How the model is sampled."""
        return self.script.sampling


def build(config: SampleConfig) -> Parts:
    """Loads and checks everything; a ValueError says what does not fit."""
    return load_parts(write_script(config), config.out)


def write_script(config: SampleConfig) -> Script:
    """The chunks that a storyboard comes to, and with what they are made."""
    sampling = _sampling(config)
    prompts = storyboard_prompts(config.storyboard, sampling, seconds=config.seconds)
    return Script(
        title=config.storyboard.title or prompts[0],
        takes=tuple(Take(prompt, config.seed) for prompt in prompts),
        model=str(config.model.resolve()),
        weights=digests(config.model),
        sampling=sampling,
        policy=config.policy,
        seed=config.seed,
        image=None if config.image is None else str(config.image.resolve()),
        device=config.device,
        dtype=config.dtype,
    )


def storyboard_prompts(
    storyboard: Storyboard, sampling: defaults.Sampling, *, seconds: float | None = None
) -> list[str]:
    """The prompt of every chunk."""
    rhythm = {"fps": sampling.fps, "frames_per_chunk": sampling.frames_per_chunk}
    num_chunks = None if seconds is None else count_chunks(seconds, **rhythm)
    return [storyboard.shots[shot].prompt for shot in chunk_shots(storyboard, num_chunks=num_chunks, **rhythm)]


def load_parts(script: Script, out: Path) -> Parts:
    """Loads and checks what a script is made with; a ValueError says what does not fit."""
    started = time.perf_counter()
    folder, sampling = Path(script.model), script.sampling
    device, dtype = torch.device(script.device), getattr(torch, script.dtype)
    vae = load_vae(folder, device=device)
    model = load_transformer(folder / "transformer", dtype=dtype, device=device)
    model.eval()
    _check_fit(model, vae, sampling, folder=folder)
    encoder = SentenceTextEncoder(text_length=model.config.text_length)
    if encoder.width != model.config.text_dim:
        raise ValueError(f"{folder}: wants text of width {model.config.text_dim}, the encoder's is {encoder.width}")
    with torch.no_grad():
        return Parts(
            script=script,
            out=out,
            model=model,
            vae=vae,
            bank=KVBank(policy=defaults.policy(script.policy), rotate=model.rotate, seed=script.seed),
            plan=plan_chunks(
                Storyboard.from_prompts([take.prompt for take in script.takes]),
                encoder,
                fps=sampling.fps,
                frames_per_chunk=sampling.frames_per_chunk,
            ),
            prefix=None if script.image is None else _first_chunk(Path(script.image), vae, sampling),
            seconds_to_load=time.perf_counter() - started,
        )


def _sampling(config: SampleConfig) -> defaults.Sampling:
    given = {name: getattr(config, name) for name in ("steps", "guidance", "noise", "scale")}
    return replace(
        defaults.Sampling.of_model(config.model), **{name: value for name, value in given.items() if value is not None}
    )


def _check_fit(model: ChunkDiT, vae: CausalVAE, sampling: defaults.Sampling, *, folder: Path) -> None:
    channels, wanted = vae.config.latent_channels, (model.config.in_channels, model.config.out_channels)
    if wanted != (channels, channels):
        raise ValueError(f"{folder}: the transformer takes and gives {wanted} channels, the autoencoder has {channels}")
    for name, patch in zip(("height", "width"), model.config.patch_size[1:], strict=True):
        side, unit = getattr(sampling, name), vae.config.spatial_stride * patch
        if side % unit:
            raise ValueError(f"{folder}: {name} is {side}; expected a multiple of {unit}")


def _first_chunk(path: Path, vae: CausalVAE, sampling: defaults.Sampling) -> Float[Tensor, "1 c t h w"]:
    """Latents of a first chunk in which a picture stands still."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            picture = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (sampling.width, sampling.height))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture that can be read; give a PNG or a JPEG") from None
    except (OSError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: cannot read the picture: {reason.lower()}") from None
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1
    pixels = pixels.to(vae.latent_mean.device)
    latents, _ = vae.encode(pixels[None, :, None].expand(-1, -1, sampling.frames_per_chunk - 3, -1, -1))
    return latents
