"""Commands that begin with a storyboard: make a video, or say what it would take."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bdiff import defaults
from bdiff.cli.runs import LONG_OPTION, MEMORY_LIMIT_OPTION, check_device, memory_bytes, require_memory, show_video
from bdiff.cli.settings import setting_options
from bdiff.cli.terminal import NAME, PATH, Positive, free_folder, output_folder, say

if TYPE_CHECKING:
    from bdiff.run import RunSpec

_SETTINGS = (
    *("age_bonus", "num_sink", "steps", "guidance", "noise", "scale"),
    *("mode", "solver", "positions", "prompt_switch", "context_noise", "negative", "height", "width"),
)
"""Fields of `Sampling` that are options."""

_PARTS = ("transformer", "entry", "loras", "vae", "text_encoder")
"""Options that name parts of a model."""

_BEFORE_SETTINGS = (
    click.option("--storyboard", type=PATH, help="YAML, JSON or text file. Default: the one that ships."),
    click.option("--prompt", "prompts", multiple=True, help="Instead of a storyboard; repeat it for more shots."),
    click.option("--seconds", type=Positive(), help="Length of what is made. Default: the storyboard's."),
    LONG_OPTION,
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=defaults.SEED, show_default=True),
    click.option(
        "--policy",
        metavar="POLICY",
        show_default="the model's, semantic for the one that ships",
        help=f"Which past chunks a chunk is shown: {', '.join(defaults.POLICIES)}, or with settings such as "
        "sink:frames=3,window=6.",
    ),
)
_AFTER_SETTINGS = (
    click.option("--image", type=PATH, help="Picture that the video begins with."),
    click.option("--init-video", type=PATH, help="Video to go on from: its end becomes the first chunks."),
    click.option("--init-prompt", help="What it shows. Default: the storyboard's first prompt."),
    click.option(
        "--model",
        type=NAME,
        default=str(defaults.WEIGHTS),
        show_default="the one that ships",
        help="Folder of a model or of a diffusers pipeline, or a repository of the hub.",
    ),
    click.option("--preset", help="Sampling of a published checkpoint, see bdiff presets. Default: as recognised."),
    click.option("--transformer", help="Transformer that takes the place of the model's: file, folder or repository."),
    click.option("--entry", help="Entry of a .pt that holds it. Default: generator_ema, else generator, else model."),
    click.option("--lora", "loras", multiple=True, metavar="PATH[@STRENGTH]", help="Add a LoRA; repeat it for more."),
    click.option("--vae", help="Autoencoder that takes the place of the model's."),
    click.option("--text-encoder", help="Text encoder that takes the place of the model's."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, ..."),
    click.option("--dtype", type=click.Choice(defaults.DTYPES), default="float32", show_default=True),
    click.option(
        "--offload/--no-offload",
        default=None,
        help="Load parts one after the other, and keep them off the device at rest. Default: for pipelines.",
    ),
    click.option(
        "--attention",
        type=click.Choice(defaults.ATTENTIONS),
        default="auto",
        show_default=True,
        help="Attention kernel; auto takes the best that is there.",
    ),
)


def _video_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `sample` and `plan` share."""
    for option in reversed(_AFTER_SETTINGS):
        command = option(command)
    command = setting_options(*_SETTINGS)(command)
    for option in reversed(_BEFORE_SETTINGS):
        command = option(command)
    return command


@click.command("sample")
@_video_options
@click.option(
    "--out",
    type=PATH,
    default=defaults.OUT,
    show_default=True,
    help="Folder to make; if it holds something, -2, -3, ... is added.",
)
@click.option("--overwrite", is_flag=True, help="Write into the folder even if it holds something.")
@MEMORY_LIMIT_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the record of the run on stdout.")
def sample_command(out: Path, overwrite: bool, memory_limit: int | None, as_json: bool, **options: Any) -> None:
    """Make a video, chunk by chunk.

    Without options: the shipped storyboard by the shipped model. The folder gets video.mp4, sheet.png (every chunk and
    what it remembered), trace.svg and trace.md (the same at length), drift.json and drift.html, run.json to repeat the
    run, and state/ to go on with it.
    """
    spec = _spec(options)
    limit = memory_bytes(memory_limit, spec)
    folder = free_folder(out, overwrite=overwrite)
    from bdiff.run import load_run, plan_line, plan_refusal, plan_run

    plan = plan_run(spec, memory_limit=limit)
    if problem := plan_refusal(plan):
        raise ValueError(problem)
    run = load_run(spec, folder)
    with output_folder(folder):
        say(plan_line(plan))
        _say_given(spec)
        show_video(run, fresh=True, memory_limit=limit, as_json=as_json)


@click.command("plan")
@_video_options
@MEMORY_LIMIT_OPTION
@click.option("--share", type=Positive(1.0), show_default="1.0", help="Share of a chunk's tokens that is kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(memory_limit: int | None, share: float | None, as_json: bool, **options: Any) -> None:
    """Say what a video would take, without making it: memory by part, work, and the least time on this machine.

    Takes the options of `bdiff sample`. Only the headers of the weights are read. Exits with 2 if it would not fit.
    """
    from bdiff.run import plan_lines, plan_refusal, plan_run

    spec = _spec(options)
    if share is not None:
        require_memory(spec, "--share")
    plan = plan_run(spec, memory_limit=memory_bytes(memory_limit, spec), share=1.0 if share is None else share)
    _say_given(spec)
    click.echo(json.dumps(plan.to_json(), indent=2) if as_json else "\n".join(plan_lines(plan)))
    if problem := plan_refusal(plan):
        raise click.ClickException(problem)


def _spec(options: dict[str, Any]) -> "RunSpec":
    """What the options ask for."""
    if options["storyboard"] and options["prompts"]:
        raise click.UsageError("give --storyboard or --prompt, not both")
    from bdiff.run import Parts, SampleConfig, local_folder, make_spec
    from bdiff_core import Storyboard

    prompts, storyboard = options.pop("prompts"), options.pop("storyboard")
    board = Storyboard.from_prompts(prompts) if prompts else Storyboard.load(storyboard or defaults.STORYBOARD)
    check_device(options["device"])
    settings = {name: options.pop(name) for name in _SETTINGS}
    model = local_folder(options.pop("model"))
    parts = Parts.located(**{name: options.pop(name) for name in _PARTS})
    spec = make_spec(SampleConfig(storyboard=board, model=model, parts=parts, settings=settings, **options))
    if spec.preset is not None and options["preset"] is None:
        say(f"sampled as {spec.preset}, by the name of the checkpoint; --preset says otherwise")
    return spec


def _say_given(spec: "RunSpec") -> None:
    """Say which part of a given video the made one begins with."""
    if spec.init_video is not None:
        from bdiff.run import describe_video

        say(describe_video(spec.init_video, spec.sampling))
