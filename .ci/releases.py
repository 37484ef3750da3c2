"""What a release of one package must hold.

`releases.py ranges|api|oldest FOLDER...`, and
`releases.py siblings FOLDER FOLDER...`.

A package has a version of its own and the tag ``NAME-vVERSION``. A change that breaks its public names raises the
second number before 1.0 and the first after it, and its changelog says so in a line that begins with "Breaking:".
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package or app of the checkout."""

    folder: Path
    name: str
    version: Version
    requirements: tuple[Requirement, ...]
    """All of them, those of extras too."""
    needed: tuple[str, ...]
    """Names of those without extras."""

    @classmethod
    def read(cls, folder: Path) -> "Package":
        """From its pyproject.toml."""
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project.get("optional-dependencies", {}).values()
        lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
        requirements = tuple(map(Requirement, lines))
        return cls(
            folder=folder,
            name=canonicalize_name(project["name"]),
            version=Version(project["version"]),
            requirements=requirements,
            needed=tuple(Requirement(line).name for line in project["dependencies"]),
        )

    @property
    def import_name(self) -> str:
        """Name of its code."""
        return self.name.replace("-", "_")


def released(package: Package, repository: Path) -> list[Version]:
    """Versions that have a tag, the oldest first."""
    listed = subprocess.run(
        ["git", "tag", "--list", f"{package.name}-v*"], cwd=repository, check=True, capture_output=True, text=True
    )
    return sorted(Version(tag.removeprefix(f"{package.name}-v")) for tag in listed.stdout.split())


def range_problems(packages: Sequence[Package]) -> list[str]:
    """Requirements on siblings that do not admit them as they are in the checkout, or have no upper bound."""
    versions = {package.name: package.version for package in packages}
    found = []
    for package in packages:
        for wanted in package.requirements:
            name = canonicalize_name(wanted.name)
            if name not in versions:
                continue
            if versions[name] not in wanted.specifier:
                found.append(f"{package.name} wants {wanted}; the checkout has {name} {versions[name]}")
            if not any(bound.operator in ("<", "<=", "==", "~=") for bound in wanted.specifier):
                found.append(f"{package.name} wants {wanted}; expected an upper bound, as in {name}>=0.1,<0.2")
    return found


def siblings(name: str, packages: Sequence[Package]) -> list[Package]:
    """A package and those of the checkout that it needs, directly or not, without extras."""
    by_name = {package.name: package for package in packages}
    found, ahead = {}, [name]
    while ahead:
        package = by_name[ahead.pop()]
        found[package.name] = package
        ahead += [n for n in map(canonicalize_name, package.needed) if n in by_name and n not in found]
    return list(found.values())


def raised_enough(before: Version, now: Version) -> bool:
    """Whether a version is far enough from another to break public names."""
    return now.major > before.major or (now.major == before.major == 0 and now.minor > before.minor)


def announced(changelog: str, version: Version) -> bool:
    """Whether the section of a version, or the one of what is not released, has a line that begins with Breaking."""
    sections = re.split(r"(?m)^## ", changelog)[1:]
    wanted = (str(version), "unreleased")
    mine = [text for text in sections if any(word in text.splitlines()[0].lower() for word in wanted)]
    return any(re.search(r"(?m)^[-*] \**Breaking", text) for text in mine)


def api_problems(package: Package, repository: Path) -> list[str]:
    """Public names that the last release had and that are gone or changed, unless the break is announced."""
    import griffe

    versions = released(package, repository)
    if not versions:
        return []
    before = versions[-1]
    source = package.folder.relative_to(repository) / "src"
    old = griffe.load_git(
        package.import_name, ref=f"{package.name}-v{before}", repo=repository, search_paths=[str(source)]
    )
    new = griffe.load(package.import_name, search_paths=[str(repository / source)])
    breaks = [found.explain(griffe.ExplanationStyle.ONE_LINE) for found in griffe.find_breaking_changes(old, new)]
    changelog = (package.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if not breaks or (raised_enough(before, package.version) and announced(changelog, package.version)):
        return []
    return [
        *breaks,
        f"{package.name} {package.version} breaks names of {before}: raise its version and say so in its changelog, in "
        'a line that begins with "Breaking:"',
    ]


def oldest_siblings(packages: Sequence[Package], repository: Path) -> dict[str, Version]:
    """The oldest released version of each package that all others admit, where it is older than the checkout's."""
    found = {}
    for package in packages:
        ranges = [
            wanted.specifier
            for other in packages
            for wanted in other.requirements
            if canonicalize_name(wanted.name) == package.name
        ]
        admitted = [v for v in released(package, repository) if all(v in each for each in ranges)]
        if ranges and admitted and admitted[0] < package.version:
            found[package.name] = admitted[0]
    return found


def install_released(versions: dict[str, Version], packages: Iterable[Package], repository: Path) -> None:
    """Install released versions of packages, each from its tag, into the environment of this Python."""
    by_name = {package.name: package for package in packages}
    for name, version in versions.items():
        inner = by_name[name].folder.relative_to(repository)
        with tempfile.TemporaryDirectory() as place:
            archive = subprocess.run(
                ["git", "archive", f"{name}-v{version}", str(inner)], cwd=repository, check=True, capture_output=True
            )
            subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall"]
            subprocess.run([*command, str(Path(place) / inner)], check=True)


def main(arguments: Sequence[str]) -> int:
    """Check what the first word says."""
    what, *folders = arguments
    if what == "siblings":  # of the first folder, among all that follow
        what, first, *folders = arguments
    repository = Path(__file__).resolve().parents[1]
    packages = [Package.read((repository / folder).resolve()) for folder in folders]
    if what == "siblings":
        say("\n".join(str(one.folder) for one in siblings(Package.read((repository / first).resolve()).name, packages)))
        return 0
    if what == "oldest":
        versions = oldest_siblings(packages, repository)
        install_released(versions, packages, repository)
        shown = ", ".join(f"{name} {version}" for name, version in versions.items())
        say(f"installed: {shown}" if shown else "no release that is admitted is older than the checkout")
        return 0
    found = (
        range_problems(packages) if what == "ranges" else [p for one in packages for p in api_problems(one, repository)]
    )
    for problem in found:
        say(problem)
    return 1 if found else 0


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
