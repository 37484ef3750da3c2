"""Banks that version 0.1 wrote, when `age_bonus` was called `seniority`, are gone on with."""

import shutil
from pathlib import Path

import pytest
import torch

from kvbank import KVBank, LayerKV, SemanticSparse

OLD = Path(__file__).with_name("written_by_0.1")
POLICY = SemanticSparse(top_l=1, num_recent=1, coverage=0.7, age_bonus=0.25, num_sink=1)


def chunk(index):
    """The layers and the embedding that were written."""
    generator = torch.Generator().manual_seed(index)
    key, value, query = (torch.randn(1, 2, 6, 8, generator=generator) for _ in range(3))
    position = torch.cartesian_prod(torch.arange(1), torch.arange(2), torch.arange(3))
    embedding = torch.nn.functional.normalize(torch.randn(4, generator=generator), dim=0)
    return [LayerKV(key, value, position, query)], embedding


@pytest.fixture
def written_anew():
    bank = KVBank(policy=POLICY, seed=3)
    for index in range(4):
        layers, embedding = chunk(index)
        bank.read(index, embedding=embedding)
        bank.write(index, layers, embedding=embedding)
    return bank


@pytest.mark.parametrize("kind", ["snapshot", "folder", "opened"])
def test_a_bank_of_an_older_version_goes_on_as_one_of_this(kind, written_anew, tmp_path):
    folder = shutil.copytree(OLD / "folder", tmp_path / "folder")
    if kind == "opened":
        bank = KVBank(policy=POLICY, seed=3).open(folder)
    else:
        bank = KVBank.load(folder if kind == "folder" else OLD / "bank.safetensors")
    assert bank.policy == POLICY
    assert bank.trace == written_anew.trace
    layers, embedding = chunk(4)
    for each in (bank, written_anew):
        each.write(4, layers, embedding=embedding)
    found, expected = (each.read(5, embedding=chunk(5)[1]) for each in (bank, written_anew))
    assert (found.chunks, found.kinds, found.spans) == (expected.chunks, expected.kinds, expected.spans)
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert torch.equal(one.key, other.key)
        assert torch.equal(one.value, other.value)
    bank.close()
