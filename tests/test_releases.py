"""Releases: ranges of siblings, breaks of public names, oldest siblings; on small repositories made here."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("releases", ROOT / ".ci" / "releases.py")
releases = importlib.util.module_from_spec(_SPEC)
sys.modules["releases"] = releases  # dataclasses look for it there
_SPEC.loader.exec_module(releases)

FOLDERS = [file.parent for file in sorted(ROOT.glob("*/*/pyproject.toml"))]


def write(root, name, *, version="0.1.0", needs=(), code="", changes=""):
    folder = root / "packages" / name
    (folder / "src" / name).mkdir(parents=True, exist_ok=True)
    lines = ", ".join(f'"{need}"' for need in needs)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = [{lines}]\n'
    )
    (folder / "src" / name / "__init__.py").write_text(code)
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {version}\n\n{changes}\n")
    return releases.Package.read(folder)


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")

    def tag(name):
        git("add", "-A")
        git("commit", "-q", "-m", name, "--allow-empty")
        git("tag", name)

    return tmp_path, tag


def test_ranges_of_the_checkout_admit_its_packages():
    assert releases.range_problems([releases.Package.read(folder) for folder in FOLDERS]) == []


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ("first>=0.1,<0.2", []),
        ("first>=0.2,<0.3", ["second wants first<0.3,>=0.2; the checkout has first 0.1.0"]),
        ("first>=0.1", ["second wants first>=0.1; expected an upper bound, as in first>=0.1,<0.2"]),
        ("torch>=2.6", []),
    ],
)
def test_a_range_that_leaves_a_sibling_out_is_found(tmp_path, need, said):
    packages = [write(tmp_path, "first"), write(tmp_path, "second", needs=[need])]
    assert releases.range_problems(packages) == said


CODE = '__all__ = ["f"]\n\n\ndef f(x, y=1):\n    return x\n'


@pytest.mark.parametrize(
    ("version", "code", "changes", "breaks"),
    [
        ("0.1.0", CODE, "", False),
        ("0.1.1", CODE + "\n\ndef g():\n    return 1\n", "", False),
        ("0.1.1", CODE.replace("y=1", "z=1"), "- Breaking: y is z.", True),
        ("0.2.0", CODE.replace("y=1", "z=1"), "- y is z.", True),
        ("0.2.0", CODE.replace("y=1", "z=1"), "- Breaking: y is z.", False),
        ("0.1.1", "__all__ = []\n", "", True),
    ],
)
def test_an_unannounced_break_of_public_names_is_found(repository, version, code, changes, breaks):
    pytest.importorskip("griffe")
    root, tag = repository
    write(root, "thing", code=CODE)
    tag("thing-v0.1.0")
    package = write(root, "thing", version=version, code=code, changes=changes)
    found = releases.api_problems(package, root)
    assert bool(found) == breaks
    if breaks:
        assert found[-1].startswith(f"thing {version} breaks names of 0.1.0: raise its version")


def test_without_a_release_there_is_nothing_to_compare_with(repository):
    root, tag = repository
    package = write(root, "thing", code=CODE)
    tag("another-v0.1.0")
    assert releases.api_problems(package, root) == []


def test_the_oldest_release_that_all_admit_is_found(repository):
    root, tag = repository
    for name in ("thing-v0.1.0", "thing-v0.2.0", "thing-v0.2.1", "other-v0.1.0"):
        tag(name)
    thing = write(root, "thing", version="0.2.2")
    user = write(root, "user", needs=["thing>=0.2,<0.3"])
    assert releases.oldest_siblings([thing, user], root) == {"thing": Version("0.2.0")}
    assert releases.oldest_siblings([thing], root) == {}
    assert releases.released(thing, root) == [Version("0.1.0"), Version("0.2.0"), Version("0.2.1")]


def test_a_released_version_is_installed_from_its_tag(repository, monkeypatch):
    root, tag = repository
    write(root, "thing", code="VERSION = 1\n")
    tag("thing-v0.1.0")
    thing = write(root, "thing", version="0.2.0", code="VERSION = 2\n")
    run, seen = subprocess.run, []

    def pip(command, **options):
        if "pip" not in command:
            return run(command, **options)
        seen.append((Path(command[-1]) / "src" / "thing" / "__init__.py").read_text())
        return None

    monkeypatch.setattr(releases.subprocess, "run", pip)
    releases.install_released({"thing": Version("0.1.0")}, [thing], root)
    assert seen == ["VERSION = 1\n"]
