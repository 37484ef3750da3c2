"""The pages of docs/reference say what the commands say."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def command_pages():
    spec = importlib.util.spec_from_file_location("docs_command_pages", ROOT / "docs" / "command_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(command_pages):
    return command_pages.pages()


def test_pages_are_those_of_the_commands(written):
    there = {page.name: page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md")}
    assert there == written, "the commands have changed: run `python docs/command_pages.py`"


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("bdiff.md", "bdiff sample"),
        ("bdiff-train.md", "bdiff train model"),
        ("bdiff-bench.md", "bdiff bench memory"),
        ("bdiff-bench.md", "vde"),
        ("studies.md", "python -m studies.ablation"),
    ],
)
def test_a_command_has_its_section(written, page, heading):
    assert f"\n## {heading}\n" in written[page]


def test_old_spellings_are_not_shown(written):
    assert "--age-bonus" in written["bdiff.md"]
    assert "--seniority" not in "".join(written.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a folder_of_videos/*.mp4", r"a folder\_of\_videos/\*.mp4"),
        ("[default: 1<=x]", r"\[default: 1&lt;=x\]"),
        ("run `a_b*c`", "run `a_b*c`"),
    ],
)
def test_help_is_shown_as_it_stands(command_pages, text, shown):
    assert command_pages._escaped(text) == shown
