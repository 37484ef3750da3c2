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


def public_names(import_name):
    """What a package exports at its top, and what its subpackages export, as dotted paths below it."""
    top = importlib.import_module(import_name)
    found = {name: getattr(top, name, None) for name in top.__all__ if name != "__version__"}
    folder = Path(top.__file__).parent
    for init in sorted(folder.rglob("*/__init__.py")):
        inner = ".".join(init.parent.relative_to(folder).parts)
        module = importlib.import_module(f"{import_name}.{inner}")
        found |= {f"{inner}.{name}": getattr(module, name) for name in getattr(module, "__all__", ())}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_api_page_shows_every_public_name_and_nothing_private(package):
    import_name = package.replace("-", "_")
    public = public_names(import_name)
    paths = documented_paths(ROOT / "docs" / "api" / f"{package}.md", import_name)
    shown = {id(public[path]) for path in paths if path in public}
    assert not sorted(name for name, value in public.items() if id(value) not in shown), "without a place on the page"
    owners = {path for path in paths if path not in public}
    known = {*public, *(name.rpartition(".")[0] for name in public)}
    strange = {path for path in owners - known if path.rpartition(".")[0] not in public}
    assert not strange, "private, or not there"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_listed_once_and_exist(package):
    module = importlib.import_module(package.replace("-", "_"))
    assert len(set(module.__all__)) == len(module.__all__)
    assert not [name for name in module.__all__ if not hasattr(module, name)]
