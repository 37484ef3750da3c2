"""`python -m studies.metric_sensitivity`: do the metrics of drift measure?"""

from typing import Any

import click

from bdiff.cli import PATH, WORKERS, Positive, given, num_chunks, output_folder, say, show_figures
from studies.command import refuse_sizes, run_study, tiny_option


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--clip", "clips", multiple=True, help="Clip by name; repeat it. Default: three real ones, four stories.")
@click.option("--seconds", type=Positive(), help="Length of every video.  [default: 60]")
@click.option("--height", type=click.IntRange(16), help="Height of the frames.  [default: 128]")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of every video.  [default: 10]")
@click.option("--workers", type=WORKERS, help="Processes.  [default: 1]")
@tiny_option
def command(clips: tuple[str, ...], tiny: bool, **options: Any) -> None:
    """Put faults of known strength into videos and measure the answer of each metric; the summary goes to stdout."""
    from studies.metric_sensitivity import SensitivityConfig, measure_sensitivity, tiny_config

    if tiny:
        refuse_sizes({**options, "clip": clips}, ("clip", "seconds", "height", "num_chunks"))
    config = SensitivityConfig(**given(options | {"clips": clips or None}))
    config = tiny_config(config) if tiny else config
    with output_folder(config.out):
        summary = measure_sensitivity(config, on_job=lambda done, total: say(f"{done}/{total} videos done"))
    show_figures(summary, page=config.out / "page.md")


if __name__ == "__main__":
    run_study(command, "studies.metric_sensitivity")
