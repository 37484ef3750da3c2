"""The ``vde`` command."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vde_metrics.command_line import complain, described, run
from vde_metrics.named_metrics import DEFAULTS, MODELS, PAPER, RELEASED, WITHOUT_MODELS, check_models, check_names

if TYPE_CHECKING:
    from vde_metrics.comparison import Comparison
    from vde_metrics.drift import Protocol, Weights
    from vde_metrics.protocols import Metric
    from vde_metrics.report import DriftReport
    from vde_metrics.selection import Selected


_MEASURING = ("num_chunks", "chunk_seconds", "weights", "protocol", "names", "models", "device", "cache")
"""Options that say how videos are measured."""
_ON_THE_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE

OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settings:
    """How every video is measured."""

    names: tuple[str, ...]
    models: Mapping[str, str]
    num_chunks: int | None
    chunk_seconds: float | None
    weights: "Weights"
    protocol: "Protocol"
    device: str
    cache: Path | None
    thumbnails: bool


def split_models(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Pairs of ROLE=WEIGHTS as a dictionary: a callback of click."""
    found = {}
    for pair in given:
        role, equals, weights = pair.partition("=")
        if not equals or role not in MODELS or not weights:
            raise click.BadParameter(f"{pair!r}; expected ROLE=WEIGHTS, where ROLE is one of {', '.join(MODELS)}")
        found[role] = weights
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--num-chunks", type=click.IntRange(min=2), help="Chunks of equal length. Default: 10.")
@click.option("--chunk-seconds", type=float, help="Chunks of so many seconds instead.")
@click.option(
    "--weights", type=click.Choice(["linear", "log"]), default="linear", show_default=True, help="Weights of Eq. 19."
)
@click.option(
    "--protocol",
    type=click.Choice(["paper", "released"]),
    default="paper",
    show_default=True,
    help="The paper's definitions, or those of the benchmark's released script.",
)
@click.option(
    "--metric",
    "names",
    type=click.Choice([*PAPER, *RELEASED]),
    multiple=True,
    metavar="NAME",
    help=f"What to measure; may be repeated. Of {', '.join(PAPER)} (default: clarity, motion); released: of "
    f"{', '.join(RELEASED)} (default: the first two).",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    callback=split_models,
    metavar="ROLE=WEIGHTS",
    help=f"Folder, file or hub name of a model's weights; ROLE is {', '.join(MODELS)}.",
)
@click.option("--device", default="cpu", show_default=True, help="Where models run: cpu, cuda, ...")
@click.option("--cache", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep the features of frames here.")
@click.option("--compare", is_flag=True, help="Each argument is a model: compare the mean errors of their videos.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object for one video, an array for several.")
@click.option("--markdown", type=OUTPUT, metavar="FILE", help="Also write the text to a file.")
@click.option("--html", type=OUTPUT, metavar="FILE", help="Also write a page with curves.")
@click.version_option(version("vde-metrics"), prog_name="vde")
def command(videos: tuple[str, ...], **options: Any) -> None:
    """Measure how much long videos drift, chunk by chunk.

    VIDEO is a file, a folder, a pattern such as 'films/**/*.mp4', or a report saved with --json, which is read instead
    of measured. Prints the Video Drift Error of every metric and the score of every chunk, as Markdown or JSON. A
    video that cannot be measured is named on stderr, and the exit code is 2.
    """
    outputs = {name: options.pop(name) for name in ("markdown", "html")}
    compares, as_json = options.pop("compare"), options.pop("as_json")
    for name, path in outputs.items():
        if path is not None and not path.name:
            raise click.ClickException(f"--{name}: expected the name of a file")
        if path is not None and not path.resolve().parent.is_dir():
            raise click.ClickException(f"--{name}: the folder {path.parent} does not exist")
    arguments = tuple(dict.fromkeys(videos)) if compares else videos
    if compares and len(arguments) < 2:
        raise click.UsageError("--compare needs two arguments or more, each the videos of one model")
    settings = _settings(options, thumbnails=outputs["html"] is not None)
    with _one_line():
        from vde_metrics.selection import select_videos

        chosen = select_videos(arguments)
    _refuse_idle(chosen, settings)
    _check_outputs(outputs, chosen)
    found = _measured(chosen, settings, as_text=not as_json)
    groups = _grouped(arguments, found)
    reports = [report for _, report in found]
    failed = len({selected.path for selected, _ in found}) < len({selected.path for selected in chosen})
    if reports:
        with _one_line():
            comparison = None
            if compares:
                comparison = _compared(groups)
            _write(reports, groups, comparison, as_json=as_json, single=len(chosen) == 1, **outputs)
    if failed:
        raise click.exceptions.Exit(2)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; what the user got wrong becomes one line on stderr and exit code 2."""
    return run(command, sys.argv[1:] if args is None else args, name="vde")


def _settings(options: dict[str, Any], *, thumbnails: bool) -> _Settings:
    names = tuple(dict.fromkeys(options.pop("names"))) or DEFAULTS[options["protocol"]]
    if options["num_chunks"] is not None and options["chunk_seconds"] is not None:
        raise click.ClickException("--num-chunks and --chunk-seconds were given; leave one of them out")
    with _one_line():
        check_names(names, options["protocol"])
        check_models(options["models"], names)
    return _Settings(names=names, thumbnails=thumbnails, **options)


def _check_outputs(outputs: Mapping[str, Path | None], chosen: "Sequence[Selected]") -> None:
    """Refuse to write over what is measured, or two reports into one file."""
    taken = {selected.path.resolve(): "one of the videos" for selected in chosen}
    for name, path in outputs.items():
        if path is None or not (path.is_file() or not path.exists()):
            continue  # what is no file, such as a pipe, may be written to twice
        if path.resolve() in taken:
            raise click.ClickException(f"--{name} names {path}, {taken[path.resolve()]}; give another file")
        taken[path.resolve()] = f"the file of --{name}, too"


def _refuse_idle(chosen: "Sequence[Selected]", settings: _Settings) -> None:
    """Refuse options that were given and would change nothing."""
    context = click.get_current_context()
    said = [p for p in context.command.params if context.get_parameter_source(p.name or "") is _ON_THE_COMMAND_LINE]
    given = {parameter.name: parameter.opts[0] for parameter in said if parameter.name in _MEASURING}
    if given and all(selected.is_saved for selected in chosen):
        raise click.ClickException(
            f"{next(iter(given.values()))} is of measuring, and saved reports are read as they are; leave it out"
        )
    if settings.device != "cpu" and set(settings.names) <= set(WITHOUT_MODELS):
        raise click.ClickException(
            f"--device is where models run, and {', '.join(settings.names)} looks through none; leave it out"
        )


def _measured(
    chosen: "Sequence[Selected]", settings: _Settings, *, as_text: bool
) -> "list[tuple[Selected, DriftReport]]":
    """Every video that could be measured; its text is printed as it is done."""
    found: list[tuple[Selected, DriftReport]] = []
    for selected in chosen:
        for report in _reports(selected, settings, place=f"{len(found) + 1}/{len(chosen)}"):
            found.append((selected, report))
            if as_text:
                click.echo(report.to_markdown())
    return found


def _reports(selected: "Selected", settings: _Settings, *, place: str) -> "list[DriftReport]":
    """The report of a video, those of a saved file, or none after saying on stderr what is wrong."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            if selected.is_saved:
                from vde_metrics.saved import load_reports

                return load_reports(selected.path)
            reports = [_measure_file(selected, settings, place)]
        except (OSError, ValueError, ImportError) as error:
            text, name = described(error), str(selected.path)
            _complain(text if text.startswith(name) else f"{name}: {text}")
            return []
    for text in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)):
        _complain(f"warning: {selected.path}: {text}")
    return reports


def _measure_file(selected: "Selected", settings: _Settings, place: str) -> "DriftReport":
    from vde_metrics.measurement import measure

    with _progress(f"{place} {selected.name}") as show:
        return measure(
            selected.path,
            metrics=_metrics(selected.path, settings),
            num_chunks=settings.num_chunks,
            chunk_seconds=settings.chunk_seconds,
            weights=settings.weights,
            protocol=settings.protocol,
            name=selected.name,
            cache=settings.cache,
            thumbnails=settings.thumbnails,
            on_frames=show,
        )


_MADE: "dict[tuple[Any, ...], list[Metric]]" = {}  # models are loaded once, not once a video


def _metrics(path: Path, settings: _Settings) -> "list[Metric]":
    from vde_metrics.named_metrics import make_metric

    fps = None
    if "dynamic-degree" in settings.names:
        from vde_metrics.video import VideoFile

        fps = VideoFile.probe(path).fps
    key = (settings.names, tuple(settings.models.items()), settings.device, fps)
    if key not in _MADE:
        _MADE[key] = [make_metric(name, settings.models, fps=fps, device=settings.device) for name in settings.names]
    return _MADE[key]


def _grouped(
    arguments: Sequence[str], found: "Sequence[tuple[Selected, DriftReport]]"
) -> "dict[str, list[DriftReport]]":
    """Reports by a short label of the argument they came from."""
    from vde_metrics.selection import group_labels

    labels = group_labels(arguments)
    groups: dict[str, list[DriftReport]] = {label: [] for label in labels.values()}
    for selected, report in found:
        groups[labels[selected.group]].append(report)
    return groups


def _compared(groups: "Mapping[str, Sequence[DriftReport]]") -> "Comparison":
    from vde_metrics.comparison import compare

    if empty := [label for label, group in groups.items() if not group]:
        raise click.ClickException(f"{empty[0]}: none of its videos could be measured, so nothing is compared")
    return compare(groups)


def _write(
    reports: "Sequence[DriftReport]",
    groups: "Mapping[str, Sequence[DriftReport]]",
    comparison: "Comparison | None",
    *,
    as_json: bool,
    single: bool,
    markdown: Path | None,
    html: Path | None,
) -> None:
    """Everything that is not printed video by video."""
    if as_json:
        click.echo(_json(reports, comparison, single=single and len(reports) == 1))
    elif comparison is not None:
        click.echo(comparison.to_markdown())
    if markdown is not None:
        parts = [*([] if comparison is None else [comparison.to_markdown()]), *(one.to_markdown() for one in reports)]
        _write_whole(markdown, "\n".join(parts))
    if html is not None:
        from vde_metrics.page import comparison_page, html_page

        _write_whole(html, html_page(reports) if comparison is None else comparison_page(groups, comparison))


def _json(reports: "Sequence[DriftReport]", comparison: "Comparison | None", *, single: bool) -> str:
    if comparison is not None:
        found = {"reports": [report.to_dict() for report in reports], "comparison": comparison.to_dict()}
        return json.dumps(found, indent=2, allow_nan=False)
    return reports[0].to_json() if single else "[" + ",\n".join(report.to_json() for report in reports) + "]"


def _write_whole(path: Path, text: str) -> None:
    """A file that appears complete or not at all; into what is no file, such as a pipe, the text is written."""
    is_special = path.exists() and not path.is_file()
    target = path if is_special else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        target.write_text(text, encoding="utf-8")
        if target != path:
            os.replace(target, path)
    except OSError as error:
        if target != path:
            target.unlink(missing_ok=True)
        raise click.ClickException(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr where it is a terminal."""
    stream = sys.stderr
    if not stream.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=stream) as bar:

        def show(done: int, total: int) -> None:
            if done < bar.pos:  # with another number of frames
                bar.pos, bar.finished = 0, False
            bar.length = total
            bar.update(done - bar.pos)

        yield show


@contextmanager
def _one_line() -> Iterator[None]:
    """What the user got wrong ends as one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _complain(text: str) -> None:
    context = click.get_current_context(silent=True)
    complain("vde" if context is None else context.find_root().info_name or "vde", text)
