"""Tables are written as the results pages in the docs have them."""

import pytest

from bdiff.output.markdown import markdown_table


@pytest.mark.parametrize(("align", "rule"), [("left", "|---|---|---|"), ("right", "|---|---:|---:|")])
def test_cells_are_as_they_are_and_empty_ones_are_a_space(align, rule):
    rows = [["**ours**", "1.00", ""], ["*theirs*", "", "2"]]
    table = markdown_table(["", "s a chunk", "held"], rows, align=align)
    assert table.splitlines() == ["| | s a chunk | held |", rule, "| **ours** | 1.00 | |", "| *theirs* | | 2 |"]


def test_a_table_may_have_no_rows():
    assert markdown_table(["only"], []) == "| only |\n|---|"
