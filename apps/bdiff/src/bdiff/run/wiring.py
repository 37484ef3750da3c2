"""Noise, solver, grid and memory by a model's settings, wired in one place: for runs, roll-outs and benches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bdiff import defaults
from bdiff.run.loading import LoadedRun
from bdiff_core import Chunk, Memory, Renoising, Scheduled, euler, generate
from bdiff_core.files import is_finite
from bdiff_core.samplers import generate_overlap, generate_whole
from kvbank import Float8, Int4, Int8, KVBank, Policy, TieredStore
from noisesched import NoiseStream, denoising_grid, few_step_grid, nearest_grid


class ChunkNoise:
    """The noise of each chunk, from the stream of the chunk's own seed.

    Args:
        seeds: Seed of every chunk.
        frame_shape: Channels, height and width of a latent frame.
        num_frames: Latent frames of a chunk.
        base: `fresh` or `shared`.
        first_frames: Latent frames of the first chunk; None: as many as in the others.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        frame_shape: tuple[int, ...],
        num_frames: int,
        *,
        base: Any,
        first_frames: int | None = None,
    ) -> None:
        self._seeds = seeds
        self._streams = {
            seed: NoiseStream(frame_shape, num_frames, seed=seed, base=base, first_frames=first_frames)
            for seed in set(seeds)
        }

    def num_frames(self, index: int) -> int:
        """Latent frames of a chunk."""
        return self._streams[self._seeds[index]].num_frames(index)

    def chunk(self, index: int) -> Float[Tensor, "frames c h w"]:
        """Noise of a chunk."""
        return self._streams[self._seeds[index]].chunk(index)

    def step(self, index: int, step: int) -> Float[Tensor, "frames c h w"]:
        """Noise that a solver adds again at a step of a chunk."""
        return self._streams[self._seeds[index]].step(index, step)


def make_noise(sampling: defaults.Sampling, vae: Any, seeds: Sequence[int]) -> ChunkNoise:
    """The noise of a video.

    Args:
        sampling: Size of the frames, frames of a chunk, base of the noise.
        vae: An `Autoencoder`.
        seeds: Seed of every chunk.
    """
    shape = (vae.latent_channels, sampling.height // vae.spatial_stride, sampling.width // vae.spatial_stride)
    first = sampling.first_latent_frames
    return ChunkNoise(seeds, shape, sampling.latent_frames, base=sampling.noise, first_frames=first)


def make_solver(
    sampling: defaults.Sampling, noise: ChunkNoise, scheduler: Any = None
) -> tuple[Any, Sequence[float] | Float[Tensor, " levels"]]:
    """The solver, and the levels that it walks.

    Args:
        sampling: Name of the solver, number of steps, shift.
        noise: What a solver that adds noise again adds.
        scheduler: The model's own, of diffusers, for the solver of that name.
    """
    if sampling.timesteps is not None:
        return _few_steps(sampling, noise, sampling.timesteps)
    if sampling.solver == "scheduler":
        scheduled = Scheduled(_shifted(scheduler, sampling.shift))
        return scheduled, scheduled.grid(sampling.steps)
    grid = denoising_grid(sampling.steps, shift=sampling.shift)
    return (Renoising(noise) if sampling.solver == "renoise" else euler), grid


def _few_steps(
    sampling: defaults.Sampling, noise: ChunkNoise, timesteps: tuple[int, ...]
) -> tuple[Any, Sequence[float]]:
    """The solver and the levels of a few-step model."""
    make = few_step_grid if sampling.warped else nearest_grid
    grid = make(timesteps, shift=sampling.shift)
    told = None if sampling.warped else [step / 1000 for step in timesteps]
    first = None if sampling.first_timesteps is None else make(sampling.first_timesteps, shift=sampling.shift)
    return Renoising(noise, told, first), grid


def _shifted(scheduler: Any, shift: float) -> Any:
    """A scheduler of diffusers with a shift of the levels."""
    name = "shift" if "shift" in scheduler.config else "flow_shift"
    if float(scheduler.config.get(name, 1.0)) == shift:
        return scheduler
    return type(scheduler).from_config(scheduler.config, **{name: shift})


def make_memory(
    policy: Policy,
    model: Any,
    *,
    seed: int,
    store: TieredStore | None = None,
    quantization: Int8 | Float8 | Int4 | None = None,
) -> KVBank:
    """An empty memory for a model.

    Args:
        policy: Which past chunks a chunk is shown.
        model: Its `rotate` scores salience.
        seed: Seed of the random probes.
        store: Where keys and values are held; None: in memory.
        quantization: How they are packed; None: not at all.
    """
    return KVBank(policy=policy, store=store, rotate=model.rotate, seed=seed, quantization=quantization)


@torch.no_grad()
def generate_chunks(
    run: LoadedRun,
    memory: Memory | None = None,
    *,
    first: int = 0,
    last: int | None = None,
    prefix: Mapping[int, Tensor] | None = None,
    decode: bool = True,
    decoder_state: Any = None,
    past: Mapping[int, Tensor] | None = None,
) -> Iterator[Chunk]:
    """The chunks of a run, in the order of denoising that its settings name; nothing is written.

    Args:
        run: The loaded run.
        memory: What the chunks are shown of the past; None: an empty one. Modes without a memory leave it alone.
        first: The first chunk to make; the memory holds those before it.
        last: The chunk to stop before; None: all are made.
        prefix: Latents that are given instead of made, by chunk; None: those of the run.
        decode: Whether chunks are decoded to pixels.
        decoder_state: What the decoder carries on from the chunk before `first`.
        past: Latents of the last chunks before `first`, for keys that are recomputed at a new prompt.

    Raises:
        FloatingPointError: At the first chunk whose latents or pixels are not finite.
    """
    sampling, chunks = run.sampling, run.plan[first:last]
    noise = make_noise(sampling, run.vae, [chunk.seed for chunk in run.spec.chunks])
    solver, grid = make_solver(sampling, noise, run.scheduler)
    given = run.prefix if prefix is None else prefix
    walk: dict[str, Any] = {"noise": noise, "grid": grid, "solver": solver, "guidance": sampling.guidance}
    walk |= {"decoder": run.vae if decode else None, "decoder_state": decoder_state}
    match sampling.mode:
        case "whole":
            if run.condition is not None:
                walk |= {"extra": run.condition.extra, "image_tokens": run.condition.image_tokens}
            made = generate_whole(run.model, chunks, **walk)
        case "overlap":
            walk |= {"window": defaults.WINDOW, "overlap": defaults.OVERLAP}
            made = generate_overlap(run.model, chunks, prefix=given, **walk)
        case _:
            if memory is None:
                memory = make_memory(run.spec.make_policy(), run.model, seed=run.spec.seed)
            walk |= {"positions": sampling.positions, "context_noise": sampling.context_noise}
            walk |= {"prompt_switch": sampling.prompt_switch, "before": run.plan[:first], "past_latents": past}
            made = generate(run.model, chunks, memory=memory, prefix=given, **walk)
    for chunk in made:
        _check_finite(chunk, run)
        yield chunk


def _check_finite(chunk: Chunk, run: LoadedRun) -> None:
    """Stop at the first chunk that is no picture.

    Raises:
        FloatingPointError: If latents or pixels are not finite.
    """
    spec = run.spec
    for name, numbers in (("latents", chunk.latents), ("pixels", chunk.frames)):
        if numbers is not None and not is_finite(numbers):
            other = "" if spec.dtype == "float32" else f", or {spec.dtype} is too narrow for them: --dtype float32"
            raise FloatingPointError(
                f"the {name} of chunk {chunk.index} are not finite numbers: the weights of {spec.model} are "
                f"damaged{other}"
            )
