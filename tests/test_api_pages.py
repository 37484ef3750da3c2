"""The API pages and the packages name the same things."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("noisesched", "kvbank", "bdiff-core", "forcing-losses", "vde-metrics", "lvbench", "storyworld")


def documented_paths(page, import_name):
    """Dotted paths below the package that mkdocstrings blocks of a page show: `::: package.path` and members lists."""
    paths, block, members = set(), None, False
    for line in page.read_text().splitlines():
        if start := re.match(rf":::\s+{import_name}((?:\.\w+)*)\s*$", line):
            block, members = start[1].lstrip("."), False
            paths |= {block} - {""}
        elif re.match(r"\s+members:\s*$", line):
            members = True
        elif members and (member := re.match(r"\s+-\s+(\w+)\s*$", line)):
            paths.add(f"{block}.{member[1]}".lstrip("."))
        elif line.strip():
            members = False
    return paths


@pytest.mark.parametrize("package", PACKAGES)
def test_api_page_shows_every_public_name_and_nothing_private(package):
    import_name = package.replace("-", "_")
    public = set(importlib.import_module(import_name).__all__) - {"__version__"}
    paths = documented_paths(ROOT / "docs" / "api" / f"{package}.md", import_name)
    ends = {path.rpartition(".")[2] for path in paths}
    assert not public - ends, "public names without a place on the page"
    assert not {p for p in paths if not public & {p.partition(".")[0], p.rpartition(".")[2]}}, "names that are private"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_listed_once_and_exist(package):
    module = importlib.import_module(package.replace("-", "_"))
    assert len(set(module.__all__)) == len(module.__all__)
    assert not [name for name in module.__all__ if not hasattr(module, name)]
