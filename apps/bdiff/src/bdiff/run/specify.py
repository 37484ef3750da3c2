"""From what a user asks for to what a run is to make; everything that can be refused is refused here."""

import torch

from bdiff import defaults
from bdiff.idle import refuse_idle
from bdiff.run.config import SampleConfig
from bdiff.run.inputs import check_picture, given_video, noted_picture
from bdiff.run.lengths import storyboard_prompts
from bdiff.run.model_files import digests
from bdiff.run.source import Source
from bdiff.run.spec import ChunkSpec, RunSpec
from bdiff.run.surroundings import layout
from bdiff_core.attention import choose_attention
from bdiff_core.storyboard import check_prompt


def make_spec(config: SampleConfig) -> RunSpec:
    """The chunks that a storyboard comes to, and with what they are made.

    Raises:
        ValueError: If something does not fit, or would change nothing.
    """
    source = Source(folder=config.model, dtype=getattr(torch, config.dtype), device=config.device, parts=config.parts)
    source.check()
    preset = source.preset(config.preset)
    sampling = source.sampling(preset).changed(config.settings)
    if sampling.negative is not None:
        check_prompt(sampling.negative, "the negative prompt")
    if sampling.mode == "cached":
        sampling.policy(config.policy)  # refuses what is none
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
    return RunSpec(
        title=title,
        chunks=tuple(ChunkSpec(prompt, config.seed) for prompt in prompts),
        model=str(config.model.resolve()),
        weights=digests(config.model) | config.parts.digests(),
        parts=config.parts,
        preset=preset,
        sampling=sampling,
        policy=config.policy or sampling.memory,
        seed=config.seed,
        image=noted_picture(config, sampling),
        init_video=video,
        device=config.device,
        dtype=config.dtype,
        offload=layout(config.model) != "own" if config.offload is None else config.offload,
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
    policy, mode = config.policy or sampling.memory, sampling.mode
    given = {"policy": config.policy, **config.settings}
    remembers, semantic = mode == "cached", policy == "semantic"
    of_memory = ("policy", "age_bonus", "num_sink", "positions", "prompt_switch", "context_noise")
    memory = dict.fromkeys(of_memory, remembers)
    refuse_idle(given, memory, f"is of the memory, which the {mode} mode has not")
    refuse_idle(
        given, {"age_bonus": semantic, "num_sink": semantic}, f"is of --policy semantic; {policy} does not use it"
    )
    reason = "is what guidance moves away from, and there is none at guidance 1"
    refuse_idle(given, {"negative": sampling.guidance != 1.0}, reason)
    if sampling.timesteps is not None:
        walked = ", ".join(map(str, sampling.timesteps))
        refuse_idle(
            given, {"steps": False, "solver": False}, f"has no effect on the timesteps {walked} of a few-step model"
        )
