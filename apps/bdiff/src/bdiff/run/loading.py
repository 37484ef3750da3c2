"""Everything that a run needs, loaded and checked before anything is written."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bdiff import defaults
from bdiff.idle import refuse_idle
from bdiff.run.inputs import check_picture, given_chunks, given_picture, given_video, noted_picture
from bdiff.run.lengths import storyboard_prompts
from bdiff.run.models import Autoencoder, Source, is_pipeline, load_model
from bdiff.run.offload import OnDemand, give_back
from bdiff.run.record import digests
from bdiff.run.spec import Script, Take
from bdiff_core import ChunkCondition, ChunkDiT, ModelConfig, Storyboard, TextEncoder, plan_chunks
from bdiff_core.backends import choose_attention
from bdiff_core.storyboard import check_prompt
from bdiff_core.wan import ImageCondition
from kvbank import KVBank

logger = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """One video to make."""

    storyboard: Storyboard
    """What is to be seen."""
    out: Path = defaults.OUT
    """Folder for the video and everything about it; it must not exist, or be empty."""
    model: Path = defaults.WEIGHTS
    """Folder of the model, see `bdiff.run.models`."""
    seconds: float | None = None
    """Length of the video; None: of the storyboard."""
    seed: int = 0
    """Seed of every random draw."""
    long: bool = False
    """Allow more than a day of video, see `storyboard_prompts`."""
    policy: str | None = None
    """Which past chunks a chunk is shown, see `defaults.policy`; None: `defaults.POLICY`."""
    steps: int | None = None
    """Denoising steps a chunk; None: as the model wants it."""
    guidance: float | None = None
    """Classifier-free guidance, 1 for none; None: as the model wants it."""
    noise: str | None = None
    """Base noise, fresh or shared; None: as the model wants it."""
    scale: int | None = None
    """Side of a model pixel in the file; None: as the model wants it."""
    mode: str | None = None
    """Order of denoising, one of `defaults.MODES`; None: as the model was trained."""
    seniority: float | None = None
    """Of the semantic memory: how much earlier visits are preferred to later ones; None: as the model wants it."""
    num_sink: int | None = None
    """Of the semantic memory: first chunks that every chunk is shown, too; None: as the model wants it."""
    solver: str | None = None
    """Steps between levels, one of `defaults.SOLVERS`; None: as the model wants it."""
    negative: str | None = None
    """Prompt that guidance moves away from; None: as the model wants it."""
    height: int | None = None
    """Pixels of a frame, before `scale`; None: as the model wants it."""
    width: int | None = None
    """Pixels of a frame, before `scale`; None: as the model wants it."""
    image: Path | None = None
    """A picture for the first chunk to show, or for an image-to-video model to go on from."""
    init_video: Path | None = None
    """A video for the first chunks to show; the storyboard and `seconds` are of what comes after it."""
    init_prompt: str | None = None
    """What is seen in `init_video`; None: the storyboard's first prompt."""
    device: str = "cpu"
    """Where to compute."""
    dtype: Dtype = "float32"
    """What the transformer computes in."""
    offload: bool | None = None
    """Load one part after the other, and keep each off the device while it is not needed; None: for pipelines."""
    attention: str = "auto"
    """What it attends by, one of `defaults.ATTENTIONS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a script is made with."""

    script: Script
    out: Path
    """The run's folder."""
    model: ChunkDiT
    vae: Autoencoder
    scheduler: Any
    """Of diffusers, for the solver of that name; None: the model has none."""
    bank: KVBank
    """Empty; a run that is written to disk has its bank there."""
    plan: list[ChunkCondition]
    prefix: Mapping[int, Tensor]
    """Latents of chunks that show a picture or a video instead of being made, by their index."""
    condition: ImageCondition | None
    """What an image-to-video model is told of its picture."""
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
    source = Source(folder=config.model, dtype=getattr(torch, config.dtype), device=config.device)
    sampling = _sampling(config, source)
    if sampling.negative is not None:
        check_prompt(sampling.negative, "the negative prompt")
    check_effect(config, sampling)
    check_picture(config, sampling, source.config)
    video = given_video(config, sampling)
    prompts = storyboard_prompts(
        config.storyboard,
        sampling,
        seconds=config.seconds,
        after=0 if video is None else video.num_chunks,
        long=config.long,
    )
    title = config.storyboard.title or prompts[0]
    if video is not None:
        prompts = [config.init_prompt or prompts[0]] * video.num_chunks + prompts
    return Script(
        title=title,
        takes=tuple(Take(prompt, config.seed) for prompt in prompts),
        model=str(config.model.resolve()),
        weights=digests(config.model),
        sampling=sampling,
        policy=config.policy or defaults.POLICY,
        seed=config.seed,
        image=noted_picture(config, sampling),
        init_video=video,
        device=config.device,
        dtype=config.dtype,
        offload=is_pipeline(config.model) if config.offload is None else config.offload,
        attention=choose_attention(config.attention, device=torch.device(config.device), dtype=source.dtype),
    )


def check_effect(config: SampleConfig, sampling: defaults.Sampling) -> None:
    """Refuse settings that would change nothing.

    Args:
        config: What was asked for.
        sampling: What it comes to with this model.

    Raises:
        ValueError: If there is one.
    """
    policy, mode = config.policy or defaults.POLICY, sampling.mode
    given = {name: getattr(config, name) for name in ("policy", "seniority", "num_sink", "negative")}
    remembers, semantic = mode == "cached", policy == "semantic"
    memory = dict.fromkeys(("policy", "seniority", "num_sink"), remembers)
    refuse_idle(given, memory, f"is of the memory, which the {mode} mode has not")
    refuse_idle(
        given, {"seniority": semantic, "num_sink": semantic}, f"is of --policy semantic; {policy} does not use it"
    )
    reason = "is what guidance moves away from, and there is none at guidance 1"
    refuse_idle(given, {"negative": sampling.guidance != 1.0}, reason)


def load_parts(script: Script, out: Path, *, num_made: int = 0) -> Parts:
    """Loads and checks what a script is made with; a ValueError says what does not fit.

    Args:
        script: The film.
        out: The run's folder.
        num_made: Chunks of it that are there already and stay; what they alone need is not read.
    """
    started = time.perf_counter()
    folder, sampling = Path(script.model), script.sampling
    device, dtype = torch.device(script.device), getattr(torch, script.dtype)
    source = Source(folder=folder, dtype=dtype, device=device)
    take = _taker(source, offload=script.offload)
    with torch.no_grad():
        plan = _plan(script, take("encoder"))
        vae, scheduler = take("vae"), take("scheduler")
        config = source.config
        _check_size(config, vae, sampling, folder=folder)
        _check_mode(config, scheduler, sampling, folder=folder)
        condition = given_picture(script, vae, config, lambda: take("image_encoder"))
        if script.offload and device.type != "cpu":
            vae = OnDemand(vae, device)
        model = take("transformer")
        model.attention = script.attention
        return Parts(
            script=script,
            out=out,
            model=model,
            vae=vae,
            bank=KVBank(policy=script.make_policy(), rotate=model.rotate, seed=script.seed),
            scheduler=scheduler,
            plan=plan,
            prefix=given_chunks(script, vae, config, num_made=num_made),
            condition=condition,
            seconds_to_load=time.perf_counter() - started,
        )


def _taker(source: Source, *, offload: bool) -> Callable[[str], Any]:
    """Gives a part by its name: loaded at that moment and not held, or else one of those that are all loaded first."""
    source.check()
    if not offload:
        model = load_model(source.folder, dtype=source.dtype, device=source.device)
        return lambda name: getattr(model, name)

    def load(name: str) -> Any:
        give_back()
        return getattr(source, name)()

    return load


_OF_SAMPLING = (
    "steps",
    "guidance",
    "noise",
    "scale",
    "mode",
    "seniority",
    "num_sink",
    "solver",
    "negative",
    "height",
    "width",
)


def _sampling(config: SampleConfig, source: Source) -> defaults.Sampling:
    given = {name: getattr(config, name) for name in _OF_SAMPLING}
    return replace(source.sampling(), **{name: value for name, value in given.items() if value is not None})


def _plan(script: Script, encoder: TextEncoder) -> list[ChunkCondition]:
    board = Storyboard.from_prompts([take.prompt for take in script.takes])
    rhythm = {"fps": script.sampling.fps, "frames_per_chunk": script.sampling.frames_per_chunk}
    plan = plan_chunks(board, encoder, **rhythm)
    if script.sampling.negative is None:
        return plan
    negative = encoder.encode([script.sampling.negative]).tokens[0]
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
