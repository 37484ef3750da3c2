"""The `bdiff` command: reads options, calls what does the work, reports. Heavy imports happen inside commands."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bdiff import __version__, defaults
from bdiff.cli_runs import MEMORY_LIMIT_OPTION, RUN_COMMANDS, check_device, make_video
from bdiff.terminal import Positive, free_folder, make_folder, one_line_errors
from vde_metrics.cli import command as drift_command
from vde_metrics.cli import split_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from bdiff.script import Script

_DAY = 86_400
_PATH = click.Path(path_type=Path)


_POSITIVE = Positive()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: whatever a user can get wrong ends as one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(given or ["--help"], prog_name="bdiff", standalone_mode=False)
    except click.Abort:
        click.echo("bdiff: stopped", err=True)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        click.echo(f"bdiff: {' '.join(error.format_message().split())}", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bdiff")
def cli() -> None:
    """Minute-long videos from storyboards, by block diffusion with a memory."""


def _film_options(command: "Callable") -> "Callable":
    """What a film is made of: the options that `sample` and `plan` share."""
    for option in reversed(
        (
            click.option("--storyboard", type=_PATH, help="YAML, JSON or text file. Default: the one that ships."),
            click.option(
                "--prompt", "prompts", multiple=True, help="Instead of a storyboard; repeat it for more shots."
            ),
            click.option("--seconds", type=Positive(_DAY), help="Length of the video. Default: the storyboard's."),
            click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True),
            click.option(
                "--policy",
                type=click.Choice(defaults.POLICIES),
                default="semantic",
                show_default=True,
                help="Which past chunks a chunk is shown.",
            ),
            click.option(
                "--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the model's."
            ),
            click.option(
                "--guidance", type=_POSITIVE, help="Classifier-free guidance, 1 for none. Default: the model's."
            ),
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
            click.option(
                "--solver", type=click.Choice(defaults.SOLVERS), help="Steps between levels. Default: the model's."
            ),
            click.option("--negative", help="Prompt that guidance moves away from. Default: the model's."),
            click.option(
                "--height", type=click.IntRange(8), help="Pixels of a frame, before --scale. Default: the model's."
            ),
            click.option(
                "--width", type=click.IntRange(8), help="Pixels of a frame, before --scale. Default: the model's."
            ),
            click.option("--image", type=_PATH, help="Picture that the first chunk shows."),
            click.option(
                "--model",
                default=str(defaults.WEIGHTS),
                show_default="the one that ships",
                help="Folder of a model or of a diffusers pipeline, or a repository of the hub.",
            ),
            click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, ..."),
            click.option(
                "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
            ),
        )
    ):
        command = option(command)
    return command


@cli.command("sample")
@_film_options
@click.option(
    "--out",
    type=_PATH,
    default=defaults.OUT,
    show_default=True,
    help="Folder to make; if it holds something, -2, -3, ... is added.",
)
@click.option("--overwrite", is_flag=True, help="Write into the folder even if it holds something.")
@MEMORY_LIMIT_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the record of the run on stdout.")
def sample_command(out: Path, overwrite: bool, memory_limit: int, as_json: bool, **film: Any) -> None:
    """Make a video, chunk by chunk.

    Without options: the shipped model tells the shipped story. The folder gets video.mp4, sheet.png (every chunk and
    what it remembered), trace.svg and trace.md (the same at length), drift.json and drift.html, run.json to repeat the
    run, and state/ to go on with it.
    """
    with one_line_errors():
        script = _script(film)
        folder = free_folder(out, overwrite=overwrite)
        from bdiff.plan import line, plan_run, refusal

        plan = plan_run(script, memory_limit=memory_limit * 1_000_000)
        if problem := refusal(plan):
            raise ValueError(problem)
        from bdiff.parts import load_parts

        parts = load_parts(script, folder)
        make_folder(folder)
    click.echo(line(plan), err=True)
    make_video(parts, fresh=True, memory_limit=memory_limit, as_json=as_json)


@cli.command("plan")
@_film_options
@MEMORY_LIMIT_OPTION
@click.option("--share", type=Positive(1.0), default=1.0, show_default=True, help="Of a chunk's tokens that are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(memory_limit: int, share: float, as_json: bool, **film: Any) -> None:
    """Say what a video would take, without making it: memory by part, work, and the least time on this machine.

    Takes the options of `bdiff sample`. Only the headers of the weights are read. Exits with 2 if it would not fit.
    """
    import json

    with one_line_errors():
        from bdiff.plan import lines, plan_run, refusal

        plan = plan_run(_script(film), memory_limit=memory_limit * 1_000_000, share=share)
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
    from bdiff.models import local_folder
    from bdiff.parts import SampleConfig, write_script

    return write_script(SampleConfig(storyboard=board, **film | {"model": local_folder(film["model"])}))


@cli.command("convert")
@click.argument("source")
@click.argument("target", type=_PATH)
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
    with one_line_errors():
        from bdiff.checkpoints import convert

        convert(source, target, max_file_bytes=max_file_gb and max(1, round(max_file_gb * 1e9)), **options)
    click.echo(f"{target} holds the transformer of {source}", err=True)


@cli.command("inspect")
@click.argument("path")
@click.option("--entry", help="Of a .pt, which entry. Default: generator_ema, else generator, else model.")
@click.option("--hash/--no-hash", "hashed", default=True, help="Compute SHA-256, which reads the whole file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def inspect_command(path: str, as_json: bool, **options: Any) -> None:
    """Tell what a transformer's checkpoint is: format, native mode, parameters, dtype, hash, config."""
    import json

    with one_line_errors():
        from bdiff.checkpoints import inspect, lines

        facts = inspect(path, **options)
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines(facts)))


for _command in RUN_COMMANDS:
    cli.add_command(_command)


@cli.group("train")
def train_group() -> None:
    """Train the autoencoder, then the transformer, on rendered stories.

    A run that is stopped goes on where it was when it is started again with the same --out.
    """


def _training_options(command: "Callable") -> "Callable":
    """What both trainers take; an option left out is the trainer's own default."""
    for option in (
        click.option("--learning-rate", type=_POSITIVE),
        click.option("--richness", type=click.IntRange(0, 2), help="Stories: 0 flat, 1 landmarks, 2 light and camera."),
        click.option("--num-stories", type=click.IntRange(1), help="Stories to train on."),
        click.option("--seed", type=click.IntRange(0)),
        click.option("--max-steps", type=click.IntRange(1), help="Stop after so many steps."),
        click.option("--minutes", type=_POSITIVE, help="Stop after so much training, resumed parts together."),
        click.option("--out", type=_PATH, required=True, help="Folder of weights, checkpoint, log and curve."),
    ):
        command = option(command)
    return command


@train_group.command("vae")
@_training_options
@click.option("--batch-size", type=click.IntRange(1), help="Clips a step.")
def train_vae_command(**options: Any) -> None:
    """Train the autoencoder; ends with vae.safetensors."""
    with one_line_errors():
        from bdiff.train.vae import VAETrainConfig, train_vae

        config = VAETrainConfig(**_given(options))
        make_folder(config.out)
    _report(train_vae(config).evaluation, config.out / "vae.safetensors")


@train_group.command("model")
@_training_options
@click.option("--vae", type=_PATH, required=True, help="What `bdiff train vae` wrote.")
@click.option("--stories", type=_PATH, required=True, help="Folder of encoded stories; those missing are made.")
@click.option("--start-from", type=_PATH, help="Transformer folder whose weights to begin with.")
@click.option("--policy", type=click.Choice(defaults.POLICIES[:-1]), help="Which past chunks a target sees.")
def train_model_command(**options: Any) -> None:
    """Train the transformer; ends with transformer/."""
    with one_line_errors():
        from bdiff.train.model import ModelTrainConfig, train_model
        from bdiff_core import load_vae

        config = ModelTrainConfig(**_given(options))
        load_vae(config.vae)  # an unreadable file is to be found out now
        make_folder(config.out)
    _report(train_model(config).evaluation, config.out / "transformer")


@cli.group("bench")
def bench_group() -> None:
    """Measure a model."""


bench_group.add_command(drift_command, "drift")


@bench_group.command("world")
@click.option("--out", type=_PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--model", type=_PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--num-stories", type=click.IntRange(1), help="Held-out stories to tell.")
@click.option("--num-chunks", type=click.IntRange(2), help="Chunks of each.")
@click.option("--num-steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk.")
@click.option("--guidance", type=_POSITIVE)
@click.option("--seed", type=click.IntRange(0))
@click.option("--richness", type=click.IntRange(0, 2))
@click.option("--workers", type=click.IntRange(1), help="Processes.")
def bench_world_command(model: Path, **options: Any) -> None:
    """Let the model tell held-out stories and judge them by their truth; the summary goes to stdout."""
    import json

    with one_line_errors():
        from bdiff.bench.world import WorldBenchConfig, bench_world
        from bdiff_core import load_transformer, load_vae

        load_vae(model), load_transformer(model / "transformer"), defaults.Sampling.of_model(model)
        config = WorldBenchConfig(model=model, **_given(options))
        make_folder(config.out)
    click.echo(json.dumps(bench_world(config), indent=2))


@bench_group.command("memory")
@click.option("--out", type=_PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option(
    "--model",
    type=_PATH,
    default=defaults.WEIGHTS,
    help="Folder of autoencoder, settings and the transformer of arms that name none. Default: the one that ships.",
)
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="LABEL=POLICY[@COVERAGE][:FOLDER]",
    help="What to compare; repeat it. POLICY is one of bdiff sample, or none. "
    "Default: semantic=semantic and rolling=rolling.",
)
@click.option("--against", metavar="LABEL", help="Arm to compare the others with. Default: the first rolling one.")
@click.option(
    "--mode",
    "modes",
    type=click.Choice(("given", "free")),
    multiple=True,
    help="First visits given, or all but the first chunk generated. Default: both.",
)
@click.option("--num-stories", type=click.IntRange(1), help="Held-out stories to tell.")
@click.option("--num-seeds", type=click.IntRange(1), help="Films of each story by each arm.")
@click.option("--num-chunks", type=click.IntRange(2), help="Chunks of each.")
@click.option("--richness", type=click.IntRange(0), help="Of the stories: 0 flat, 1 landmarks, 2 light and camera.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the model's.")
@click.option("--guidance", type=_POSITIVE, help="Classifier-free guidance, 1 for none. Default: the model's.")
@click.option(
    "--noise", type=click.Choice(defaults.NOISES), help="Own noise for each chunk, or shared. Default: the model's."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Processes.")
def bench_memory_command(arms: tuple[str, ...], modes: tuple[str, ...], device: str, **options: Any) -> None:
    """Compare memories by the colours of places that a film comes back to; the summary goes to stdout.

    The folder gets page.md with tables, plots and a picture, summary.json, and a line and stills of every film.
    """
    import json

    with one_line_errors():
        check_device(device)
        from bdiff.bench.memory import MemoryBenchConfig, bench_memory, check, parse_arm

        chosen = {"arms": tuple(map(parse_arm, arms)) or None, "modes": modes or None}
        config = MemoryBenchConfig(device=device, **_given(options | chosen))
        check(config)
        make_folder(config.out)
    summary = bench_memory(config, on_film=lambda done, total: click.echo(f"film {done}/{total}", err=True))
    click.echo(f"{config.out / 'page.md'} shows the figures", err=True)
    click.echo(json.dumps(summary, indent=2))


@bench_group.command("lvbench")
@click.option("--manifest", type=_PATH, required=True, help="The benchmark's videos, a line of JSON each.")
@click.option("--videos", type=_PATH, required=True, help="A folder per model, or the videos of one model.")
@click.option("--out", type=_PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--protocol", type=click.Choice(("paper", "released")), default="paper", show_default=True)
@click.option("--metric", "metrics", multiple=True, help="Of VDE, as `vde` calls it. Default: what needs no weights.")
@click.option("--plain", multiple=True, help="VBench's metric of whole videos, as `vde` calls it; repeat it.")
@click.option(
    "--model", "models", multiple=True, callback=split_models, metavar="ROLE=WEIGHTS", help="As `vde` takes it."
)
@click.option("--num-chunks", type=click.IntRange(2), help="Chunks of each video.  [default: 10]")
@click.option("--split", type=click.Choice(("evaluation", "train", "all")), help="Part.  [default: evaluation]")
@click.option("--seed", type=click.IntRange(0), help="Of the split.")
@click.option("--device", default="cpu", show_default=True)
def bench_lvbench_command(metrics: tuple[str, ...], plain: tuple[str, ...], **options: Any) -> None:
    """Measure LV-Bench videos of several models: the paper's Tables 2 and 3, in page.md; the summary goes to stdout."""
    import json

    with one_line_errors():
        from bdiff.bench.lvbench import LVBenchConfig, bench_lvbench, find_videos

        config = LVBenchConfig(**_given(options | {"metrics": metrics or None, "plain": plain or None}))
        find_videos(config)
        make_folder(config.out)
        summary = bench_lvbench(config, on_video=lambda done, total: click.echo(f"video {done}/{total}", err=True))
    click.echo(f"{config.out / 'page.md'} shows the figures", err=True)
    click.echo(json.dumps(summary, indent=2))


@bench_group.command("sensitivity")
@click.option("--out", type=_PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--clip", "clips", multiple=True, help="Film by name; repeat it. Default: three real ones, four stories.")
@click.option("--seconds", type=_POSITIVE, help="Length of every film.  [default: 60]")
@click.option("--height", type=click.IntRange(16), help="Of the frames.  [default: 128]")
@click.option("--num-chunks", type=click.IntRange(2), help="Chunks of every film.  [default: 10]")
@click.option("--workers", type=click.IntRange(1), help="Processes.")
def bench_sensitivity_command(clips: tuple[str, ...], **options: Any) -> None:
    """Does the meter measure? Put faults of known strength into films; the summary goes to stdout."""
    import json

    with one_line_errors():
        from bdiff.bench.sensitivity import SensitivityConfig, bench_sensitivity

        config = SensitivityConfig(**_given(options | {"clips": clips or None}))
        make_folder(config.out)
        summary = bench_sensitivity(config, on_job=lambda done, total: click.echo(f"film {done}/{total}", err=True))
    click.echo(f"{config.out / 'page.md'} shows the figures", err=True)
    click.echo(json.dumps(summary, indent=2))


@bench_group.command("speed")
@click.option("--out", type=_PATH, required=True, help="JSON file of the figures.")
@click.option("--model", type=_PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--policy", "policies", type=click.Choice(defaults.POLICIES), multiple=True, help="Repeat for several.")
@click.option("--num-chunks", type=click.IntRange(2), help="Length of the video.")
@click.option("--early", type=click.IntRange(0), help="A chunk to compare ...")
@click.option("--late", type=click.IntRange(1), help="... with a later one.")
@click.option("--device", default="cpu", show_default=True)
def bench_speed_command(policies: tuple[str, ...], device: str, **options: Any) -> None:
    """Time chunks early and late in a long video, and weigh the memory; the figures go to stdout, too."""
    import json

    with one_line_errors():
        check_device(device)
        from bdiff.bench.speed import SpeedBenchConfig, bench_speed

        config = SpeedBenchConfig(device=device, **_given(options | {"policies": policies or None}))
        figures = bench_speed(config)
    click.echo(json.dumps(figures, indent=2))


@bench_group.command("endurance")
@click.option("--out", type=_PATH, required=True, help="Folder of the film and the figures; a stopped run goes on.")
@click.option("--model", type=_PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--num-chunks", type=click.IntRange(202), help="Length of the film.  [default: 1440, an hour]")
@click.option("--policy", type=click.Choice(defaults.POLICIES))
@MEMORY_LIMIT_OPTION
def bench_endurance_command(memory_limit: int, **options: Any) -> None:
    """Make a film of an hour and watch time and memory; the summary goes to stdout."""
    import json

    with one_line_errors():
        from bdiff.bench.endurance import EnduranceConfig, bench_endurance

        config = EnduranceConfig(memory_limit=memory_limit * 1_000_000, **_given(options))
        make_folder(config.out)
    click.echo(json.dumps(bench_endurance(config), indent=2))


@bench_group.command("page")
@click.argument("out", type=_PATH)
@click.option("--title", required=True)
@click.option("--world", type=_PATH, help="summary.json of `bdiff bench world`.")
@click.option("--speed", type=_PATH, help="JSON of `bdiff bench speed`.")
@click.option("--memory", type=_PATH, help="summary.json of `bdiff bench memory`.")
@click.option("--note", default="", help="A paragraph under the heading.")
def bench_page_command(out: Path, **options: Any) -> None:
    """Write a Markdown page of measured figures."""
    with one_line_errors():
        from bdiff.bench.page import write_page

        write_page(out, **options)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _report(figures: dict[str, float], written: Path) -> None:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    click.echo(f"{written}{': ' if shown else ''}{shown}", err=True)
