"""Everything that a run needs, loaded and checked before anything is written."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdiff import defaults
from bdiff.run.config import SampleConfig
from bdiff.run.inputs import given_chunks, given_picture
from bdiff.run.models import Autoencoder
from bdiff.run.offload import OnDemand, give_back
from bdiff.run.source import Source, load_model
from bdiff.run.spec import RunSpec
from bdiff.run.specify import make_spec
from bdiff_core import ChunkCondition, ChunkDiT, ModelConfig, Storyboard, TextEncoder, plan_chunks
from bdiff_core.wan import ImageCondition

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRun:
    """The parts that a run is made with."""

    spec: RunSpec
    out: Path
    """The run's folder."""
    model: ChunkDiT
    vae: Autoencoder
    scheduler: Any
    """The model's own, of diffusers, for the solver of that name; None: it has none."""
    plan: list[ChunkCondition]
    prefix: Mapping[int, Tensor]
    """Latents of chunks that show a picture or a video instead of being made, by their index."""
    condition: ImageCondition | None
    """The picture as an image-to-video model takes it."""
    seconds_to_load: float

    @property
    def sampling(self) -> defaults.Sampling:
        """How the model is sampled."""
        return self.spec.sampling


def build(config: SampleConfig) -> LoadedRun:
    """Everything that a run needs, from what is asked for: `make_spec`, then `load_run`."""
    return load_run(make_spec(config), config.out)


def load_run(spec: RunSpec, out: Path, *, num_made: int = 0) -> LoadedRun:
    """Load and check the parts that a run is made with.

    Args:
        spec: What is to be made.
        out: The run's folder.
        num_made: Chunks that are there already and stay; what they alone need is not read.

    Raises:
        ValueError: If the parts do not fit each other, or the settings.
    """
    started = time.perf_counter()
    folder, sampling = Path(spec.model), spec.sampling
    device, dtype = torch.device(spec.device), getattr(torch, spec.dtype)
    source = Source(folder=folder, dtype=dtype, device=device, parts=spec.parts)
    part = _loader(source, offload=spec.offload, scheduler=_wants_scheduler(sampling))
    with torch.no_grad():
        plan = _plan(spec, part("encoder"))
        vae, scheduler = part("vae"), part("scheduler") if _wants_scheduler(sampling) else None
        config = source.config
        _check_size(config, vae, sampling, folder=folder)
        _check_mode(config, scheduler, sampling, folder=folder)
        condition = given_picture(spec, vae, config, lambda: part("image_encoder"))
        if spec.offload and device.type != "cpu":
            vae = OnDemand(vae, device)
        model = part("transformer")
        model.attention = spec.attention
        return LoadedRun(
            spec=spec,
            out=out,
            model=model,
            vae=vae,
            scheduler=scheduler,
            plan=plan,
            prefix=given_chunks(spec, vae, config, num_made=num_made),
            condition=condition,
            seconds_to_load=time.perf_counter() - started,
        )


def _wants_scheduler(sampling: defaults.Sampling) -> bool:
    """Whether the model's own scheduler makes the steps; a published one may be of no known class."""
    return sampling.solver == "scheduler" and sampling.timesteps is None


def _loader(source: Source, *, offload: bool, scheduler: bool) -> Callable[[str], Any]:
    """Gives a part by its name: loaded at that moment and not held, or else one of those that are all loaded first."""
    source.check()
    if not offload:
        model = load_model(
            source.folder, dtype=source.dtype, device=source.device, parts=source.parts, scheduler=scheduler
        )
        return lambda name: getattr(model, name)

    def load(name: str) -> Any:
        give_back()
        return getattr(source, name)()

    return load


def _plan(spec: RunSpec, encoder: TextEncoder) -> list[ChunkCondition]:
    board = Storyboard.from_prompts([chunk.prompt for chunk in spec.chunks])
    rhythm = {"fps": spec.sampling.fps, "frames_per_chunk": spec.sampling.frames_per_chunk}
    rhythm["first_frames"] = spec.sampling.first_frames
    plan = plan_chunks(board, encoder, **rhythm)
    if spec.sampling.negative is None:
        return plan
    negative = encoder.encode([spec.sampling.negative]).tokens[0]
    return [replace(condition, negative=negative) for condition in plan]


def _check_size(config: ModelConfig, vae: Autoencoder, sampling: defaults.Sampling, *, folder: Path) -> None:
    for name, patch in zip(("height", "width"), config.patch_size[1:], strict=True):
        side, unit = getattr(sampling, name), vae.spatial_stride * patch
        if side % unit:
            raise ValueError(f"{folder}: {name} is {side}; expected a multiple of {unit}")


def _check_mode(config: ModelConfig, scheduler: Any, sampling: defaults.Sampling, *, folder: Path) -> None:
    native = config.native_mode
    if sampling.mode != native:
        logger.warning(
            "%s was trained for the %s mode and is made to run in the %s mode: expect worse videos",
            folder,
            native,
            sampling.mode,
        )
    if sampling.solver == "scheduler" and scheduler is None:
        raise ValueError(f"{folder} has no scheduler; expected --solver euler or renoise")
