"""Checkpoints that are cut off, empty or of something else are named in one line."""

import json
import warnings
from fractions import Fraction

import pytest
import torch
from torch import nn

from bdiff_train.engine.checkpoint import Checkpoints
from bdiff_train.engine.distributed import DistributedModel, Ranks
from bdiff_train.engine.ema import WeightAverage
from bdiff_train.engine.shards import TrainingState, write_shards

FACTS = {"step": 3, "seconds": 1.5, "evaluation": {"loss": 0.5}}


def state_of(model):
    distributed = DistributedModel(model, Ranks(), sharding="blocks")
    average = WeightAverage(model, decay=0.9)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return TrainingState(distributed=distributed, average=average, optimizers=[optimizer])


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path, Ranks())
    made.save(state_of(nn.Linear(4, 8)), FACTS)
    return made


def test_what_was_saved_is_read(checkpoints):
    state = state_of(nn.Linear(4, 8))
    assert checkpoints.load(state) == FACTS


def test_the_file_is_for_whom_the_umask_lets(checkpoints, tmp_path):
    (tmp_path / "plain").touch()
    assert checkpoints.file.stat().st_mode == (tmp_path / "plain").stat().st_mode


class Pair(nn.Module):
    """Two parts that take turns, under names of the caller."""

    def __init__(self, *names):
        super().__init__()
        self.first, self.last = names
        for name in names:
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x):
        return self.get_submodule(self.last)(self.get_submodule(self.first)(x))


def test_a_file_with_parameter_names_of_before_is_read(tmp_path):
    old = state_of(Pair("model", "judge"))
    guard = {"bad": 1, "past": {"model.": [(1.0, 2.0)], "judge.": [(3.0, 4.0)]}}
    Checkpoints(tmp_path, Ranks()).save(old, {**FACTS, "guard": guard})
    new = state_of(Pair("generator", "critic"))
    renamed = Checkpoints(tmp_path, Ranks(), old_names={"model.": "generator.", "judge.": "critic."})
    facts = renamed.load(new)
    assert facts["guard"] == {"bad": 1, "past": {"generator.": [(1.0, 2.0)], "critic.": [(3.0, 4.0)]}}
    assert_same(new, old)
    with pytest.raises(ValueError, match=r"is of another model: it has critic\.bias nowhere"):
        Checkpoints(tmp_path, Ranks()).load(new)


def test_shards_with_parameter_names_of_before_are_read(tmp_path):
    old, new = state_of(Pair("model", "judge")), state_of(Pair("generator", "critic"))
    folder = tmp_path / "checkpoint-000000003"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process writes shards here
        write_shards(old, folder)
    (folder / "run.json").write_text(json.dumps(FACTS))
    with pytest.raises(ValueError, match=r"checkpoint-000000003 is of another model: it has no (generator|critic)\."):
        Checkpoints(tmp_path, Ranks()).load(new)
    assert Checkpoints(tmp_path, Ranks(), old_names={"model.": "generator.", "judge.": "critic."}).load(new) == FACTS
    assert_same(new, old)


def assert_same(new, old):
    names = {"generator": "model", "critic": "judge"}
    stored = old.distributed.model.state_dict()
    for name, value in new.distributed.model.state_dict().items():
        part, rest = name.split(".")
        assert torch.equal(value, stored[f"{names[part]}.{rest}"]), name
        assert torch.equal(new.average.values[name], old.average.values[f"{names[part]}.{rest}"]), name
    moments = [[entry["exp_avg"] for entry in state.optimizers[0].state.values()] for state in (new, old)]
    assert all(torch.equal(one, other) for one, other in zip(*moments, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_cut_checkpoint_is_named(checkpoints, share):
    data = checkpoints.file.read_bytes()
    checkpoints.file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is cut off; delete it to train from the start, or give"):
        checkpoints.load(state_of(nn.Linear(4, 8)))


@pytest.mark.parametrize(
    "content",
    [{}, [1, 2], {"model": 1}, {"a": Fraction(1, 2)}, torch.zeros(3), "words"],
    ids=lambda x: type(x).__name__,
)
def test_what_is_no_checkpoint_is_named(checkpoints, content):
    torch.save(content, checkpoints.file)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged, or was not written by this training") as raised:
        checkpoints.load(state_of(nn.Linear(4, 8)))
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04.", b"<html>", bytes(1000)])
def test_other_files_are_named(checkpoints, content):
    checkpoints.file.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is .*; delete it"):
        checkpoints.load(state_of(nn.Linear(4, 8)))


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("model", {}),
        ("average", {}),
        ("optimizers", [{}]),
        ("optimizers", []),
        ("random", torch.zeros(2)),
        ("random", 3),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_named(checkpoints, name, changed):
    content = torch.load(checkpoints.file, weights_only=True)
    torch.save(content | {name: changed}, checkpoints.file)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is "):
        checkpoints.load(state_of(nn.Linear(4, 8)))


def test_a_checkpoint_of_another_model_says_which_parameter_differs(checkpoints):
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt is of another model: it has bias \(8,\), this one \(2,\); go on"
    ):
        checkpoints.load(state_of(nn.Linear(4, 2)))


@pytest.mark.parametrize("facts", ["", "{", "[]", '{"step": 4}', "[" * 100_000])
def test_shards_whose_facts_are_damaged_are_named(checkpoints, tmp_path, facts):
    folder = tmp_path / "checkpoint-000000004"
    folder.mkdir()
    (folder / "run.json").write_text(facts)
    with pytest.raises(ValueError, match="checkpoint-000000004 is damaged, or was not written by this training"):
        checkpoints.load(state_of(nn.Linear(4, 8)))


@pytest.mark.parametrize("metadata", [None, b"", b"hello", b"\x80\x04."])
def test_shards_that_are_damaged_are_named(checkpoints, tmp_path, metadata):
    folder = tmp_path / "checkpoint-000000004"
    folder.mkdir()
    (folder / "run.json").write_text('{"step": 4, "seconds": 1.0, "evaluation": {}}')
    if metadata is not None:
        (folder / ".metadata").write_bytes(metadata)
    with pytest.raises(ValueError, match="checkpoint-000000004 "):
        checkpoints.load(state_of(nn.Linear(4, 8)))


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
        torch.OutOfMemoryError("no"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_what_is_no_damage_does_not_advise_to_delete_a_checkpoint(checkpoints, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)) as raised:
        checkpoints.load(state_of(nn.Linear(4, 8)))
    assert raised.value is error
