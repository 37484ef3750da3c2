"""What is no tensor, or holds numbers that are not finite, is refused before anything is kept of it."""

import os
import stat
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvbank import (
    DynamicSparse,
    ExactIndex,
    FaissIndex,
    Full,
    Int8,
    KVBank,
    LayerKV,
    Rolling,
    SemanticSparse,
    Sink,
    TieredStore,
    salient_tokens,
)
from kvbank.inputs import is_finite
from kvbank.policies import DeepSink

pytestmark = pytest.mark.usefixtures("unhooked")

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
NO_TENSORS = {
    "array": (lambda x: x.numpy(), r"numpy\.ndarray; expected a torch\.Tensor: torch\.from_numpy\({}\) makes one"),
    "list": (lambda x: x.tolist(), r"list; expected a torch\.Tensor: torch\.tensor\({}\) makes one"),
    "tuple": (lambda x: tuple(x.tolist()), r"tuple; expected a torch\.Tensor: torch\.tensor\({}\) makes one"),
    "text": (str, r"str; expected a torch\.Tensor"),
    "thing": (lambda x: SimpleNamespace(), r"types\.SimpleNamespace; expected a torch\.Tensor"),
}  # fmt: skip
EMBEDDING = torch.ones(5)


def parts():
    generator = torch.Generator().manual_seed(0)
    key, value, query = (torch.randn(1, 2, 6, 4, generator=generator) for _ in range(3))
    return {"key": key, "value": value, "position": torch.zeros(6, 3, dtype=torch.int64), "query": query}


@pytest.mark.parametrize("kind", NO_TENSORS)
@pytest.mark.parametrize("name", ["key", "value", "position", "query"])
def test_a_layer_is_made_of_tensors(kind, name):
    change, words = NO_TENSORS[kind]
    given = parts()
    given[name] = change(given[name])
    with pytest.raises(TypeError, match=rf"^{name} is a {words.format(name)}"):
        LayerKV(**given)
    bank = KVBank(policy=Full())
    with pytest.raises(TypeError, match=rf"^{name} of layer 1 of chunk 0 is a {words.format(name)}"):
        bank.write(0, [LayerKV(**parts()), SimpleNamespace(**given)], embedding=EMBEDDING)
    assert bank.next_index == 0
    assert bank.nbytes == 0


@pytest.mark.parametrize("kind", NO_TENSORS)
def test_an_embedding_is_a_tensor(kind):
    change, words = NO_TENSORS[kind]
    match = rf"^embedding is a {words.format('embedding')}"
    bank = KVBank(policy=Full())
    bank.write(0, [LayerKV(**parts())], embedding=EMBEDDING)
    given = change(EMBEDDING)
    for call in (
        lambda: bank.write(1, [LayerKV(**parts())], embedding=given),
        lambda: bank.read(1, embedding=given),
        lambda: bank.policy_context(1, embedding=given),
        lambda: bank.prefetch(1, embedding=given),
        lambda: ExactIndex().add(0, given),
        lambda: ExactIndex().search(given),
        lambda: FaissIndex().add(0, given),
        lambda: FaissIndex().search(given, 1),
    ):
        with pytest.raises(TypeError, match=match):
            call()
    assert bank.next_index == 1


@pytest.mark.parametrize("kind", NO_TENSORS)
@pytest.mark.parametrize("name", ["query", "key"])
def test_salience_is_of_tensors(kind, name):
    change, words = NO_TENSORS[kind]
    given = {"query": parts()["query"], "key": parts()["key"]}
    given[name] = change(given[name])
    with pytest.raises(TypeError, match=rf"^{name} is a {words.format(name)}"):
        salient_tokens(**given, coverage=0.9)


@pytest.mark.parametrize(
    "policy", [Full(), Rolling(2), Sink(1, 2), SemanticSparse(top_l=1, num_recent=1), DynamicSparse(2, 0.9)]
)
def test_policies_take_arrays_of_similarities(policy):
    similarity = [0.5, 0.25, 0.75, 0.1]
    assert policy.select(4, np.array(similarity)) == policy.select(4, similarity)
    assert policy.select(4, torch.tensor(similarity)) == policy.select(4, similarity)


@pytest.mark.parametrize("name", ["key", "value", "query"])
def test_integers_are_no_keys(name):
    given = parts()
    given[name] = given[name].long()
    with pytest.raises(TypeError, match=f"^{name} is torch.int64; expected floating numbers"):
        LayerKV(**given)


@pytest.mark.parametrize("layer", [(1, 2, 3), {"key": 1}, None, torch.ones(2)])
def test_a_layer_that_lacks_something_is_named(layer):
    with pytest.raises(TypeError, match=r"^layer 0 of chunk 0 is a \w+ without key, .*; expected a LayerKV"):
        KVBank(policy=Full()).write(0, [layer], embedding=EMBEDDING)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@given(place=st.integers(0, 999))
def test_one_number_anywhere_is_found(dtype, bad, place):
    x = torch.linspace(-3, 3, 1000).to(dtype)
    assert is_finite(x)
    assert is_finite(x, x)
    y = x.clone()
    y[place] = torch.tensor(bad).to(dtype)
    assert is_finite(y) == bool(y.float().isfinite().all())
    assert is_finite(x, y) == is_finite(y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sum_that_overflows_is_no_proof(dtype):
    assert is_finite(torch.full((100,), torch.finfo(dtype).max, dtype=dtype))
    assert is_finite(torch.zeros(0))


POLICIES = {
    "full": (Full(), {"key", "value"}),
    "rolling": (Rolling(2), {"key", "value"}),
    "semantic": (SemanticSparse(top_l=1, num_recent=1, coverage=0.9), {"key", "value", "query"}),
    "deep sink": (DeepSink(num_tokens=3), {"key", "value", "query"}),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["key", "value", "query"])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
@pytest.mark.parametrize("quantization", [None, Int8()])
def test_numbers_that_are_not_finite_are_refused_by_name(policy, name, bad, quantization):
    chosen, used = POLICIES[policy]
    given = parts()
    given[name][0, 1, 3, 2] = bad
    bank = KVBank(policy=chosen, quantization=quantization)
    layers = [LayerKV(**parts()), LayerKV(**given)]
    if name not in used:  # queries are thrown away
        bank.write(0, layers, embedding=EMBEDDING)
        return
    with pytest.raises(ValueError, match=f"^{name} of layer 1 of chunk 0 hold numbers that are not finite"):
        bank.write(0, layers, embedding=EMBEDDING)
    assert (bank.next_index, bank.nbytes) == (0, 0)
    bank.write(0, [LayerKV(**parts())], embedding=EMBEDDING)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("policy", [Rolling(2), SemanticSparse(top_l=1, num_recent=1)])
def test_an_embedding_that_is_not_finite_is_refused_by_chunk(policy, bad):
    bank = KVBank(policy=policy)
    bank.write(0, [LayerKV(**parts())], embedding=EMBEDDING)
    with pytest.raises(ValueError, match=r"^embedding of chunk 1 holds numbers that are not finite"):
        bank.write(1, [LayerKV(**parts())], embedding=torch.tensor([bad] * 5))
    with pytest.raises(ValueError, match="embedding holds NaN or infinity"):
        bank.read(1, embedding=torch.tensor([bad] * 5))
    assert bank.next_index == 1


def test_checks_leave_gradients_alone():
    given = parts()
    given["key"].requires_grad_()
    bank = KVBank(policy=Full())
    bank.write(0, [LayerKV(**given)], embedding=EMBEDDING)
    bank.read(1, embedding=EMBEDDING).layers[0].key.sum().backward()
    assert torch.equal(given["key"].grad, torch.ones_like(given["key"]))


@pytest.mark.parametrize(
    ("metadata", "kind", "words"),
    [
        ({"latent": np.ones(3)}, TypeError, r"ndarray is not JSON serializable.*tolist\(\)"),
        ({"latent": torch.ones(3)}, TypeError, r"Tensor is not JSON serializable.*tolist\(\)"),
        ({"latent": [float("nan")]}, ValueError, "metadata cannot be written as JSON"),
    ],
)
def test_metadata_that_is_no_json_is_refused(metadata, kind, words):
    bank = KVBank(policy=Full())
    with pytest.raises(kind, match=words):
        bank.write(0, [LayerKV(**parts())], embedding=EMBEDDING, metadata=metadata)
    with pytest.raises(kind, match=words):
        bank.annotate(0, metadata)
    assert bank.next_index == 0


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_every_file_has_the_mode_that_the_umask_says(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        bank = KVBank(policy=Full()).open(tmp_path / "bank")
        bank.write(0, [LayerKV(**parts())], embedding=EMBEDDING)
        bank.save(tmp_path / "snapshot.safetensors")
        store = TieredStore(disk_folder=tmp_path / "disk", device_budget=0, host_budget=0, num_recent=0)
        spilled = KVBank(policy=Full(), store=store)
        spilled.write(0, [LayerKV(**parts())], embedding=EMBEDDING)
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) == 4
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {mode}
        bank.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize("index", ["0", 0.0, None, True, [0]])
def test_the_number_of_a_chunk_is_a_whole_number(index):
    bank = KVBank(policy=Rolling(num_chunks=2))
    for call in (bank.read, bank.prefetch, lambda number, **rest: bank.write(number, [], **rest)):
        with pytest.raises(TypeError, match=r"index is .*; expected a whole number, the number of a chunk"):
            call(index, embedding=torch.ones(4))


@pytest.mark.parametrize("layers", [None, 3])
def test_layers_are_some(layers):
    with pytest.raises(TypeError, match=r"layers is a .*; expected a LayerKV for each layer of the model"):
        KVBank(policy=Rolling(num_chunks=2)).write(0, layers, embedding=None)
