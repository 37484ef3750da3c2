"""The API pages and the packages name the same things."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("noisesched", "kvbank", "bdiff-core", "forcing-losses", "vde-metrics", "lvbench")


def documented_names(page, import_name):
    """Names that mkdocstrings blocks of a page show: `::: package.name`, `::: package.module.name` or members lists."""
    names, members = set(), False
    for line in page.read_text().splitlines():
        if block := re.match(rf":::\s+{import_name}((?:\.\w+)+)\s*$", line):
            names.add(block[1].rpartition(".")[2])
        elif re.match(r"\s+members:\s*$", line):
            members = True
        elif members and (member := re.match(r"\s+-\s+(\w+)\s*$", line)):
            names.add(member[1])
        elif line.strip():
            members = False
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_api_page_shows_every_public_name_and_no_other(package):
    import_name = package.replace("-", "_")
    public = set(importlib.import_module(import_name).__all__) - {"__version__"}
    documented = documented_names(ROOT / "docs" / "api" / f"{package}.md", import_name)
    assert documented == public


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_listed_once_and_exist(package):
    module = importlib.import_module(package.replace("-", "_"))
    assert len(set(module.__all__)) == len(module.__all__)
    assert not [name for name in module.__all__ if not hasattr(module, name)]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_docstring_shows_an_example(package):
    module = importlib.import_module(package.replace("-", "_"))
    assert f"from {module.__name__} import" in module.__doc__ or f"import {module.__name__}" in module.__doc__
