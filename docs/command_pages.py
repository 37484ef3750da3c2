"""Write the pages of docs/reference from the commands themselves: ``python docs/command_pages.py``.

A test compares the pages with what the commands say now. It needs the workspace environment, where every app is
installed, and it runs in a checkout, where the studies are.
"""

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Written by docs/command_pages.py from the commands' own help. Do not edit. -->"
MAKING = "The commands that make, plan, continue and inspect. See [Sample a video](../guides/sample.md)."
TRAINING = "The commands of the distribution `bdiff-train`. See [Train](../guides/train.md)."
MEASURING = (
    "The commands of the distribution `bdiff-bench`, and `vde`, which comes with `vde-metrics`. "
    "See [Measure the memory](../guides/bench-memory.md), [Compare speed](../guides/compare-speed.md) "
    "and [Measure drift](../guides/measure-drift.md)."
)
STUDIES = (
    "Experiments that were made once, each for a page of the [results](../results/index.md). They are in no wheel. "
    "Run them from the top folder of a checkout."
)


def pages() -> dict[str, str]:
    """The text of every page of docs/reference, by file name."""
    (script,) = entry_points(group="console_scripts", name="bdiff")
    main = import_module(script.module).cli
    vde = import_module("vde_metrics.command_line").drift_command
    added = {found.name: found.load() for found in entry_points(group="bdiff.commands")}
    own = [(f"bdiff {name}", command) for name, command in main.commands.items()]
    return {
        "bdiff.md": _page("Make videos: bdiff", MAKING, [("bdiff", main), *own]),
        "bdiff-train.md": _page("Train: bdiff train", TRAINING, _with_inner("bdiff train", added["train"])),
        "bdiff-bench.md": _page(
            "Measure: bdiff bench and vde", MEASURING, [("vde", vde), *_with_inner("bdiff bench", added["bench"])]
        ),
        "studies.md": _page("Studies", STUDIES, list(_studies())),
        "presets.md": "\n\n".join(_presets()) + "\n",
    }


def _presets() -> Iterator[str]:
    """The presets of `bdiff sample --preset`, from their table."""
    table = import_module("bdiff.presets")
    yield NOTE.replace("the commands' own help", "the table in bdiff.presets")
    yield "# Presets"
    yield (
        "How published checkpoints are sampled by their authors, for `--preset` of `bdiff sample` and `bdiff plan`. "
        "`bdiff presets` prints the same. A window of `sink` or `rolling` counts latent frames without those of the "
        "chunk that reads and without the sink. See [Run your own weights](../guides/own-weights.md)."
    )
    for name, preset in table.PRESETS.items():
        yield f"## {name}"
        rows = {key: text for key, text in table.described(preset).items() if text and key != "note"}
        yield "\n".join(["| | |", "|---|---|", *(f"| {key} | {_escaped(text)} |" for key, text in rows.items())])
        if preset.note:
            yield _escaped(preset.note)


def _with_inner(name: str, group: click.Group) -> list[tuple[str, click.Command]]:
    inner = [(f"{name} {word}", command) for word, command in sorted(group.commands.items()) if not command.hidden]
    return [(name, group), *inner]


def _studies() -> Iterator[tuple[str, click.Command]]:
    names = sorted(main.parent.name for main in (ROOT / "studies").glob("*/__main__.py"))
    modules = [f"studies.{name}" for name in names]
    for module in modules:
        yield f"python -m {module}", import_module(f"{module}.__main__").command
    yield "python -m studies.ablation.write_page", import_module("studies.ablation.write_page").command


def _page(title: str, note: str, commands: list[tuple[str, click.Command]]) -> str:
    parts = [NOTE, f"# {title}", note]
    shown: dict[int, str] = {}
    for name, command in commands:
        if shown.setdefault(id(command), name) != name:
            parts += [f"## {name}", f"The same command as `{shown[id(command)]}`."]
        else:
            parts += _section(name, command)
    return "\n\n".join(parts) + "\n"


def _section(name: str, command: click.Command) -> Iterator[str]:
    """Heading, usage, description and options of one command."""
    context = click.Context(command, info_name=name)
    yield f"## {name}"
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    yield f"```text\n{usage}\n```"
    yield from _paragraphs(command.help or "")
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            yield _option(*record)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield "```text\n" + paragraph.removeprefix("\b").strip("\n") + "\n```"
        else:
            yield _escaped(" ".join(paragraph.split()))


def _option(spelling: str, text: str) -> str:
    words = "One of these words." if "|" in spelling else "No value."
    return f"`{spelling.replace(' RANGE', '')}`\n:   {_escaped(' '.join(text.split())) or words}"


def _escaped(text: str) -> str:
    """Text in which Markdown finds no link, emphasis or HTML; what stands in backticks stays code."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        for mark in ("\\", "*", "_", "[", "]"):
            parts[index] = parts[index].replace(mark, f"\\{mark}")
        parts[index] = parts[index].replace("<", "&lt;")
    return "`".join(parts)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
