"""The `bdiff` command: reads options, calls what does the work, reports. Heavy imports happen inside commands."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bdiff import __version__, defaults
from bdiff.cli.add_ons import Commands
from bdiff.cli.runs import (
    LONG_OPTION,
    MEMORY_LIMIT_OPTION,
    RUN_COMMANDS,
    check_device,
    make_video,
    memory_bytes,
    require_memory,
)
from bdiff.cli.terminal import NAME, PATH, Positive, free_folder, output_folder, say
from vde_metrics.command_line import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from bdiff.run.spec import Script

_POSITIVE = Positive()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: whatever a user can get wrong ends as one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(cli, given or ["--help"], name="bdiff", traceback=given[:1] == ["--traceback"]))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bdiff")
@click.option("--traceback", is_flag=True, expose_value=False, help="Show where in the code an error comes from.")
def cli() -> None:
    """Minute-long videos from storyboards, by block diffusion with a memory."""


_FILM_OPTIONS = (  # what a film is made of
    click.option("--storyboard", type=PATH, help="YAML, JSON or text file. Default: the one that ships."),
    click.option("--prompt", "prompts", multiple=True, help="Instead of a storyboard; repeat it for more shots."),
    click.option("--seconds", type=_POSITIVE, help="Length of what is made. Default: the storyboard's."),
    LONG_OPTION,
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=defaults.SEED, show_default=True),
    click.option(
        "--policy",
        type=click.Choice(defaults.POLICIES),
        show_default=defaults.POLICY,
        help="Which past chunks a chunk is shown.",
    ),
    click.option(
        "--seniority",
        type=click.FloatRange(0, 100),
        help="How much semantic prefers a place's first visits to later ones. Default: the model's.",
    ),
    click.option(
        "--num-sink",
        type=click.IntRange(0, 1000),
        help="First chunks that semantic shows every chunk, too. Default: the model's.",
    ),
    click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the model's."),
    click.option("--guidance", type=Positive(1000), help="Classifier-free guidance, 1 for none. Default: the model's."),
    click.option(
        "--noise",
        type=click.Choice(defaults.NOISES),
        help="Own noise for each chunk, or shared. Default: the model's.",
    ),
    click.option(
        "--scale", type=click.IntRange(1, 32), help="Side of a model pixel in the video. Default: the model's."
    ),
    click.option(
        "--mode",
        type=click.Choice(defaults.MODES),
        help="Order of denoising. Default: as the model was trained.",
    ),
    click.option("--solver", type=click.Choice(defaults.SOLVERS), help="Steps between levels. Default: the model's."),
    click.option("--negative", help="Prompt that guidance moves away from. Default: the model's."),
    click.option("--height", type=click.IntRange(8), help="Pixels of a frame, before --scale. Default: the model's."),
    click.option("--width", type=click.IntRange(8), help="Pixels of a frame, before --scale. Default: the model's."),
    click.option("--image", type=PATH, help="Picture that the film begins with."),
    click.option("--init-video", type=PATH, help="Video to go on from: its end becomes the first chunks."),
    click.option("--init-prompt", help="What it shows. Default: the storyboard's first prompt."),
    click.option(
        "--model",
        type=NAME,
        default=str(defaults.WEIGHTS),
        show_default="the one that ships",
        help="Folder of a model or of a diffusers pipeline, or a repository of the hub.",
    ),
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


def _film_options(command: "Callable") -> "Callable":
    """The options that `sample` and `plan` share."""
    for option in reversed(_FILM_OPTIONS):
        command = option(command)
    return command


@cli.command("sample")
@_film_options
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
def sample_command(out: Path, overwrite: bool, memory_limit: int | None, as_json: bool, **film: Any) -> None:
    """Make a video, chunk by chunk.

    Without options: the shipped model tells the shipped story. The folder gets video.mp4, sheet.png (every chunk and
    what it remembered), trace.svg and trace.md (the same at length), drift.json and drift.html, run.json to repeat the
    run, and state/ to go on with it.
    """
    script = _script(film)
    limit = memory_bytes(memory_limit, script)
    folder = free_folder(out, overwrite=overwrite)
    from bdiff.run.plan import line, plan_run, refusal

    plan = plan_run(script, memory_limit=limit)
    if problem := refusal(plan):
        raise ValueError(problem)
    from bdiff.run.loading import load_parts

    parts = load_parts(script, folder)
    with output_folder(folder):
        say(line(plan))
        _say_given(script)
        make_video(parts, fresh=True, memory_limit=limit, as_json=as_json)


@cli.command("plan")
@_film_options
@MEMORY_LIMIT_OPTION
@click.option("--share", type=Positive(1.0), show_default="1.0", help="Of a chunk's tokens that are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(memory_limit: int | None, share: float | None, as_json: bool, **film: Any) -> None:
    """Say what a video would take, without making it: memory by part, work, and the least time on this machine.

    Takes the options of `bdiff sample`. Only the headers of the weights are read. Exits with 2 if it would not fit.
    """
    import json

    from bdiff.run.plan import lines, plan_run, refusal

    script = _script(film)
    if share is not None:
        require_memory(script, "--share")
    plan = plan_run(script, memory_limit=memory_bytes(memory_limit, script), share=1.0 if share is None else share)
    _say_given(script)
    click.echo(json.dumps(plan.to_json(), indent=2) if as_json else "\n".join(lines(plan)))
    if problem := refusal(plan):
        raise click.ClickException(problem)


def _script(film: dict[str, Any]) -> "Script":
    """The film that options ask for."""
    if film["storyboard"] and film["prompts"]:
        raise click.UsageError("give --storyboard or --prompt, not both")
    from bdiff_core import Storyboard

    prompts, storyboard = film.pop("prompts"), film.pop("storyboard")
    board = Storyboard.from_prompts(prompts) if prompts else Storyboard.load(storyboard or defaults.STORYBOARD)
    check_device(film["device"])
    from bdiff.run.loading import SampleConfig, write_script
    from bdiff.run.models import local_folder

    return write_script(SampleConfig(storyboard=board, **film | {"model": local_folder(film["model"])}))


def _say_given(script: "Script") -> None:
    """Say what of a given video the film begins with."""
    if script.init_video is not None:
        from bdiff.run.given_video import told

        say(told(script.init_video, script.sampling))


@cli.command("convert")
@click.argument("source", type=NAME)
@click.argument("target", type=PATH)
@click.option(
    "--format",
    type=click.Choice(["bdiff", "diffusers", "wan", "pt"]),
    help="Default: pt for a target that ends in .pt, else bdiff.",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: as stored.")
@click.option(
    "--mode", type=click.Choice(["whole", "overlap", "cached"]), help="Native mode to note. Default: the source's."
)
@click.option("--entry", help="Of a .pt, which entry. Default: generator_ema, else generator, else model.")
@click.option("--lora", "loras", multiple=True, metavar="PATH[@STRENGTH]", help="Merge a LoRA; repeat it for more.")
@click.option("--max-file-gb", type=_POSITIVE, help="Split the weights into files of at most so much.")
@click.option("--overwrite", is_flag=True, help="Write even where something is.")
def convert_command(source: str, target: Path, max_file_gb: float | None, **options: Any) -> None:
    """Write the transformer of SOURCE to TARGET in another format or dtype.

    SOURCE is a folder or file of diffusers, Wan 2.1, SkyReels-V2, Self-Forcing, CausVid, LongLive or bdiff, or a
    repository of the Hugging Face hub (owner/name, or owner/name/file). TARGET is a folder; for the format pt a file.
    """
    from bdiff.run.checkpoints import convert

    convert(source, target, max_file_bytes=max_file_gb and max(1, round(max_file_gb * 1e9)), **options)
    say(f"{target} holds the transformer of {source}")


@cli.command("inspect")
@click.argument("path", type=NAME)
@click.option("--entry", help="Of a .pt, which entry. Default: generator_ema, else generator, else model.")
@click.option("--hash/--no-hash", "hashed", default=True, help="Compute SHA-256, which reads the whole file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def inspect_command(path: str, as_json: bool, **options: Any) -> None:
    """Tell what a transformer's checkpoint is: format, native mode, parameters, dtype, hash, config."""
    import json

    from bdiff.run.checkpoints import inspect, lines

    facts = inspect(path, **options)
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines(facts)))


for _command in RUN_COMMANDS:
    cli.add_command(_command)
