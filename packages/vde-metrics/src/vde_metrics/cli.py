"""The ``vde`` command."""

import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vde_metrics.drift import Weights
    from vde_metrics.protocols import Metric
    from vde_metrics.report import DriftReport

METRICS = ("clarity", "motion", "motion-smoothness")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--num-chunks", type=click.IntRange(min=2), default=10, show_default=True, help="Chunks of equal length.")
@click.option(
    "--weights", type=click.Choice(["linear", "log"]), default="linear", show_default=True, help="Weights of Eq. 19."
)
@click.option(
    "--metric",
    "names",
    type=click.Choice(METRICS),
    multiple=True,
    default=("clarity", "motion"),
    show_default=True,
    help="What to measure; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object for one video, an array for several.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a page with curves.")
@click.version_option(version("vde-metrics"), prog_name="vde")
def command(
    videos: tuple[str, ...],
    *,
    num_chunks: int,
    weights: "Weights",
    names: tuple[str, ...],
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure how much long videos drift, chunk by chunk.

    Prints the Video Drift Error of every metric and the score of every chunk, as Markdown or JSON. A video that cannot
    be measured is named on stderr, and the exit code is 2.
    """
    if html is not None and not html.resolve().parent.is_dir():
        raise click.ClickException(f"--html: the folder {html.parent} does not exist")
    metrics = [_metric(name) for name in dict.fromkeys(names)]
    reports, failed = [], False
    for video in videos:
        report = _measured(video, metrics=metrics, num_chunks=num_chunks, weights=weights)
        if report is None:
            failed = True
            continue
        reports.append(report)
        if not as_json:
            click.echo(report.to_markdown())
    if reports and as_json:
        click.echo(_json(reports, single=len(videos) == 1))
    if reports and html is not None:
        from vde_metrics.page import html_page

        html.write_text(html_page(reports), encoding="utf-8")
    if failed:
        raise click.exceptions.Exit(2)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; what the user got wrong becomes one line on stderr and exit code 2."""
    try:
        return command.main(args=args, prog_name="vde", standalone_mode=False) or 0
    except click.ClickException as error:
        _complain(" ".join(error.format_message().split()))
        return 2
    except click.Abort:
        _complain("stopped")
        return 130
    except OSError as error:  # of the output: what concerns a video is reported beside its name
        _complain(str(error))
        return 2


def _metric(name: str) -> "Metric":
    from vde_metrics.clarity import Clarity
    from vde_metrics.motion import Motion

    makers: dict[str, Callable[[], Metric]] = {
        "clarity": Clarity,
        "motion": Motion,
        "motion-smoothness": lambda: Motion(form="smoothness"),
    }
    return makers[name]()


def _measured(video: str, *, metrics: "list[Metric]", num_chunks: int, weights: "Weights") -> "DriftReport | None":
    """The report, or None after saying on stderr what is wrong with the video."""
    from vde_metrics.measurement import measure

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            report = measure(video, metrics=metrics, num_chunks=num_chunks, weights=weights)
        except (OSError, ValueError) as error:
            text = str(error)
            _complain(text if text.startswith(video) else f"{video}: {text}")
            return None
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        _complain(f"warning: {video}: {text}")
    return report


def _json(reports: "list[DriftReport]", *, single: bool) -> str:
    if single:
        return reports[0].to_json()
    return "[" + ",\n".join(report.to_json() for report in reports) + "]"


def _complain(text: str) -> None:
    click.echo(f"vde: {text}", err=True)
