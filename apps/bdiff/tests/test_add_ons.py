"""Commands of other distributions: found by their entry points, and refused in one line where they cannot run."""

import re
import sys

import pytest

from bdiff.cli import add_ons
from bdiff.cli.main import main

MODULE = """
import click

number = 3

@click.command()
def command():
    print("the add-on ran")
"""
FAULTS = {
    "import": ("absent_module:command", "cannot be imported: No module named 'absent_module'"),
    "name": ("added_module:absent", "cannot be imported: module 'added_module' has no attribute 'absent'"),
    "kind": ("added_module:number", "(added_module:number) is 3; expected a click.Command"),
    "syntax": ("added_syntax:command", "cannot be imported: "),
    "error": ("added_error:command", "cannot be imported: no such device"),
}


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Adds entry points to the environment; each is a name and what it stands for."""
    (tmp_path / "added_module.py").write_text(MODULE)
    (tmp_path / "added_syntax.py").write_text("def command(:\n")
    (tmp_path / "added_error.py").write_text("raise RuntimeError('no such device')\n")

    def add(**commands):
        folder = tmp_path / "added-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\nSummary: An add-on\n")
        lines = [f"{name} = {value}\n" for name, value in commands.items()]
        (folder / "entry_points.txt").write_text(f"[{add_ons.GROUP}]\n{''.join(lines)}")

    monkeypatch.syspath_prepend(tmp_path)
    add_ons._add_ons.cache_clear()
    yield add
    add_ons._add_ons.cache_clear()
    for name in ("added_module", "added_syntax", "added_error"):
        sys.modules.pop(name, None)


def run(*arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_a_command_is_shown_by_its_summary_and_runs(added, capsys):
    added(extra="added_module:command")
    assert re.search(r"^  extra +An add-on\.$", run("--help", capsys=capsys)[1], re.MULTILINE)
    assert "added_module" not in sys.modules
    assert run("extra", capsys=capsys)[:2] == (0, "the add-on ran\n")


def test_an_own_command_cannot_be_replaced(added, capsys):
    added(sample="added_module:command")
    code, out, _ = run("sample", "--help", capsys=capsys)
    assert code == 0
    assert "Make a video, chunk by chunk." in out


@pytest.mark.parametrize("fault", FAULTS)
def test_a_command_that_cannot_run_ends_in_one_line(added, capsys, fault):
    value, said = FAULTS[fault]
    added(extra=value)
    code, _, error = run("extra", capsys=capsys)
    assert code == 2
    assert said in error
    assert error.count("\n") == 1
    assert run("--help", capsys=capsys)[0] == 0
