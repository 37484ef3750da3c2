import pytest
import torch

from kvbank import KVBank, MemoryStore, SemanticSparse
from kvbank.stores import Store


def test_a_store_gives_back_what_was_put(make_layers):
    store = MemoryStore(device="cpu")
    layers = tuple(make_layers(0))
    store.put(0, layers)
    store.prefetch([0])
    assert isinstance(store, Store)
    assert all(torch.equal(got.key, put.key) for got, put in zip(store.get(0), layers, strict=True))
    assert store.nbytes == sum(layer.nbytes for layer in layers)
    store.remove(0)
    assert store.nbytes == 0


def test_mistakes_are_named(make_layers):
    store = MemoryStore()
    store.put(3, tuple(make_layers(0)))
    with pytest.raises(ValueError, match="chunk 3 is held already"):
        store.put(3, tuple(make_layers(0)))
    for call in (store.get, store.remove, lambda chunk: store.prefetch([chunk])):
        with pytest.raises(ValueError, match=r"chunk 4 is not held; the store has \[3\]"):
            call(4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("prefetch", [False, True])
def test_a_gpu_model_may_keep_its_past_in_host_memory(make_layers, prefetch):
    reads = []
    for store in (MemoryStore(), MemoryStore(device="cpu")):
        bank = KVBank(policy=SemanticSparse(top_l=1, num_recent=1, coverage=0.8), store=store)
        for chunk in range(4):
            layers = [
                type(layer)(layer.key.cuda(), layer.value.cuda(), layer.position.cuda(), query=layer.query.cuda())
                for layer in make_layers(chunk)
            ]
            bank.write(chunk, layers, embedding=torch.ones(3))
        if prefetch:
            bank.prefetch(4, embedding=torch.ones(3))
        reads.append(bank.read(4, embedding=torch.ones(3)))
    assert store.get(0, home=False)[0].key.device.type == "cpu"
    for on_device, from_host in zip(reads[0].layers, reads[1].layers, strict=True):
        assert from_host.key.is_cuda
        assert torch.equal(on_device.key, from_host.key)
        assert torch.equal(on_device.value, from_host.value)
        assert torch.equal(on_device.position, from_host.position)
