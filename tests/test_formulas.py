"""Every formula of the docs can be drawn."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mathml():
    spec = importlib.util.spec_from_file_location("docs_mathml", ROOT / "docs" / "mathml.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks():
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for part in page.read_text(encoding="utf-8").split("```math\n")[1:]:
            yield pytest.param(part.split("```")[0], id=page.stem)


@pytest.mark.parametrize("source", list(blocks()))
def test_a_formula_is_drawn(mathml, source):
    assert mathml.block(source, "math", "math", {}, None).count("<math") == len(source.strip().split("\n\n"))


def test_a_command_that_is_not_known_is_named(mathml):
    with pytest.raises(ValueError, match=r"has \\lVert, \\rVert, which cannot be drawn"):
        mathml.mathml(r"\big\lVert x \big\rVert")
