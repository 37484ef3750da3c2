"""From a storyboard to a video on disk: build the parts, run the loop, write what it yields."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff import defaults
from bdiff.record import Record, write_drift
from bdiff.sheet import Cell, draw_sheet, thumbnail
from bdiff.video import VideoWriter, to_uint8
from bdiff_core import (
    CausalVAE,
    Chunk,
    ChunkCondition,
    ChunkDiT,
    SentenceTextEncoder,
    Storyboard,
    count_chunks,
    generate,
    load_transformer,
    load_vae,
    plan_chunks,
)
from kvbank import KVBank
from noisesched import NoiseStream, denoising_grid

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
    """Everything that a run needs, loaded and checked; nothing is written yet."""

    config: SampleConfig
    sampling: defaults.Sampling
    model: ChunkDiT
    vae: CausalVAE
    bank: KVBank
    plan: list[ChunkCondition]
    prefix: Float[Tensor, "1 c t h w"] | None
    seconds_to_load: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run is."""

    done: int
    total: int
    seconds_left: float
    memory_bytes: int
    """Keys and values held of the past."""
    prompt: str


def build(config: SampleConfig) -> Parts:
    """Loads and checks everything; a ValueError says what does not fit."""
    started = time.perf_counter()
    sampling = _sampling(config)
    device, dtype = torch.device(config.device), getattr(torch, config.dtype)
    vae = load_vae(config.model, device=device)
    model = load_transformer(config.model / "transformer", dtype=dtype, device=device)
    model.eval()
    _check_fit(model, vae, sampling, folder=config.model)
    encoder = SentenceTextEncoder(text_length=model.config.text_length)
    if encoder.width != model.config.text_dim:
        raise ValueError(
            f"{config.model}: wants text of width {model.config.text_dim}, the encoder's is {encoder.width}"
        )
    rhythm = {"fps": sampling.fps, "frames_per_chunk": sampling.frames_per_chunk}
    num_chunks = None if config.seconds is None else count_chunks(config.seconds, **rhythm)
    with torch.no_grad():
        return Parts(
            config=config,
            sampling=sampling,
            model=model,
            vae=vae,
            bank=KVBank(policy=defaults.policy(config.policy), rotate=model.rotate, seed=config.seed),
            plan=plan_chunks(config.storyboard, encoder, num_chunks=num_chunks, **rhythm),
            prefix=None if config.image is None else _first_chunk(config.image, vae, sampling),
            seconds_to_load=time.perf_counter() - started,
        )


def sample(parts: Parts, *, on_chunk: Callable[[Progress], None] = lambda _: None, command: str = "") -> dict:
    """Generates and writes the video; returns what run.json holds.

    Whatever interrupts it, the chunks made so far stay behind as a video that plays, with a sheet and a record of them.

    Args:
        parts: what `build` gave.
        on_chunk: called after every chunk.
        command: the command line, for the record.
    """
    config, sampling = parts.config, parts.sampling
    config.out.mkdir(parents=True, exist_ok=True)
    record = Record(parts, command=command)
    cells: list[Cell] = []
    total, started = len(parts.plan), time.perf_counter()
    size = {"height": sampling.height * sampling.scale, "width": sampling.width * sampling.scale}
    path = config.out / "video.mp4"
    try:
        with VideoWriter(path, fps=sampling.fps, **size) as video:
            for chunk in generate_chunks(parts):
                frames = to_uint8(chunk.frames[0], scale=1)
                prompt = parts.plan[chunk.index].prompt
                cells.append(_cell(chunk, prompt, frames, start=video.num_frames / sampling.fps))
                video.add(to_uint8(chunk.frames[0], scale=sampling.scale))
                record.add(chunk, num_frames=len(frames))
                pace = (time.perf_counter() - started) / len(cells)
                on_chunk(
                    Progress(
                        done=len(cells),
                        total=total,
                        seconds_left=pace * (total - len(cells)),
                        memory_bytes=parts.bank.nbytes,
                        prompt=prompt,
                    )
                )
    finally:
        if cells:
            _write_sheet(parts, cells, seconds=record.num_frames / sampling.fps)
        written = record.write(config.out)
    if total > 1:
        record.drift = write_drift(path, config.out, boundaries=record.boundaries)
        written = record.write(config.out)
    return written


@torch.no_grad()
def generate_chunks(parts: Parts) -> Iterator[Chunk]:
    """The loop of a run, without anything being written."""
    config, sampling, vae = parts.config, parts.sampling, parts.vae
    stride = vae.config.spatial_stride
    frame_shape = (vae.config.latent_channels, sampling.height // stride, sampling.width // stride)
    yield from generate(
        parts.model,
        parts.plan,
        memory=parts.bank,
        noise=NoiseStream(frame_shape, sampling.latent_frames, seed=config.seed, base=sampling.noise),
        grid=denoising_grid(sampling.steps, shift=sampling.shift),
        decoder=vae,
        guidance=sampling.guidance,
        positions="slots",
        prefix=parts.prefix,
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


def _cell(chunk: Chunk, prompt: str, frames: Tensor, *, start: float) -> Cell:
    picture = thumbnail(frames[len(frames) // 2].cpu().numpy())
    recall = tuple(zip(chunk.recall.chunks, chunk.recall.kinds, strict=True))
    return Cell(index=chunk.index, seconds=start, prompt=prompt, picture=picture, recall=recall)


def _write_sheet(parts: Parts, cells: list[Cell], *, seconds: float) -> None:
    config = parts.config
    subtitle = f"{len(cells)} chunks, {seconds:.1f} s · memory: {config.policy} · seed {config.seed}"
    draw_sheet(cells, title=config.storyboard.title or cells[0].prompt, subtitle=subtitle).save(
        config.out / "sheet.png"
    )
