"""Attention kernels from the command line to the model."""

import json

import pytest
import torch

from bdiff import defaults
from bdiff.cli.main import main
from bdiff.run import RunSpec, SampleConfig, load_run, make_spec
from bdiff_core import Storyboard
from bdiff_core.attention import BACKENDS


def make_config(model, **options):
    board = Storyboard.from_prompts(["a fox at home"])
    return SampleConfig(storyboard=board, model=model, settings={"steps": 1}).changed(**options)


def test_the_command_knows_every_kernel():
    assert ("auto", *BACKENDS) == defaults.ATTENTIONS


@pytest.mark.parametrize("command", ["sample", "plan"])
def test_a_kernel_that_cannot_run_is_refused_in_one_line(command, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([command, "--model", str(tiny_model), "--prompt", "a fox", "--attention", "flash"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said == "bdiff: attention 'flash' runs on cuda and not on cpu: compute there, or take 'sdpa'\n"
    assert not list(tmp_path.iterdir())


def test_a_script_holds_the_kernel_that_auto_found(tiny_model):
    assert make_spec(make_config(tiny_model)).attention == "sdpa"


def test_the_chosen_kernel_is_that_of_the_model(tiny_model, tmp_path):
    spec = make_spec(make_config(tiny_model, attention="flex"))
    parts = load_run(RunSpec.from_json(json.loads(json.dumps(spec.to_json()))), tmp_path)
    assert parts.model.attention == "flex"


def test_a_script_of_before_there_was_a_choice_is_read(tiny_model):
    values = make_spec(make_config(tiny_model)).to_json()
    del values["attention"]
    assert RunSpec.from_json(values).attention == "sdpa"


def test_a_script_whose_kernel_is_gone_is_an_error(tiny_model, tmp_path):
    values = make_spec(make_config(tiny_model)).to_json() | {"attention": "xformers"}
    with torch.no_grad(), pytest.raises(ValueError, match="attention 'xformers' runs on cuda"):
        load_run(RunSpec.from_json(values), tmp_path)
