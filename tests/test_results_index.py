"""The headline figures of the results stand on the pages that they name."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "results"
INDEX = FOLDER / "index.md"


def headlines():
    """Yields (what, numbers of figure and interval, page) for each row of the first table that names a page."""
    table = INDEX.read_text(encoding="utf-8").split("\n\n")[1]
    for line in table.splitlines()[2:]:
        what, figure, interval, _, page = (cell.strip() for cell in line.strip("|").split("|"))
        if page:
            yield what, re.findall(r"[-+]?[\d.]+", f"{figure} {interval}"), re.search(r"\((.+\.md)\)", page)[1]


ROWS = [pytest.param(*row, id=row[0]) for row in headlines()]


@pytest.mark.parametrize(("what", "numbers", "page"), ROWS)
def test_a_headline_figure_is_on_its_page(what, numbers, page):
    text = (FOLDER / page).read_text(encoding="utf-8")
    assert numbers
    missing = [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", text)]
    assert not missing


def test_the_page_opens_with_the_table():
    first, second, *_ = INDEX.read_text(encoding="utf-8").split("\n\n")
    assert first == "# Results"
    assert second.startswith("| what | figure | interval | seeds | page |")
    assert len(ROWS) > 15
