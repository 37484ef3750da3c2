"""The table of equations points at functions and tests that exist."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    line.split("|")
    for line in (ROOT / "docs" / "paper.md").read_text().splitlines()
    if re.match(r"\| (Eq|Sec|Alg)", line) and "packages/" in line
]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([a-z_]+\.\w+)`", row[3])})
TESTS = sorted({path for row in ROWS for path in re.findall(r"`([^`]+)`", row[4])})


@pytest.mark.parametrize("name", NAMES)
def test_function_is_public(name):
    module, _, attribute = name.partition(".")
    assert attribute in importlib.import_module(module).__all__


@pytest.mark.parametrize("path", TESTS)
def test_named_test_exists(path):
    assert (ROOT / path).is_file()


def test_every_row_names_a_function_and_a_test():
    assert len(ROWS) > 10
    assert not [row for row in ROWS if not re.findall("`[^`]+`", row[3]) or not re.findall("`[^`]+`", row[4])]
