"""Commands that became studies say in one line what to run instead."""

import pytest
from click.testing import CliRunner

from bdiff_bench.cli import bench_group
from bdiff_bench.moved import STUDIES


@pytest.mark.parametrize(("old", "study"), STUDIES.items())
@pytest.mark.parametrize("arguments", [(), ("--out", "x", "--tiny"), ("a", "b")])
def test_an_old_name_says_what_to_run(run, old, study, arguments):
    code, out, err = run("bench", old, *arguments)
    assert (code, out) == (2, "")
    assert err == f"bdiff: bdiff bench {old} has moved; from a checkout, run python -m studies.{study}\n"


def test_the_page_of_the_ablation_says_what_to_run(run):
    code, out, err = run("bench", "page", "page.md", "--title", "T", "--ablation", "summary.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "python -m studies.ablation.write_page PAGE --title TITLE --summary FILE" in err


def test_old_names_are_hidden():
    shown = CliRunner().invoke(bench_group, ["--help"]).output
    assert "memory" in shown
    assert not any(f"  {old} " in shown for old in STUDIES)
