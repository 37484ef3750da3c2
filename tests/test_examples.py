"""Runs what the documentation shows: the scripts of docs/examples and every fenced python block."""

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "packages/*/README.md", "apps/*/README.md")
    for page in ROOT.glob(pattern)
)
SCRIPTS = sorted((ROOT / "docs" / "examples").glob("*.py"))
# A block that needs weights, a GPU or a user's own files opens with ```py and is not run.
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def fenced_blocks(page):
    """Yields (line number, code) of each python block of a page."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        yield text.count("\n", 0, match.start(1)), match[1]


BLOCKS = [
    pytest.param(page, line, code, id=f"{page.relative_to(ROOT)}:{line}")
    for page in PAGES
    for line, code in fenced_blocks(page)
]


@pytest.mark.parametrize(("page", "line", "code"), BLOCKS)
def test_fenced_block_runs_alone(page, line, code, tmp_path, monkeypatch):
    module = types.ModuleType("documented_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    monkeypatch.chdir(tmp_path)
    exec(compile("\n" * line + code, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_runs(script, tmp_path):
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_script_is_short(script):
    assert len(script.read_text().splitlines()) < 60


def test_every_readme_shows_code_that_runs():
    shown = {block.values[0] for block in BLOCKS}
    silent = [page for page in ROOT.glob("packages/*/README.md") if page not in shown]
    assert not silent, f"no ```python block in {silent}"
