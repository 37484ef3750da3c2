import ast
import re
from pathlib import Path

import pytest

import kvbank


def test_every_public_name_exists_once():
    assert len(set(kvbank.__all__)) == len(kvbank.__all__)
    assert set(kvbank.__all__) <= set(vars(kvbank))


def test_the_docs_page_lists_every_public_name():
    page = Path(__file__).parents[3] / "docs" / "api" / "kvbank.md"
    if not page.exists():
        pytest.skip("the docs are not beside an installed package")
    assert sorted(re.findall(r"^::: kvbank\.(\w+)$", page.read_text(), re.MULTILINE)) == sorted(kvbank.__all__)


def test_the_docs_page_shows_the_methods_that_a_class_inherits():
    page = Path(__file__).parents[3] / "docs" / "api" / "kvbank.md"
    if not page.exists():
        pytest.skip("the docs are not beside an installed package")
    assert "save" not in vars(kvbank.KVBank)
    assert "::: kvbank.KVBank\n    options:\n      inherited_members: true\n" in page.read_text()


def test_importing_the_package_does_not_import_faiss():
    for path in Path(kvbank.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                )
                assert "faiss" not in [name.split(".")[0] for name in names]
