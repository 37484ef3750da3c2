"""Runs the video and sample tests with the oldest and the newest versions that the packages' metadata admits.

`versions.py FOLDER...`, with the folders of all packages. Every Python that is supported and at hand is tried, each in
environments of its own below .nox/tested-versions. Ends with an error if tests fail, or if the newest admitted version
of something on a supported Python was tested nowhere.

PyPI's torch for Linux brings CUDA, 6 GB for each environment, which is removed once it was tested. With `--quick` only
the Python that runs this gets torch; on the others the reader and the writer of videos are tested, which need none.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

SUPPORTED = ("3.11", "3.12", "3.13")
ENVIRONMENTS = Path(".nox/tested-versions")
TOOLS = ("pytest", "hypothesis", "beartype")
ALONE = ("av", "numpy", "jaxtyping")
"""What the reader and the writer of videos need."""
ALONE_TESTS = (
    "packages/vde-metrics/tests/test_containers.py",
    "packages/vde-metrics/tests/test_player.py",
    "apps/bdiff/tests/test_writer.py",
)
TESTS = (
    *ALONE_TESTS,
    *(f"packages/vde-metrics/tests/test_{name}.py" for name in ("boundary", "measurement", "command")),
    *(f"apps/bdiff/tests/test_{name}.py" for name in ("video", "init_video", "sample")),
    "apps/bdiff-train/tests/data/test_videos.py",
)
OPTIONS = ("-q", "-p", "no:cacheprovider", "-m", "not gpu and not slow", "-W", "ignore::DeprecationWarning")


Asked = dict[str, SpecifierSet]


def requirements(folders: Sequence[Path]) -> Asked:
    """What the packages ask of others, ranges of one name joined; extras where another package asks for them."""
    projects = {
        canonicalize_name(project["name"]): project
        for project in (tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in folders)
    }
    found: dict[str, SpecifierSet] = defaultdict(SpecifierSet)
    for project in projects.values():
        for line in project["dependencies"]:
            wanted = Requirement(line)
            name = canonicalize_name(wanted.name)
            if name not in projects:
                found[name] &= wanted.specifier
            for extra in wanted.extras if name in projects else ():
                for other in map(Requirement, projects[name]["optional-dependencies"][extra]):
                    found[canonicalize_name(other.name)] &= other.specifier
    return dict(found)


def interpreter(version: str) -> str | None:
    """A Python of this version: the one that runs this, one on PATH, or one of pyenv's."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    places = Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")
    for candidate in (f"python{version}", *map(str, sorted(places))):
        try:
            subprocess.run([candidate, "-c", ""], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):  # pyenv names every Python on PATH, also one that is off
            continue
        return candidate
    return None


@cache
def released(name: str, python: str) -> tuple[Version, ...]:
    """All releases for a Python, the oldest first."""
    command = ["index", "versions", name, "--python-version", python, "--only-binary=:all:"]
    listed = subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True, text=True).stdout
    line = re.search(r"^Available versions: (.*)$", listed, re.MULTILINE)
    return tuple(sorted(map(Version, line[1].split(", ")))) if line else ()


def newest(name: str, admitted: SpecifierSet, python: str) -> Version:
    """The newest release that is admitted."""
    return max(admitted.filter(released(name, python)))


class Environment:
    """A fresh environment, with pins for all that is installed into it."""

    def __init__(self, python: str, which: str) -> None:
        self.place = ENVIRONMENTS / f"{python}-{which}"
        subprocess.run([interpreter(python) or "", "-m", "venv", "--clear", self.place], check=True)
        self._pins: list[str] = []

    def run(self, *arguments: str) -> str:
        """What its Python prints."""
        command = [self.place / "bin/python", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def pin(self, name: str, version: Version | str) -> None:
        """Allow only this version of a package."""
        self._pins.append(f"{name}=={version}\n")
        (self.place / "pins.txt").write_text("".join(self._pins))

    def install(self, *wanted: str) -> None:
        """Install packages as pip would by itself, but for the pins."""
        constraint = (f"--constraint={self.place / 'pins.txt'}",) if self._pins else ()
        self.run("-m", "pip", "install", "--quiet", "--no-compile", *constraint, *wanted)

    def oldest(self, name: str, admitted: SpecifierSet, python: str) -> Version:
        """The oldest release that is admitted and has a wheel."""
        options = ("install", "--quiet", "--dry-run", "--no-deps", "--only-binary=:all:")
        for version in admitted.filter(released(name, python)):
            command = [self.place / "bin/python", "-m", "pip", *options, f"{name}=={version}"]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return version
        raise SystemExit(f"{name}{admitted}: no release has a wheel for Python {python}")

    def versions(self, names: Sequence[str]) -> dict[str, Version]:
        """What is installed."""
        script = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        return dict(zip(names, map(Version, self.run("-c", script, *names).split()), strict=True))


def tested(python: str, which: str, asked: Asked, folders: Sequence[str], *, whole: bool) -> dict[str, Version]:
    """Runs the tests with the oldest or the newest versions, and returns these."""
    environment = Environment(python, which)
    names = list(asked) if whole else list(ALONE)
    if which == "oldest":
        for name in names:
            environment.pin(name, environment.oldest(name, asked[name], python))
    if whole:
        environment.install(*TOOLS, *(f"--editable={folder}" for folder in folders))
    else:
        environment.install(*TOOLS, *ALONE)
        environment.install("--no-deps", "--editable=packages/vde-metrics", "--editable=apps/bdiff")
    found = environment.versions(names)
    say(f"Python {python}, {which}: {', '.join(f'{name} {version}' for name, version in found.items())}")
    tests = TESTS if whole else ("--noconftest", *ALONE_TESTS)
    if subprocess.run([environment.place / "bin/python", "-m", "pytest", *OPTIONS, *tests]).returncode:
        raise SystemExit(f"Python {python}, {which}: tests failed")
    shutil.rmtree(environment.place)
    return found


def untested(asked: Asked, found: dict[str, set[Version]]) -> list[str]:
    """What is the newest that some supported Python takes, and was not among what was tested."""
    wanted = {(name, newest(name, asked[name], python)) for name in asked for python in SUPPORTED}
    return sorted(f"{name} {version}" for name, version in wanted if version not in found[name])


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201


def main(arguments: Sequence[str]) -> int:
    """Try every Python that is at hand."""
    folders = [argument for argument in arguments if argument != "--quick"]
    asked, found = requirements([Path(folder) for folder in folders]), defaultdict(set)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in SUPPORTED:
        if interpreter(python) is None:
            say(f"Python {python}: not at hand")
            continue
        whole = python == here or "--quick" not in arguments
        for which in ("oldest", "newest"):
            for name, version in tested(python, which, asked, folders, whole=whole).items():
                found[name].add(version)
        if not whole:
            say(f"Python {python}: the reader and the writer of videos alone, without torch")
    if missing := untested(asked, found):
        say(f"admitted by the metadata, the newest for a supported Python, and not tested: {', '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
