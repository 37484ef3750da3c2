"""What a video will take, before anything is loaded: memory by part, work, and the least time on this machine."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bdiff import defaults
from bdiff.presets import find_preset
from bdiff.run.source import Source
from bdiff.run.spec import RunSpec
from bdiff.run.surroundings import layout
from bdiff_core import ModelConfig, costs
from bdiff_core.files import visible, weight_kind
from bdiff_core.wan import stored_numbers

_STRIDE = 8  # pixels of a latent, in every family that is read
_OTHER = 0.4e9
"""Bytes of Python, torch and the libraries themselves: of the 544 MB of anonymous memory at the peak of a video of 7
chunks by the shipped model (one thread, 2026-11), 391 MB belong to no other part of a plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will take."""

    parameters: int
    """Parameters of the transformer."""
    chunks: int
    given: int
    """Chunks of them that show a given video: they are read, at one pass each, not made."""
    seconds: float
    """Length of the video."""
    tokens_per_chunk: int
    context_tokens: int
    """Tokens of the past that a chunk sees at most, as kept."""
    frames_in_view: int
    """Latent frames whose positions a pass tells apart. In the cached mode recalled chunks are counted from the present
    one, so that it does not grow with the video."""
    trained_frames: int | None
    """The most that the model was trained with, where that is known; beyond, it extrapolates."""
    kv_bytes_per_chunk: int
    """Keys and values of a chunk, all tokens, all branches."""
    kept_bytes_per_chunk: int
    """The same as the memory keeps it, at `share`."""
    share: float
    """Share of the tokens that are kept, assumed or measured."""
    memory: Mapping[str, int]
    """Bytes by part at the peak."""
    available: int
    """Bytes that are free where it is to be computed."""
    flops_per_chunk: int
    flops_per_second: float
    """Measured here, in large matrix products of the same dtype."""

    @property
    def peak(self) -> int:
        """Bytes at the peak."""
        return sum(self.memory.values())

    @property
    def extrapolates(self) -> bool:
        """Whether more frames are in view than the model was trained with."""
        return self.trained_frames is not None and self.frames_in_view > self.trained_frames

    @property
    def fits(self) -> bool:
        """Whether the peak is below what is free."""
        return self.peak <= self.available

    @property
    def floor_seconds(self) -> float:
        """The least time that the transformer can take, at the measured rate."""
        return (self.chunks - self.given) * self.flops_per_chunk / self.flops_per_second

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {
            **asdict(self),
            "peak": self.peak,
            "fits": self.fits,
            "extrapolates": self.extrapolates,
            "floor_seconds": self.floor_seconds,
        }


def plan_run(spec: RunSpec, *, memory_limit: int, share: float = 1.0) -> Plan:
    """What a run will take.

    Args:
        spec: What is to be made.
        memory_limit: Bytes of past keys and values in memory; more are on disk.
        share: Of a chunk's tokens that the memory keeps; runs report theirs in trace.json. 1 is the safe guess.

    Raises:
        ValueError: If the model cannot be read, or share is not in (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share}; expected a part of the tokens in (0, 1]")
    folder, sampling, dtype = Path(spec.model), spec.sampling, getattr(torch, spec.dtype)
    source = Source(folder=folder, dtype=dtype, device=spec.device, parts=spec.parts)
    config = source.config
    shape = _chunk_shape(spec, config)
    cached = sampling.mode == "cached"
    chunks = 1 if sampling.mode == "whole" else len(spec.chunks)
    branches = 1 if sampling.guidance == 1.0 else 2
    tokens = config.num_tokens(shape.frames, shape.height, shape.width)
    context = round(share * tokens * _context_chunks(spec)) if cached else 0
    dense = branches * costs.kv_bytes(config, tokens, dtype=dtype) if cached else 0
    kept = round(share * dense)
    passes = sampling.num_steps + cached
    flops = branches * (passes * costs.pass_flops(config, shape, context_tokens=context) + costs.text_flops(config))
    memory = {
        "transformer": costs.num_parameters(config) * dtype.itemsize,
        "context of a chunk": branches * costs.kv_bytes(config, context + tokens, dtype=dtype) if cached else 0,
        "memory of the past": min(memory_limit, kept * chunks),
        "activations": _activations(config, branches * tokens, dtype),
    }
    memory = _peak(memory, _other_weights(folder, dtype), offload=spec.offload)
    return Plan(
        parameters=costs.num_parameters(config),
        chunks=len(spec.chunks),
        given=spec.num_given,
        seconds=sampling.num_frames(len(spec.chunks)) / sampling.fps,
        tokens_per_chunk=tokens,
        context_tokens=context,
        frames_in_view=_chunks_in_view(spec) * sampling.latent_frames,
        trained_frames=source.trained_frames if spec.preset is None else find_preset(spec.preset).trained_frames,
        kv_bytes_per_chunk=dense,
        kept_bytes_per_chunk=kept,
        share=share,
        memory=memory,
        available=free_bytes(spec.device),
        flops_per_chunk=flops * chunks // len(spec.chunks),
        flops_per_second=matmul_rate(spec.device, dtype, config.dim),
    )


def _chunk_shape(spec: RunSpec, config: ModelConfig) -> costs.ChunkShape:
    """Latents of what is denoised at once: a chunk, or in the whole mode the video."""
    sampling = spec.sampling
    for name, patch in zip(("height", "width"), config.patch_size[1:], strict=True):
        if getattr(sampling, name) % (_STRIDE * patch):
            raise ValueError(f"--{name} is {getattr(sampling, name)}; expected a multiple of {_STRIDE * patch}")
    return costs.ChunkShape(
        frames=sampling.latent_frames if sampling.mode != "whole" else sampling.latent_frames * len(spec.chunks),
        height=sampling.height // _STRIDE,
        width=sampling.width // _STRIDE,
    )


def _chunks_in_view(spec: RunSpec) -> int:
    """Chunks that a pass sees at most."""
    match spec.sampling.mode:
        case "whole":
            return len(spec.chunks)
        case "overlap":
            return min(len(spec.chunks), defaults.WINDOW)
        case _:
            return _context_chunks(spec) + 1


def _context_chunks(spec: RunSpec) -> int:
    """Chunks that a chunk of this video sees at most."""
    policy = spec.make_policy()
    most = len(spec.chunks) - 1
    if hasattr(policy, "window"):  # of chunks or of latent frames
        return min(most, policy.window + getattr(policy, "sink", 0))
    counts = [getattr(policy, name, None) for name in ("num_chunks", "top_l", "num_recent", "num_sink")]
    bounds = [count for count in counts if count is not None]
    return min(most, sum(bounds)) if bounds else most


def _peak(sampling: dict[str, int], others: dict[str, int], *, offload: bool) -> dict[str, int]:
    """What is held at once: everything, or with offload that of the largest phase."""
    program = {"program": round(_OTHER)}
    if not offload:
        return sampling | others | program
    text = {"text encoder": others["text encoder"]}
    pictures = {name: size for name, size in others.items() if name not in text}
    decoding = {"autoencoder": others["autoencoder"]}
    return max((sampling | decoding, text, pictures), key=lambda phase: sum(phase.values())) | program


def _other_weights(folder: Path, dtype: torch.dtype) -> dict[str, int]:
    """Bytes of what is loaded beside the transformer, by the headers of the files.

    Raises:
        ValueError: If one of them holds no weights.
    """
    if layout(folder) == "wan":
        numbers = stored_numbers(folder)
        return {
            "autoencoder": dtype.itemsize * numbers["vae"],
            "text encoder": dtype.itemsize * numbers["text_encoder"],
        }
    if layout(folder) == "own":
        files = visible(folder, "*.safetensors")
        for file in files:
            weight_kind(file)
        size = sum(file.stat().st_size for file in files)
        return {"autoencoder": 2 * size, "text encoder": 90_000_000}  # stored in half precision; MiniLM
    parts = {"autoencoder": "vae", "text encoder": "text_encoder", "image encoder": "image_encoder"}
    return {
        name: dtype.itemsize * sum(_stored_numbers(file) for file in visible(folder / part, "*.safetensors"))
        for name, part in parts.items()
    }


def _stored_numbers(file: Path) -> int:
    """How many numbers a file holds; of a damaged one, which its loader will name, at most so many."""
    from safetensors import SafetensorError, safe_open

    weight_kind(file)
    try:
        with safe_open(file, framework="pt") as opened:
            return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    except SafetensorError:
        return file.stat().st_size


def _activations(config: ModelConfig, tokens: int, dtype: torch.dtype) -> int:
    """What is alive at the widest point of a block: the feed-forward's hidden layer beside the residual stream."""
    return tokens * (2 * config.ffn_dim * dtype.itemsize + 4 * config.dim * 4)


def free_bytes(device: str) -> int:
    """Bytes that can still be taken on a device."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        import shutil

        return shutil.disk_usage("/").total  # unknown: nothing is refused
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


@cache
def matmul_rate(device: str, dtype: torch.dtype, width: int, *, seconds: float = 0.3) -> float:
    """Operations a second of this machine in matrix products about as large as the model's; measured once."""
    side = max(512, min(2048, width))
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    synchronize = torch.cuda.synchronize if torch.device(device).type == "cuda" else (lambda: None)
    left @ right
    synchronize()
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        left @ right
        synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best
