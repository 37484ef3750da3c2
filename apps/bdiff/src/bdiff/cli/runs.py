"""Commands that work on a run: go on with it, make its end anew, make it longer, show what it remembered."""

import errno
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bdiff.cli.terminal import PATH, beside, free_folder, output_folder, progress_bar, say
from bdiff.defaults import MEMORY_LIMIT

if TYPE_CHECKING:
    from bdiff.run import LoadedRun, RunSpec, RunState

_RUN = click.argument("run", type=PATH)
MEMORY_LIMIT_OPTION = click.option(
    "--memory-limit",
    type=click.IntRange(0, 10**9),
    show_default=str(MEMORY_LIMIT // 10**6),
    help="Megabytes of the past's keys and values in memory; the rest is read from disk.",
)
"""What every command that makes a video takes, see `memory_bytes`."""
LONG_OPTION = click.option("--long", is_flag=True, help="Allow more than a day of video, up to 30 days.")
"""What every command that decides how long a video is takes."""
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the record of the run on stdout.")


@click.command("resume")
@_RUN
@MEMORY_LIMIT_OPTION
@_JSON
def resume_command(run: Path, memory_limit: int | None, as_json: bool) -> None:
    """Go on with a run that was stopped, however it was stopped.

    The video becomes the one that an uninterrupted run would have made. Of a finished run, files that are gone, and a
    video that was cut or damaged, are written again from the chunks.
    """
    from bdiff.run import RunState

    state = RunState(run)
    spec = state.spec()
    if state.is_finished(spec):
        from bdiff.run import lacks

        lacking = lacks(run)
        if lacking is None:
            say(f"{run / 'video.mp4'} is complete: {len(spec.chunks)} chunks")
            return
        say(f"{run}: {lacking}; all files are written again from the finished chunks")
    limit = memory_bytes(memory_limit, spec)
    loaded = _loaded(spec, run, state, num_made=state.num_chunks)
    show_video(loaded, fresh=False, memory_limit=limit, as_json=as_json)


@click.command("reroll")
@_RUN
@click.option("--from", "first", type=click.IntRange(0), required=True, help="First chunk to be made again.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    help="Seed of the new noise. Default: the next one; with --prompt, the same.",
)
@click.option("--prompt", help="Prompt of that chunk, and of those after it that had the same. Default: as it was.")
@click.option("--out", type=PATH, help="Folder of the new video. Default: RUN-from-N.")
@MEMORY_LIMIT_OPTION
@_JSON
def reroll_command(
    run: Path,
    first: int,
    seed: int | None,
    prompt: str | None,
    out: Path | None,
    memory_limit: int | None,
    as_json: bool,
) -> None:
    """Make another video of a run from a chunk on; the run itself stays as it is."""
    from bdiff.run import RunState
    from bdiff_core import Storyboard

    state = RunState(run)
    spec = state.spec()
    _check_chunks_stay(spec, run)
    if prompt is not None:
        prompt = Storyboard.from_prompts([prompt]).shots[0].prompt
    spec = spec.rerolled(first, seed=seed, prompt=prompt)
    if state.num_chunks < first:
        raise ValueError(f"{run} has {state.num_chunks} chunks; expected at least {first}: bdiff resume {run}")
    limit = memory_bytes(memory_limit, spec)
    folder = free_folder(out or beside(run, f"-from-{first}"), overwrite=False)
    loaded = _loaded(spec, folder, state, num_made=first)
    with output_folder(folder):
        state.branch(folder, first)
        show_video(loaded, fresh=False, memory_limit=limit, as_json=as_json)


@click.command("extend")
@_RUN
@click.option("--storyboard", type=PATH, help="File of what comes next; its times count from the end of the video.")
@click.option("--prompt", "prompts", multiple=True, help="Instead of a storyboard; repeat it for more chunks.")
@LONG_OPTION
@MEMORY_LIMIT_OPTION
@_JSON
def extend_command(
    run: Path, storyboard: Path | None, prompts: tuple[str, ...], long: bool, memory_limit: int | None, as_json: bool
) -> None:
    """Make a video longer; what it shows so far stays the same."""
    if bool(storyboard) == bool(prompts):
        raise click.UsageError("give --storyboard or --prompt: what is to come next")
    from bdiff.run import RunState, storyboard_prompts
    from bdiff_core import Storyboard

    board = Storyboard.from_prompts(prompts) if storyboard is None else Storyboard.load(storyboard)
    state = RunState(run)
    spec = state.spec()
    _check_chunks_stay(spec, run)
    spec = spec.extended(storyboard_prompts(board, spec.sampling, after=len(spec.chunks), long=long))
    limit = memory_bytes(memory_limit, spec)
    loaded = _loaded(spec, run, state, num_made=state.num_chunks)
    show_video(loaded, fresh=False, memory_limit=limit, as_json=as_json)


@click.command("trace")
@_RUN
@click.option("--json", "as_json", is_flag=True, help="Print trace.json instead of a table.")
def trace_command(run: Path, as_json: bool) -> None:
    """Show which chunk of a run was shown which others, why, and how much of them."""
    file = run / ("trace.json" if as_json else "trace.md")
    if not file.exists():
        raise ValueError(f"{file} does not exist; a run has it once it is stopped or finished")
    click.echo(file.read_text(encoding="utf-8", errors="replace"), nl=False)


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

RUN_COMMANDS = (resume_command, reroll_command, extend_command, trace_command)
"""Commands of the top level."""


def show_video(loaded: "LoadedRun", *, fresh: bool, memory_limit: int, as_json: bool) -> None:
    """Run the loop with a progress bar, and say what came of it; `memory_limit` is in bytes."""
    from bdiff.run import make_video

    folder = loaded.out
    command = shlex.join(["bdiff", *sys.argv[1:]])
    try:
        with progress_bar(len(loaded.plan)) as show:
            record = make_video(loaded, fresh=fresh, memory_limit=memory_limit, on_chunk=show, command=command)
    except KeyboardInterrupt:
        say(f"bdiff: stopped; bdiff resume {shlex.quote(str(folder))} goes on")
        sys.exit(130)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        way_out = "make room" if error.errno in _DISK_FULL else "mend that"
        raise click.ClickException(
            f"{error.filename or folder} cannot be read or written: {reason}; the chunks made so far are kept: "
            f"{way_out}, then bdiff resume {shlex.quote(str(folder))} goes on"
        ) from error
    _say(record, folder)
    if as_json:
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))


def memory_bytes(megabytes: int | None, spec: "RunSpec") -> int:
    """Bytes of past keys and values that a run may hold in memory.

    Raises:
        ValueError: If a limit is given to a run that remembers nothing.
    """
    if megabytes is None:
        return MEMORY_LIMIT
    require_memory(spec, "--memory-limit")
    return megabytes * 1_000_000


def require_memory(spec: "RunSpec", option: str) -> None:
    """Raise a ValueError if an option of the memory is given to a run that remembers nothing."""
    if spec.sampling.mode != "cached":
        raise ValueError(f"{option} is of the memory, which the {spec.sampling.mode} mode has not; leave it out")


def check_device(device: str) -> None:
    """Raise a ValueError if nothing can be computed there."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, AttributeError):
        there = ["cpu"]
        there += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise ValueError(f"device {device!r} cannot be used here; there is {', '.join(there)}") from None


def _check_chunks_stay(spec: "RunSpec", run: Path) -> None:
    """Refuse a run in a mode in which no chunk stays as it is while others are made."""
    mode = spec.sampling.mode
    if mode != "cached":
        raise ValueError(
            f"{run} was made in the {mode} mode, in which chunks are made together and none would stay the same; "
            "bdiff sample makes another video"
        )


def _loaded(spec: "RunSpec", folder: Path, state: "RunState", *, num_made: int) -> "LoadedRun":
    """The parts of a run that was specified earlier, if they are still the same.

    `state` is of the run before; so many of its chunks stay.
    """
    from bdiff.run import load_run

    if problem := spec.missing():
        raise ValueError(f"{problem} since this run began; bring back that model, or make the video anew")
    if spec.init_video is not None and state.lacks_given(spec) and (problem := spec.init_video.missing()):
        raise ValueError(f"{problem} since this run began, and was not read to its end; bring it back")
    if spec.image is not None and spec.needs_picture(num_made) and (problem := spec.image.missing()):
        raise ValueError(f"{problem} since this run began; bring back that picture, or make the video anew")
    check_device(spec.device)
    return load_run(spec, folder, num_made=num_made)


def _say(record: dict[str, Any], folder: Path) -> None:
    video, timing, drift = record["video"], record["timing"], record["drift"]
    errors = "" if drift is None else ", VDE " + ", ".join(f"{k} {v:.3f}" for k, v in drift["vde_normalized"].items())
    say(
        f"{folder / 'video.mp4'}: {video['seconds']:.1f} s in {video['chunks']} chunks, "
        f"made in {timing['generate_seconds']:.0f} s{errors}",
    )
    say(f"{folder / 'sheet.png'} shows every chunk and what it remembered")
