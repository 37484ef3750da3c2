import gc

import torch

from kvbank import Full, KVBank
from kvbank.stores.read_buffers import ReadBuffers, Shape

CPU = torch.device("cpu")


def make(buffers, *sizes):
    return buffers.make([Shape(size, torch.float32, CPU) for size in sizes])


def test_memory_is_used_again_when_the_last_tensor_is_gone():
    buffers = ReadBuffers()
    one, other = make(buffers, (3, 50), (2, 100))
    place, view = one.data_ptr(), other[1:, :7]
    del one, other
    gc.collect()
    (meanwhile,) = make(buffers, (350,))
    assert meanwhile.data_ptr() != place
    del view, meanwhile
    gc.collect()
    places = set()
    for _ in range(5):
        (again,) = make(buffers, (350,))
        places.add(again.data_ptr())
        del again
    assert len(places) <= 2


def test_tensors_of_one_read_do_not_overlap():
    shapes = [Shape((2, n, 3), dtype, CPU) for n in range(5) for dtype in (torch.bfloat16, torch.float64)]
    tensors = ReadBuffers().make(shapes)
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    for number, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
        assert (tensor.shape, tensor.dtype) == (shape.sizes, shape.dtype)
        assert tensor.data_ptr() % 64 == 0 or tensor.numel() == 0
        assert bool((tensor == number).all())


def test_a_much_smaller_read_does_not_keep_the_memory_of_a_large_one():
    buffers = ReadBuffers()
    make(buffers, (1_000_000,))
    gc.collect()
    (small,) = make(buffers, (1000,))
    del small
    gc.collect()
    assert sum(map(len, buffers._spare)) < 100_000


def test_what_a_reader_holds_is_never_written_by_a_later_read(make_layers):
    bank, held = KVBank(policy=Full()), []
    for chunk in range(5):
        recall = bank.read(chunk, embedding=None)
        held.append((recall, [layer.key.clone() for layer in recall.layers]))
        bank.write(chunk, make_layers(chunk), embedding=None)
    for recall, copies in held:
        assert all(torch.equal(layer.key, copy) for layer, copy in zip(recall.layers, copies, strict=True))


def test_a_tensor_outlives_the_bank(make_layers):
    bank = KVBank(policy=Full())
    bank.write(0, make_layers(0), embedding=None)
    key = bank.read(1, embedding=None).layers[0].key
    del bank
    gc.collect()
    assert torch.equal(key, make_layers(0)[0].key)
