"""Commands, options and paths that the pages show are there."""

import importlib
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import click
import pytest

from bdiff.cli.add_ons import AddOn
from bdiff.cli.main import cli
from vde_metrics.command_line import drift_command

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "docs/[!r]*/*.md", "packages/*/README.md", "apps/*/README.md")
    for page in ROOT.glob(pattern)
    if page.name != "upgrading.md"  # it names what is no more
)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PATH = re.compile(r"`((?:apps|docs|packages|studies|tests)/[\w./-]+)`")
COMMAND = re.compile(r"(bdiff (?!COMMAND)|vde |\./dev sample |python -m studies\.\w+ )")
OTHERS = {
    *("--help", "--editable", "--index-url", "--no-deps"),  # of click and pip
    *("--nproc-per-node", "--import-mode", "--count", "--quick", "--jaxtyping-packages"),  # of torchrun, pytest, checks
}


@cache
def study(module):
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    name = module if (ROOT / module.replace(".", "/")).with_suffix(".py").exists() else f"{module}.__main__"
    return importlib.import_module(name).command


def spellings(command):
    """The options of a command as its help shows them, without old spellings."""
    context = click.Context(command)
    records = [p.get_help_record(context) for p in command.params if isinstance(p, click.Option)]
    return {word for record in records if record for word in re.findall(r"--[\w-]+", record[0])} | {"--help"}


def inner(group, name):
    found = group.get_command(click.Context(group), name)
    return found.load() if isinstance(found, AddOn) else found


def found_command(words):
    """Return (command, words after its name) of a line, or None for another program's."""
    if words[0] == "torchrun" and "-m" in words:
        words = words[words.index("-m") + 1 :]
    if words[0] == "./dev" and words[1:2] == ["sample"]:
        words = ["bdiff", *words[1:]]
    if words[0] == "vde":
        return drift_command, words[1:]
    if words[:2] == ["python", "-m"] and words[2].startswith("studies."):
        return study(words[2]), words[3:]
    if words[0] != "bdiff":
        return None
    command, rest = cli, words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command, rest = inner(command, rest[0]), rest[1:]
        if command is None:
            raise LookupError(" ".join(words))
    return command, rest


def wrong(line):
    """Return what a command line has that its command does not take."""
    words = shlex.split(line, comments=True)
    try:
        found = found_command(words) if words else None
    except (LookupError, ModuleNotFoundError) as error:
        return [f"no such command: {error}"]
    if found is None:
        return []
    command, rest = found
    if command is cli and rest[:1] == ["--traceback"]:
        return wrong(" ".join(["bdiff", *rest[1:]]))
    given = [word.partition("=")[0] for word in rest if re.match(r"--\w", word)]
    return [f"{word} of: {line}" for word in given if word not in spellings(command)]


def shell_lines(text):
    """Yield the command lines of shell boxes, with variables put in and continued lines joined."""
    for box in SHELL.findall(text):
        values = {}
        for line in box.replace("\\\n", " ").splitlines():
            if assigned := re.match(r"(\w+)=(\"[^\"]*\"|\S+)$", line):
                values[assigned[1]] = assigned[2].strip('"')
                continue
            yield re.sub(r"\$(\w+)", lambda name, values=values: values.get(name[1], name[0]), line).strip()


def spans(text):
    """Yield the pieces of code in running text."""
    yield from SPAN.findall(re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.MULTILINE | re.DOTALL))


@cache
def all_options():
    commands, known = [cli, drift_command], set(OTHERS)
    modules = sorted(main.parent.name for main in (ROOT / "studies").glob("*/__main__.py"))
    commands += [study(f"studies.{name}") for name in (*modules, "ablation.write_page")]
    for command in commands:
        known |= spellings(command)
        if isinstance(command, click.Group):
            commands += [inner(command, name) for name in command.list_commands(click.Context(command))]
    return known


def mistakes(text):
    """Return every shown command, option and path that is not there."""
    found = [one for line in shell_lines(text) for one in wrong(line)]
    for span in spans(text):
        if COMMAND.match(span) and "..." not in span and "…" not in span:
            found += wrong(span.replace("'", ""))
        elif re.match(r"--\w", span) and re.split(r"[\s=]", span)[0] not in all_options():
            found.append(span)
    return found + [path for path in PATH.findall(text) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_is_there(page):
    assert mistakes(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nbdiff sample --seniority 0.15\n```",
        "```sh\nbdiff sample --out a \\\n    --nothing b\n```",
        "```sh\nbdiff bench kv --out a\n```",
        "```sh\npython -m studies.meter --out a\n```",
        '```sh\nstudy="python -m studies.ablation --out a"\n$study --cells b\n```',
        "```sh\n./dev sample --nothing\n```",
        "`bdiff resume RUN --nothing`",
        "`--seniority X`",
        "`apps/bdiff/src/bdiff/run/script.py`",
    ],
)
def test_what_is_not_there_is_found(text):
    assert len(mistakes(text)) == 1


def test_the_pages_show_commands():
    lines = [line for page in PAGES for line in shell_lines(page.read_text(encoding="utf-8"))]
    assert sum(line.startswith(("bdiff ", "vde ", "python -m studies.")) for line in lines) > 40
