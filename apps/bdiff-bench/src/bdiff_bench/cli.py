"""Commands that measure: `bdiff bench ...`."""

from pathlib import Path
from typing import Any

import click

from bdiff import defaults
from bdiff.cli import (
    PATH,
    WORKERS,
    check_device,
    given,
    num_chunks,
    output_folder,
    refuse_idle,
    say,
    setting_options,
    show_figures,
)
from bdiff_bench.moved import moved_commands, refuse_ablation
from bdiff_bench.peers.cli import bench_peers_command
from vde_metrics.command_line import drift_command, model_weights

TAKES = ("story", "place", "walk")
"""Names of `storyworld.TAKES`, which takes seconds to import; a test compares."""

_WORLD_SETTINGS = ("steps", "guidance", "age_bonus", "num_sink", "richness")
_MEMORY_SETTINGS = ("steps", "guidance", "noise", "richness")


@click.group("bench")
def bench_group() -> None:
    """Measure a model."""


bench_group.add_command(drift_command, "drift")
bench_group.add_command(bench_peers_command)
for _command in moved_commands():
    bench_group.add_command(_command)


def _with_settings(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of a config: options that were given, those of sampling together in ``settings``."""
    settings = given({name: options[name] for name in names})
    rest = {name: value for name, value in options.items() if name not in names}
    return given(rest) | {"settings": settings}


@bench_group.command("world")
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option(
    "--take",
    "takes",
    type=click.Choice(TAKES),
    multiple=True,
    help="Kind of videos; repeat it. All but story need a model of richness 2. Default: story.",
)
@click.option(
    "--policy",
    "policies",
    type=click.Choice(defaults.POLICIES),
    multiple=True,
    help="Memory; repeat it. The others are compared with semantic. Default: the model's own.",
)
@click.option("--num-stories", type=click.IntRange(1), help="Held-out videos of each kind.  [default: 32]")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each.  [default: 25]")
@setting_options(*_WORLD_SETTINGS, old={"steps": "--num-steps", "age_bonus": "--seniority"})
@click.option("--seed", type=click.IntRange(0), help="Seed of the noise.  [default: 0]")
@click.option("--workers", type=WORKERS, help="Processes.  [default: 2]")
def bench_world_command(takes: tuple[str, ...], policies: tuple[str, ...], **options: Any) -> None:
    """Sample held-out videos and evaluate them by the world's truth; the summary goes to stdout.

    The folder gets summary.md with the tables, summary.json, a picture of one video of each kind, and a line for every
    video. With --take or --policy there is a table for each kind, and the differences between memories.
    """
    from bdiff_bench.world import WorldBenchConfig, bench_world, check

    chosen = given({"takes": takes or None, "policies": policies or None})
    is_semantic = not policies or defaults.POLICY in policies
    used = dict.fromkeys(("age_bonus", "num_sink"), is_semantic)
    refuse_idle(options, used, "is a setting of the semantic memory, which no --policy names")
    config = WorldBenchConfig(**_with_settings(options, _WORLD_SETTINGS), **chosen)
    check(config)
    with output_folder(config.out):
        summary = bench_world(
            config, on_take=lambda done, total, left: say(f"{done}/{total} takes done{_time_left(left)}")
        )
    show_figures(summary)


def _time_left(seconds: float) -> str:
    """How long the rest takes, after a comma; nothing at the end."""
    return f", about {max(1, round(seconds / 60))} min left" if seconds > 0 else ""


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
@click.option("--num-stories", type=click.IntRange(1), help="Held-out stories to sample.  [default: 32]")
@click.option("--num-seeds", type=click.IntRange(1), help="Videos of each story by each arm.  [default: 1]")
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each.  [default: 25]")
@setting_options(*_MEMORY_SETTINGS)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", type=WORKERS, help="Processes.  [default: 2]")
def bench_memory_command(arms: tuple[str, ...], modes: tuple[str, ...], device: str, **options: Any) -> None:
    """Compare memories by the colours of places that a video comes back to; the summary goes to stdout.

    The folder gets page.md with tables, plots and a picture, summary.json, and a line and stills of every video.
    """
    check_device(device)
    from bdiff_bench.memory import MemoryBenchConfig, bench_memory, check, parse_arm

    chosen = given({"arms": tuple(map(parse_arm, arms)) or None, "modes": modes or None})
    config = MemoryBenchConfig(device=device, **_with_settings(options, _MEMORY_SETTINGS), **chosen)
    check(config)
    with output_folder(config.out):
        summary = bench_memory(config, on_video=lambda done, total: say(f"{done}/{total} videos done"))
    show_figures(summary, page=config.out / "page.md")


@bench_group.command("lvbench")
@click.option("--manifest", type=PATH, required=True, help="The benchmark's videos, a line of JSON each.")
@click.option("--videos", type=PATH, required=True, help="A folder per model, or the videos of one model.")
@click.option("--out", type=PATH, required=True, help="Folder of the figures; a stopped run goes on.")
@click.option("--protocol", type=click.Choice(("paper", "released")), default="paper", show_default=True)
@click.option("--metric", "metrics", multiple=True, help="Metric of VDE, as `vde` calls it. Default: without weights.")
@click.option("--plain", multiple=True, help="VBench's metric of whole videos, as `vde` calls it; repeat it.")
@click.option(
    "--model", "models", multiple=True, callback=model_weights, metavar="ROLE=WEIGHTS", help="As `vde` takes it."
)
@click.option("--num-chunks", type=num_chunks(2), help="Chunks of each video.  [default: 10]")
@click.option("--split", type=click.Choice(("evaluation", "train", "all")), help="Part.  [default: evaluation]")
@click.option("--seed", type=click.IntRange(0), help="Seed of the split.  [default: 0]")
@click.option("--device", default="cpu", show_default=True)
def bench_lvbench_command(metrics: tuple[str, ...], plain: tuple[str, ...], **options: Any) -> None:
    """Measure LV-Bench videos of several models: the paper's Tables 2 and 3, in page.md; the summary goes to stdout."""
    from bdiff_bench.lvbench import LVBenchConfig, bench_lvbench, find_videos

    config = LVBenchConfig(**given(options | {"metrics": metrics or None, "plain": plain or None}))
    refuse_idle(options, {"seed": config.split != "all"}, "is a setting of a split, and --split all takes every video")
    find_videos(config)
    with output_folder(config.out):
        summary = bench_lvbench(config, on_video=lambda done, total: say(f"{done}/{total} videos done"))
    show_figures(summary, page=config.out / "page.md")


@bench_group.command("speed")
@click.option("--out", type=PATH, required=True, help="JSON file of the figures.")
@click.option("--model", type=PATH, default=defaults.WEIGHTS, help="Model folder. Default: the one that ships.")
@click.option("--policy", "policies", type=click.Choice(defaults.POLICIES), multiple=True, help="Repeat for several.")
@click.option("--num-chunks", type=num_chunks(2), help="Length of the video.  [default: 210]")
@click.option("--early", type=click.IntRange(0), help="A chunk to compare ...  [default: 20]")
@click.option("--late", type=click.IntRange(1), help="... with a later one.  [default: 200]")
@click.option("--device", default="cpu", show_default=True)
def bench_speed_command(policies: tuple[str, ...], device: str, **options: Any) -> None:
    """Time chunks early and late in a long video, and measure the memory they hold; the figures also go to stdout."""
    check_device(device)
    from bdiff_bench.speed import SpeedBenchConfig, bench_speed

    config = SpeedBenchConfig(device=device, **given(options | {"policies": policies or None}))
    show_figures(bench_speed(config))


@bench_group.command("page")
@click.argument("out", type=PATH)
@click.option("--title", required=True)
@click.option("--world", type=PATH, help="summary.json of `bdiff bench world`.")
@click.option("--speed", type=PATH, help="JSON of `bdiff bench speed`.")
@click.option("--memory", type=PATH, help="summary.json of `bdiff bench memory`.")
@click.option("--peers", type=PATH, help="figures.json of `bdiff bench peers`.")
@click.option("--ablation", type=PATH, hidden=True, expose_value=False, is_eager=True, callback=refuse_ablation)
@click.option("--note", default="", help="A paragraph under the heading.")
def bench_page_command(out: Path, **options: Any) -> None:
    """Write a Markdown page of measured figures."""
    from bdiff_bench.page import write_bench_page

    write_bench_page(out, **options)
