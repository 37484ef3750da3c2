"""The benches run, at toy sizes."""

import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def bench():
    file = Path(__file__).parents[1] / "benches" / "captions.py"
    spec = importlib.util.spec_from_file_location("captions", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_captions_are_different_and_always_the_same(bench):
    texts = bench.captions(3000)
    assert len(set(texts)) == 3000
    assert texts[:100] == bench.captions(100)
    assert len({text.split()[-1] for text in texts}) > 50


def test_embeddings_are_made_once(bench, tmp_path, monkeypatch):
    asked = []

    def encode(texts):
        asked.append(len(texts))
        return torch.tensor([[float(len(text))] for text in texts])

    monkeypatch.setattr(bench, "encoder", lambda: encode)
    monkeypatch.setattr(bench, "PART", 4)
    texts = bench.captions(10)
    for _ in range(2):
        found = bench.embeddings(texts, tmp_path)
        assert found[:, 0].tolist() == [len(text) for text in texts]
    assert asked == [4, 4, 2]


def test_a_flat_index_finds_what_exact_search_finds(bench):
    vectors = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    report = bench.compare(vectors, num_queries=20, specs=["flat"])
    assert report["captions"] == 100
    assert report["results"]["flat"]["recall"] == 1.0
    assert "| `flat` |" in bench.table(report)
