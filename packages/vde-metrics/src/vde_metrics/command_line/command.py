"""The ``vde`` command."""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vde_metrics.command_line.boundary import run_command
from vde_metrics.command_line.options import (
    OUTPUT,
    Settings,
    check_effects,
    check_folders,
    check_outputs,
    model_weights,
)
from vde_metrics.named_metrics import PAPER, RELEASED, USERS

if TYPE_CHECKING:
    from vde_metrics.command_line.selection import Selected
    from vde_metrics.reports.comparison import Comparison
    from vde_metrics.reports.report import DriftReport


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--num-chunks", type=click.IntRange(min=2), help="Number of chunks of equal length. Default: 10.")
@click.option("--chunk-seconds", type=float, help="Length of a chunk in seconds, instead.")
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
    help=f"What to measure; may be repeated. For paper: {', '.join(PAPER)} (default: clarity, motion). For released: "
    f"{', '.join(RELEASED)} (default: the first two).",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    callback=model_weights,
    metavar="ROLE=WEIGHTS",
    help=f"Folder, file or hub name of a model's weights; may be repeated. ROLE is {', '.join(USERS)}.",
)
@click.option("--device", default="cpu", show_default=True, help="Where models run: cpu, cuda, ...")
@click.option("--cache", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep the features of frames here.")
@click.option("--compare", is_flag=True, help="Each argument is a model: compare the mean errors of their videos.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object for one video, an array for several.")
@click.option("--markdown", type=OUTPUT, metavar="FILE", help="Also write the text to a file.")
@click.option("--html", type=OUTPUT, metavar="FILE", help="Also write a page with curves.")
@click.version_option(version("vde-metrics"), prog_name="vde")
def drift_command(videos: tuple[str, ...], **options: Any) -> None:
    """Measure how much long videos drift, chunk by chunk.

    VIDEO is a file, a folder, a pattern such as 'videos/**/*.mp4', or a report saved with --json, which is read instead
    of measured. Prints the Video Drift Error of every metric and the score of every chunk, as Markdown or JSON. A
    video that cannot be measured is named on stderr, and the exit code is 2.
    """
    outputs = {name: options.pop(name) for name in ("markdown", "html")}
    compares, as_json = options.pop("compare"), options.pop("as_json")
    check_folders(outputs)
    arguments = tuple(dict.fromkeys(videos)) if compares else videos
    if compares and len(arguments) < 2:
        raise click.UsageError("--compare needs two arguments or more, each the videos of one model")
    settings = Settings.checked(options, thumbnails=outputs["html"] is not None)

    from vde_metrics.command_line.measuring import measure_all
    from vde_metrics.command_line.output import write_all
    from vde_metrics.command_line.selection import select_videos

    chosen = select_videos(arguments)
    check_effects(chosen, settings)
    check_outputs(outputs, chosen)
    found = measure_all(chosen, settings, as_text=not as_json)
    groups = _grouped(arguments, found)
    reports = [report for _, report in found]
    if reports:
        comparison = _compared(groups) if compares else None
        write_all(reports, groups, comparison, as_json=as_json, single=len(chosen) == 1, **outputs)
    if len({selected.path for selected, _ in found}) < len({selected.path for selected in chosen}):
        raise click.exceptions.Exit(2)  # some video could not be measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `vde` and return its exit code. An error of the user becomes one line on stderr and exit code 2."""
    return run_command(drift_command, sys.argv[1:] if arguments is None else arguments, name="vde")


def _grouped(
    arguments: Sequence[str], found: "Sequence[tuple[Selected, DriftReport]]"
) -> "dict[str, list[DriftReport]]":
    """Reports by the label of the argument that named their video."""
    from vde_metrics.command_line.selection import group_labels

    labels = group_labels(arguments)
    groups: dict[str, list[DriftReport]] = {label: [] for label in labels.values()}
    for selected, report in found:
        groups[labels[selected.group]].append(report)
    return groups


def _compared(groups: "Mapping[str, Sequence[DriftReport]]") -> "Comparison":
    from vde_metrics.reports.comparison import compare

    if empty := [label for label, group in groups.items() if not group]:
        raise click.ClickException(f"{empty[0]}: none of its videos could be measured, so nothing is compared")
    return compare(groups)
