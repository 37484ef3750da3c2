"""Whether a package works that was installed by itself: `check_alone.py NAME`; run it with the Python that has it.

It is imported, its requirements hold, its commands show their help, and commands of others say how to install them.
"""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import distribution, entry_points
from pathlib import Path

OTHERS = {"train": "bdiff-train", "bench": "bdiff-bench"}


def output(*command: str) -> tuple[int, str]:
    """Exit code of a command of this environment, and what it prints."""
    place = Path(sys.executable).parent / command[0]
    done = subprocess.run([str(place), *command[1:]], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def problems(name: str) -> list[str]:
    """What does not work."""
    found = []
    import_module(name.replace("-", "_"))
    code, said = output("python", "-m", "pip", "check")
    if code:
        found.append(said)
    for point in (point for point in distribution(name).entry_points if point.group == "console_scripts"):
        code, said = output(point.name, "--help")
        if code or not said.startswith("Usage:"):
            found.append(f"{point.name} --help: exit {code}, {said}")
    for point in (point for point in distribution(name).entry_points if point.group == "bdiff.commands"):
        code, said = output("bdiff", point.name, "--help")
        if code or not said.startswith(f"Usage: bdiff {point.name}"):
            found.append(f"bdiff {point.name} --help: exit {code}, {said}")
    if name == "bdiff":
        there = {point.name for point in entry_points(group="bdiff.commands")}
        for command, other in OTHERS.items():
            code, said = output("bdiff", command, "model", "--out", "x")
            wanted = f"bdiff: bdiff {command} is not installed; pip install {other}\n"
            if command not in there and (code, said) != (2, wanted):
                found.append(f"bdiff {command}: exit {code}, {said!r}; expected 2, {wanted!r}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(sys.argv[1])) or 0)
