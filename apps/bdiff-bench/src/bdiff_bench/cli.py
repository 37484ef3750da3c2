"""Commands that measure: `bdiff bench ...`."""

from pathlib import Path
from typing import Any

import click

from bdiff import defaults
from bdiff.cli.runs import check_device
from bdiff.cli.terminal import PATH, WORKERS, Positive, given, num_chunks, output_folder, say, show_figures
from bdiff.idle import refuse_idle
from bdiff_bench.peers.cli import bench_peers_command
from vde_metrics.cli import command as drift_command
from vde_metrics.cli import split_models


@click.group("bench")
def bench_group() -> None:
    """Measure a model."""


bench_group.add_command(drift_command, "drift")
bench_group.add_command(bench_peers_command)


@bench_group.command("world")
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--num-stories", type=click.IntRange(1), help="Held-out stories to tell.")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each.")
@click.option("--num-steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk.")
@click.option("--guidance", type=Positive())
@click.option("--seniority", type=click.FloatRange(0, 100), help="Of the semantic memory. Default: the model's.")
@click.option("--num-sink", type=click.IntRange(0, 1000), help="First chunks always shown. Default: the model's.")
@click.option("--seed", type=click.IntRange(0))
@click.option("--richness", type=click.IntRange(0, 2))
@click.option("--workers", type=WORKERS, help="Processes.")
def bench_world_command(**options: Any) -> None:
    """Let the model tell held-out stories and judge them by their truth; the summary goes to stdout."""
    from bdiff_bench.world import WorldBenchConfig, bench_world, check

    config = WorldBenchConfig(**given(options))
    check(config)
    with output_folder(config.out):
        summary = bench_world(config)
    show_figures(summary)


@bench_group.command("memory")
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option(
    "--model",
    type=PATH,
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
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each.")
@click.option("--richness", type=click.IntRange(0), help="Of the stories: 0 flat, 1 landmarks, 2 light and camera.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a chunk. Default: the model's.")
@click.option("--guidance", type=Positive(), help="Classifier-free guidance, 1 for none. Default: the model's.")
@click.option(
    "--noise", type=click.Choice(defaults.NOISES), help="Own noise for each chunk, or shared. Default: the model's."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", type=WORKERS, help="Processes.")
def bench_memory_command(arms: tuple[str, ...], modes: tuple[str, ...], device: str, **options: Any) -> None:
    """Compare memories by the colours of places that a film comes back to; the summary goes to stdout.

    The folder gets page.md with tables, plots and a picture, summary.json, and a line and stills of every film.
    """
    check_device(device)
    from bdiff_bench.memory import MemoryBenchConfig, bench_memory, check, parse_arm

    chosen = {"arms": tuple(map(parse_arm, arms)) or None, "modes": modes or None}
    config = MemoryBenchConfig(device=device, **given(options | chosen))
    check(config)
    with output_folder(config.out):
        summary = bench_memory(config, on_film=lambda done, total: say(f"film {done}/{total}"))
    show_figures(summary, page=config.out / "page.md")


@bench_group.command("lvbench")
@click.option("--manifest", type=PATH, required=True, help="The benchmark's videos, a line of JSON each.")
@click.option("--videos", type=PATH, required=True, help="A folder per model, or the videos of one model.")
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--protocol", type=click.Choice(("paper", "released")), default="paper", show_default=True)
@click.option("--metric", "metrics", multiple=True, help="Of VDE, as `vde` calls it. Default: what needs no weights.")
@click.option("--plain", multiple=True, help="VBench's metric of whole videos, as `vde` calls it; repeat it.")
@click.option(
    "--model", "models", multiple=True, callback=split_models, metavar="ROLE=WEIGHTS", help="As `vde` takes it."
)
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each video.  [default: 10]")
@click.option("--split", type=click.Choice(("evaluation", "train", "all")), help="Part.  [default: evaluation]")
@click.option("--seed", type=click.IntRange(0), help="Of the split.")
@click.option("--device", default="cpu", show_default=True)
def bench_lvbench_command(metrics: tuple[str, ...], plain: tuple[str, ...], **options: Any) -> None:
    """Measure LV-Bench videos of several models: the paper's Tables 2 and 3, in page.md; the summary goes to stdout."""
    from bdiff_bench.lvbench import LVBenchConfig, bench_lvbench, find_videos

    config = LVBenchConfig(**given(options | {"metrics": metrics or None, "plain": plain or None}))
    refuse_idle(
        options, {"seed": config.split != "all"}, "is of the draw of a split, and --split all takes every video"
    )
    find_videos(config)
    with output_folder(config.out):
        summary = bench_lvbench(config, on_video=lambda done, total: say(f"video {done}/{total}"))
    show_figures(summary, page=config.out / "page.md")


@bench_group.command("speed")
@click.option("--out", type=PATH, required=True, help="JSON file of the figures.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--policy", "policies", type=click.Choice(defaults.POLICIES), multiple=True, help="Repeat for several.")
@click.option("--num-chunks", type=num_chunks(2), help="Length of the video.")
@click.option("--early", type=click.IntRange(0), help="A chunk to compare ...")
@click.option("--late", type=click.IntRange(1), help="... with a later one.")
@click.option("--device", default="cpu", show_default=True)
def bench_speed_command(policies: tuple[str, ...], device: str, **options: Any) -> None:
    """Time chunks early and late in a long video, and weigh the memory; the figures go to stdout, too."""
    check_device(device)
    from bdiff_bench.speed import SpeedBenchConfig, bench_speed

    config = SpeedBenchConfig(device=device, **given(options | {"policies": policies or None}))
    figures = bench_speed(config)
    show_figures(figures)


@bench_group.command("page")
@click.argument("out", type=PATH)
@click.option("--title", required=True)
@click.option("--world", type=PATH, help="summary.json of `bdiff bench world`.")
@click.option("--speed", type=PATH, help="JSON of `bdiff bench speed`.")
@click.option("--memory", type=PATH, help="summary.json of `bdiff bench memory`.")
@click.option("--peers", type=PATH, help="figures.json of `bdiff bench peers`.")
@click.option("--note", default="", help="A paragraph under the heading.")
def bench_page_command(out: Path, **options: Any) -> None:
    """Write a Markdown page of measured figures."""
    from bdiff_bench.page import write_bench_page

    write_bench_page(out, **options)
