"""Command lines at random: each ends in time with exit 0, or with exit 2 and one line.

By hand: `python tests/fuzz_options.py --count 10000`. A short form is in test_boundary.py.
"""

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from bdiff import defaults
from bdiff.cli.add_ons import AddOn
from bdiff.cli.main import cli, main
from studies.command import STUDIES, run_study, study

SECONDS = 5.0
"""A line that takes longer has failed; of this process, whatever else the machine does."""
NASTY = [
    *("", " ", "0", "-1", "1", "2", "3.5", "1e400", "-1e400", "nan", "inf", "1e-300", "9" * 30, "0x10", "010", "1_000"),
    *("--", "-", "-h", ".", "/dev/null", "/proc/self/mem", "nowhere", "a/b", "a/b/c/d", "~", "%s", "*", "["),
    *("{", "日本", "\udcff", "\x07", "a\nb", "\u202e", "x" * 5000, "http://x/y", "12:30:00", "(0s - 3s)", "a=b", "@"),
    *(
        "a fox (00s - 03s)",
        "clip@nan",
        "a@",
        "true",
        "None",
        "null",
        "semantic",
        "full",
        "cpu",
        "cuda:99",
        "meta",
        "mps",
    ),
]
FREE = "plan", "trace", "inspect", "resume", "reroll", "extend", "convert", "page", "drift"
"""Commands that are cheap whatever they are given here."""
SPOILT = {
    **{"vae": ("--videos", "folder"), "studies.metric_cost": ("--clip", "nowhere")},
    "studies.metric_sensitivity": ("--clip", "nowhere"),
    **{
        "peers": ("--shape", "nowhere"),
        "lvbench": ("--manifest", "nowhere"),
        "studies.ablation": ("--cells", "nowhere"),
    },
}
"""What keeps the others from hours of work, at their last moment; `--model nowhere` for those that are not listed."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, by its words."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, AddOn):
            command = command.load()
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def all_commands() -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command of `bdiff`, and the studies, whose first word is their module's name."""
    return [*commands(cli), *(((f"studies.{name}",), study(name)) for name in STUDIES)]


def call(words: list[str]) -> None:
    """Run a command line as from a shell."""
    first, *rest = words or [""]
    if first.startswith("studies."):
        run_study(study(first.removeprefix("studies.")), first, rest)
    else:
        main(words)


def name(words: list[str]) -> str:
    """What its lines on stderr begin with."""
    return f"python -m {words[0]}" if words[:1] and words[0].startswith("studies.") else "bdiff"


def value(parameter: click.Parameter, draw: random.Random, places: list[str]) -> str:
    """Something to give to a parameter: often what it may be, often not."""
    kind = parameter.type
    if draw.random() < 0.35:
        return draw.choice(NASTY)
    if isinstance(kind, click.Choice):
        return str(draw.choice(list(kind.choices)))
    if isinstance(kind, click.types.IntParamType):
        return str(draw.choice((1, 2, 3, 8, 16, 64, 128, 1000, -3, 0, 2**40)))
    if parameter.name in ("seconds", "guidance", "share", "minutes", "learning_rate", "age_bonus", "coverage"):
        return draw.choice(("0.5", "1", "2", "7.25", "86400", "86401", "1e9", "-2"))
    if parameter.name in ("prompts", "prompt", "negative", "init_prompt"):
        return draw.choice(("the fox waits", "a fox (0s - 3s)", "a fox at 10:30", "x" * 3000, "日本", "a\tfox"))
    return draw.choice(places)


def line(path: tuple[str, ...], command: click.Command, draw: random.Random, places: list[str]) -> list[str]:
    """A command line."""
    words = list(path)
    options = [p for p in command.params if isinstance(p, click.Option)]
    for option in draw.sample(options, min(len(options), draw.choice((0, 1, 1, 2, 2, 3, 5)))):
        words.append(draw.choice(option.opts + option.secondary_opts))
        if not option.is_flag:
            words.append(value(option, draw, places))
    for _ in (p for p in command.params if isinstance(p, click.Argument)):
        if draw.random() < 0.95:
            words.append(draw.choice(places) if draw.random() < 0.8 else draw.choice(NASTY))
    if path[-1] in FREE:
        return words
    required = [option for option in options if option.required and option.opts[0] not in words]
    words += [word for option in required for word in (option.opts[0], value(option, draw, places))]
    if path == ("train", "model"):
        return [*words, "--vae", "nowhere"]
    return [*words, *SPOILT.get(path[-1], ("--model", "nowhere"))]


def problem(words: list[str], codes: Counter[object]) -> tuple[str | None, float]:
    """What is wrong with how a line ends, or None; and how long it took. Its exit code is counted."""
    out, err, began = io.StringIO(), io.StringIO(), time.process_time()
    code: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            call(words)
    except SystemExit as stopped:
        code = stopped.code
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is a traceback for the user
        return f"{type(error).__name__}: {error}", time.process_time() - began
    codes[code] += 1
    took, said = time.process_time() - began, err.getvalue()
    last = said.splitlines()[-1] if said.strip() else ""
    if code not in (0, 2):
        return f"exit {code}: {said[-300:]}", took
    start = f"{name(words)}: "
    if code == 2 and not (last.startswith(start) and len(last) > len(start) + 5):
        return f"exit 2 and {said[-300:]!r}", took
    several = "drift" in words  # one line for each video that cannot be measured
    if code == 2 and not several and said.count(f"\n{start}") + said.startswith(start) != 1:
        return f"more than one line: {said[-600:]!r}", took
    if "Traceback" in said or any(not c.isprintable() for c in last):
        return f"not plain: {said[-300:]!r}", took
    return (f"took {took:.1f} s" if took > SECONDS else None), took


def make_places(folder: Path) -> list[str]:
    """Files and folders of many kinds."""
    (folder / "story.yaml").write_text("- the fox waits\n- the fox walks left\n")
    (folder / "timed.txt").write_text("the fox waits (0s - 3s)\nthe fox walks left (3s - 6s)\n")
    (folder / "story.json").write_text('{"captions": ["a fox (00s - 02s)"]}')
    (folder / "empty").write_text("")
    (folder / "bytes.pt").write_bytes(bytes(range(256)))
    (folder / "page.safetensors").write_text("<!DOCTYPE html><html>not found</html>")
    (folder / "folder").mkdir()
    (folder / "run" / "state").mkdir(parents=True)
    (folder / "run" / "state" / "script.json").write_text('{"format": 1}')
    model = folder / "model"  # a copy, for some lines overwrite what they are given
    shutil.copytree(defaults.WEIGHTS, model)
    return [str(path) for path in (*sorted(folder.iterdir()), model / "transformer", model / "vae.safetensors")]


def fuzz(count: int, seed: int, folder: Path) -> tuple[list[tuple[list[str], str]], Counter[object], float]:
    """Try so many lines: those that ended wrongly and why, how many of each exit code, and the slowest in seconds."""
    draw, places = random.Random(seed), make_places(folder)
    every = all_commands()
    weights = [6 if path == ("plan",) else 1 for path, _ in every]
    wrong, codes, slowest = [], Counter[object](), 0.0
    with contextlib.chdir(folder):
        for _ in range(count):
            path, command = draw.choices(every, weights)[0]
            words = line(path, command, draw, places)
            found, took = problem(words, codes)
            slowest = max(slowest, took)
            if found is not None:
                wrong.append((words, found))
    return wrong, codes, slowest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        wrong, codes, slowest = fuzz(given.count, given.seed, Path(place))
    for words, why in wrong:
        sys.stdout.write(f"{words}\n    {why}\n")
    sys.stdout.write(
        f"{given.count} lines, {len(wrong)} wrong, the slowest {slowest:.2f} s; exit codes {dict(codes)}\n"
    )
    sys.exit(bool(wrong))
