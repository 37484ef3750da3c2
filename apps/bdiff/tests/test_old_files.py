"""Runs that version 0.1 wrote: a specification was called a script, `age_bonus` was `seniority`."""

import json
import shutil
from pathlib import Path

import pytest

from bdiff import Sampling
from bdiff.files import load_checked
from bdiff.run import ChunkSpec, RunSpec, RunState
from bdiff.run.model_files import digests

OLD = Path(__file__).with_name("written_by_0.1")
"""A run that was killed after two of three chunks, with its memory."""


@pytest.fixture
def old_run(tiny_model, tmp_path):
    """The run, as if it were of this machine's tiny model."""
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    file = folder / "state" / "script.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "model": str(tiny_model), "weights": digests(tiny_model)}))
    return folder


def test_a_specification_of_an_older_version_is_read(old_run):
    spec = RunState(old_run).spec()
    prompts = ["a fox at home", "a fox at sea", "a fox at home"]
    assert spec.chunks == tuple(ChunkSpec(prompt, 4) for prompt in prompts)
    assert (spec.sampling.age_bonus, spec.sampling.num_sink, spec.sampling.steps) == (0.1, 1, 1)
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("with_memory", [True, False])
def test_a_run_of_an_older_version_is_gone_on_with(run, old_run, with_memory):
    if not with_memory:
        shutil.rmtree(old_run / "state" / "memory")
    kept = [load_checked(file) for file in sorted((OLD / "state" / "chunks").iterdir())]
    code, _, said = run("resume", old_run)
    assert code == 0, said
    record = json.loads((old_run / "run.json").read_text())
    assert (record["complete"], record["video"]["chunks"], record["sampling"]["age_bonus"]) == (True, 3, 0.1)
    assert "age_bonus=0.1" in record["policy"]
    for index, (tensors, note) in enumerate(kept):
        again, noted = load_checked(old_run / "state" / "chunks" / f"{index:06d}.safetensors")
        assert noted == note
        assert all(tensors[name].equal(again[name]) for name in tensors)
    code, _, said = run("reroll", old_run, "--from", 1, "--out", "another")
    assert code == 0, said


def test_settings_of_an_older_version_are_read():
    assert Sampling.from_json({"seniority": 0.15, "steps": 4}) == Sampling(age_bonus=0.15, steps=4)
    with pytest.raises(ValueError, match="unknown setting 'senority'"):
        Sampling.from_json({"senority": 0.15})
