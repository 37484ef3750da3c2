"""The `bdiff` command: reads options, calls what does the work, reports. Heavy imports happen inside commands."""

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bdiff import __version__, defaults

if TYPE_CHECKING:
    from collections.abc import Callable

    from bdiff.sample import Parts, Progress

_DAY = 86_400


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: whatever a user can get wrong ends as one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(given or ["--help"], prog_name="bdiff", standalone_mode=False)
    except click.Abort:
        click.echo("bdiff: stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"bdiff: {' '.join(error.format_message().split())}", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bdiff")
def cli() -> None:
    """Minute-long videos from storyboards, by block diffusion with a memory."""


@cli.command("sample")
@click.option(
    "--storyboard", type=click.Path(path_type=Path), help="YAML, JSON or text file. Default: the one that ships."
)
@click.option("--prompt", "prompts", multiple=True, help="Instead of a storyboard; repeat it for more shots.")
@click.option("--seconds", type=float, help="Length of the video. Default: the storyboard's.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option(
    "--policy",
    type=click.Choice(defaults.POLICIES),
    default="semantic",
    show_default=True,
    help="Which past chunks a chunk is shown.",
)
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the model's.")
@click.option("--guidance", type=float, help="Classifier-free guidance, 1 for none. Default: the model's.")
@click.option("--scale", type=click.IntRange(1, 32), help="Side of a model pixel in the video. Default: the model's.")
@click.option("--image", type=click.Path(path_type=Path), help="Picture that the first chunk shows.")
@click.option("--model", type=click.Path(path_type=Path), help="Model folder. Default: the one that ships.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, ...")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=defaults.OUT,
    show_default=True,
    help="Folder to make; if it holds something, -2, -3, ... is added.",
)
@click.option("--overwrite", is_flag=True, help="Write into the folder even if it holds something.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of the run on stdout.")
def sample_command(
    storyboard: Path | None,
    prompts: tuple[str, ...],
    seconds: float | None,
    guidance: float | None,
    image: Path | None,
    model: Path | None,
    device: str,
    out: Path,
    overwrite: bool,
    as_json: bool,
    **plain: Any,
) -> None:
    """Make a video, chunk by chunk.

    Without options: the shipped model tells the shipped story. The folder gets video.mp4, sheet.png (every chunk and
    what it remembered), drift.json and drift.html, trace.json, and run.json to repeat the run.
    """
    if storyboard and prompts:
        raise click.UsageError("give --storyboard or --prompt, not both")
    if seconds is not None and not 0 < seconds <= _DAY:
        raise click.BadParameter(f"{seconds} is not in the range 0<x<={_DAY}.", param_hint="'--seconds'")
    if guidance is not None and not (guidance > 0 and math.isfinite(guidance)):
        raise click.BadParameter(f"{guidance} is not a number above 0.", param_hint="'--guidance'")
    with _one_line_errors():
        from bdiff_core import Storyboard

        board = Storyboard.from_prompts(prompts) if prompts else Storyboard.load(storyboard or defaults.STORYBOARD)
        _check_device(device)
        folder = _free_folder(out, overwrite=overwrite)
        from bdiff.sample import SampleConfig, build

        parts = build(
            SampleConfig(
                storyboard=board,
                out=folder,
                model=model or defaults.WEIGHTS,
                seconds=seconds,
                guidance=guidance,
                image=image,
                device=device,
                **plain,
            )
        )
        _make_folder(folder)
    record = _run(parts)
    if as_json:
        import json

        click.echo(json.dumps(record, indent=2, ensure_ascii=False))


@cli.group("train")
def train_group() -> None:
    """Train the autoencoder or the transformer on stories."""


@cli.group("bench")
def bench_group() -> None:
    """Measure a model."""


def _run(parts: "Parts") -> dict[str, Any]:
    from bdiff.sample import sample

    folder = parts.config.out
    command = shlex.join(["bdiff", *sys.argv[1:]])
    try:
        with _progress(len(parts.plan)) as show:
            record = sample(parts, on_chunk=show, command=command)
    except KeyboardInterrupt:
        click.echo(f"bdiff: stopped; the chunks made so far are in {folder}", err=True)
        sys.exit(130)
    video, timing = record["video"], record["timing"]
    drift = record["drift"]
    errors = "" if drift is None else ", VDE " + ", ".join(f"{k} {v:.3f}" for k, v in drift["vde_normalized"].items())
    click.echo(
        f"{folder / 'video.mp4'}: {video['seconds']:.1f} s in {video['chunks']} chunks, "
        f"made in {timing['generate_seconds']:.0f} s{errors}",
        err=True,
    )
    click.echo(f"{folder / 'sheet.png'} shows every chunk and what it remembered", err=True)
    return record


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal; elsewhere a line a chunk."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda state: click.echo(
            f"chunk {state.done}/{state.total}, {_clock(state.seconds_left)} left, "
            f"memory {state.memory_bytes / 1e6:.1f} MB: {state.prompt}",
            err=True,
        )
        return
    columns = (
        TextColumn("chunk"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[left]} left, memory {task.fields[memory]} MB  [dim]{task.description}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=total, left="?", memory="0.0")
        yield lambda state: bar.update(
            task,
            completed=state.done,
            description=state.prompt[:50].replace("[", "\\["),
            left=_clock(state.seconds_left),
            memory=f"{state.memory_bytes / 1e6:.1f}",
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """While inputs are read and nothing is written: what is wrong with them is the user's to know, in one line."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None


def _free_folder(out: Path, *, overwrite: bool) -> Path:
    """The folder itself, or with -2, -3, ... if it holds something."""
    folder, number = out, 1
    while not overwrite and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file; --out names a folder")
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    return folder


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".bdiff"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {(error.strerror or str(error)).lower()}") from None
