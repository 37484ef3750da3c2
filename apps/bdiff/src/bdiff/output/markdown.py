"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Literal


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, align: Literal["left", "right"] = "left"
) -> str:
    """A table in Markdown, without a newline at its end.

    Args:
        heads: One for each column.
        rows: A cell for each column, in Markdown: nothing is escaped.
        align: Of every column but the first, which is to the left.
    """
    rule = "|---" + {"left": "|---", "right": "|---:"}[align] * (len(heads) - 1) + "|"
    return "\n".join([_line(heads), rule, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
