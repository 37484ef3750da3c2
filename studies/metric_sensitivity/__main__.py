"""`python -m studies.metric_sensitivity`: does the meter of drift measure?"""

from typing import Any

import click

from bdiff.cli import PATH, WORKERS, Positive, given, num_chunks, output_folder, say, show_figures
from studies.command import run_study


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--clip", "clips", multiple=True, help="Film by name; repeat it. Default: three real ones, four stories.")
@click.option("--seconds", type=Positive(), help="Length of every film.  [default: 60]")
@click.option("--height", type=click.IntRange(16), help="Of the frames.  [default: 128]")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of every film.  [default: 10]")
@click.option("--workers", type=WORKERS, help="Processes.")
def command(clips: tuple[str, ...], **options: Any) -> None:
    """Does the meter measure? Put faults of known strength into films; the summary goes to stdout."""
    from studies.metric_sensitivity import SensitivityConfig, bench_sensitivity

    config = SensitivityConfig(**given(options | {"clips": clips or None}))
    with output_folder(config.out):
        summary = bench_sensitivity(config, on_job=lambda done, total: say(f"film {done}/{total}"))
    show_figures(summary, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.metric_sensitivity")
