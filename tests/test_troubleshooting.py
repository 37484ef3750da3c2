"""The error messages that docs/troubleshooting.md explains are those of the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
HOLE = "\0"


def text_of(node):
    """The text of a string or f-string, with a hole for each value; None if it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (text_of(node.left) or HOLE) + (text_of(node.right) or HOLE)
    return None


@cache
def texts():
    """Every text in the code of packages and apps."""
    files = sorted(ROOT.glob("*/*/src/**/*.py"))
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return frozenset(text for tree in trees for node in ast.walk(tree) if (text := text_of(node)) is not None)


def is_in_code(message):
    """Whether a text of the code has all parts of a message, in order."""
    pieces = [piece.strip() for piece in message.split("…")]
    pattern = re.compile(".*".join(map(re.escape, filter(None, pieces))), re.DOTALL)
    return any(pattern.search(text) for text in texts())


MESSAGES = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_in_the_code(message):
    assert is_in_code(message)


def test_a_message_that_is_nowhere_is_found():
    assert len(MESSAGES) > 20
    assert not is_in_code("this line stands in … no program")
