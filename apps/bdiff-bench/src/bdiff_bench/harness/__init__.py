"""What benches and studies share: jobs, processes, machine, provenance, statistics, plots, progress and pages.

Example:
    >>> from bdiff_bench.harness import quartiles
    >>> quartiles([1.0, 2.0, 4.0])
    {'median': 2.0, 'low': 1.5, 'high': 3.0}
"""

from bdiff_bench.harness.jobs import append_lines, plain_figure, read_lines, run_jobs
from bdiff_bench.harness.machine import anonymous_bytes, commit, describe_device, describe_machine
from bdiff_bench.harness.plots import BACKGROUND, FAINT, INK, error_bars, new_figure, save_figure, tidy
from bdiff_bench.harness.processes import one_process
from bdiff_bench.harness.progress import FractionFile, TimeLimit, progress_bar, watched_files
from bdiff_bench.harness.provenance import check_recipe, keep_recipe, model_recipe, read_recipe, weights_digest
from bdiff_bench.harness.result_page import parts_of_files, write_page
from bdiff_bench.harness.statistics import (
    NUM_DRAWS,
    Draws,
    StorySums,
    Trend,
    draw_with_replacement,
    interval,
    mean_interval,
    mean_of_known,
    median_around,
    median_of_known,
    quartiles,
    rank_correlation,
)
from bdiff_bench.harness.storyboard import long_storyboard

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # jobs and processes
    "append_lines",
    "one_process",
    "plain_figure",
    "read_lines",
    "run_jobs",
    # what figures were made with and on
    "anonymous_bytes",
    "check_recipe",
    "commit",
    "describe_device",
    "describe_machine",
    "keep_recipe",
    "model_recipe",
    "read_recipe",
    "weights_digest",
    # statistics
    "NUM_DRAWS",
    "Draws",
    "StorySums",
    "Trend",
    "draw_with_replacement",
    "interval",
    "mean_interval",
    "mean_of_known",
    "median_around",
    "median_of_known",
    "quartiles",
    "rank_correlation",
    # plots and pages
    "BACKGROUND",
    "FAINT",
    "INK",
    "error_bars",
    "new_figure",
    "parts_of_files",
    "save_figure",
    "tidy",
    "write_page",
    # progress
    "FractionFile",
    "TimeLimit",
    "progress_bar",
    "watched_files",
    # a video to time
    "long_storyboard",
]
