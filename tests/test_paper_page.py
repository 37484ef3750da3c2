"""The tables of equations point at functions and tests that exist."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def equations():
    """Yields (package, paper, function names, test names) for each row of the tables under a package's heading."""
    package = None
    for line in (ROOT / "docs" / "paper.md").read_text().splitlines():
        if line.startswith("## "):
            package = line[3:]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and re.match(r"(Eq|Sec|Alg)", cells[0]):
            yield package, cells[0], re.findall(r"`(\w+)`", cells[2]), re.findall(r"`(\w+)`", cells[3])


ROWS = [pytest.param(*row, id=f"{row[0]}: {row[1]}") for row in equations()]


@pytest.mark.parametrize(("package", "paper", "functions", "tests"), ROWS)
def test_row_names_public_functions_and_their_tests(package, paper, functions, tests):
    public = importlib.import_module(package.replace("-", "_")).__all__
    assert functions
    assert not set(functions) - set(public)
    assert tests
    assert not [name for name in tests if not (ROOT / "packages" / package / "tests" / f"{name}.py").is_file()]


def test_the_tables_are_read():
    assert len(ROWS) > 10
