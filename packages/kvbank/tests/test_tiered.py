import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvbank import (
    DamageError,
    DynamicSparse,
    Full,
    Int4,
    Int8,
    KVBank,
    LayerKV,
    Rolling,
    SalienceOptions,
    SemanticSparse,
    Sink,
    TieredStore,
)
from kvbank.policies import DeepSink, LatentRecall, PoseRecall, QueryRecall
from kvbank.stores import Store
from kvbank.stores.held_chunk import HeldChunk
from kvbank.stores.segments import Segment

OPTIONS = SalienceOptions(num_recent_probes=1, num_random_probes=2)
POLICIES = [
    SemanticSparse(top_l=1, num_recent=1, coverage=0.8),
    SemanticSparse(top_l=2, num_recent=1, coverage=None, drop=0.3),
    DynamicSparse(2, 0.7),
    Rolling(2),
    Sink(1, 1),
    Full(),
    LatentRecall(top_l=1, num_recent=1, coverage=0.8),
    QueryRecall(top_l=1, num_recent=1, temperature=0.3),
    PoseRecall(top_l=2, num_recent=1, field_of_view=(90.0, 90.0)),
    DeepSink(num_sink=1, num_recent=1, num_tokens=7),
]
FIXED = settings(
    derandomize=True, deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def embedding(chunk):
    return torch.eye(3)[chunk % 3] + 0.1


def tiny_layers(seed, tokens=6):
    generator = torch.Generator().manual_seed(seed)
    position = torch.arange(3 * tokens).reshape(tokens, 3)
    layers = torch.randn(2, 3, 1, 2, tokens, 4, generator=generator)
    return tuple(LayerKV(key, value, position, query=query) for key, value, query in layers)


A_CHUNK = sum(layer.nbytes for layer in tiny_layers(0))


def told(bank, index):
    recall = bank.read(index, embedding=embedding(index))
    layers = [(layer.key.tolist(), layer.value.tolist(), layer.position.tolist()) for layer in recall.layers]
    seen = (recall.chunks, recall.kinds, recall.similarity, recall.spans, recall.weights, layers)
    return bank.chunks, bank.nbytes, bank.trace, seen


def write(bank, chunk, take=0):
    bank.annotate(chunk, {"pose": [0, 0, 0, 0, 70 * chunk]})
    bank.annotate(chunk + 1, {"pose": [0, 0, 0, 0, 70 * chunk + 70]})
    bank.write(chunk, tiny_layers(100 * take + chunk), embedding=embedding(chunk))
    bank.annotate(chunk, {"latent": [chunk % 3, 1]})


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@FIXED
@given(
    device=st.sampled_from([0, 1.5, 3]),
    host=st.sampled_from([0, 2]),
    eviction=st.sampled_from(["oldest", "unread"]),
    recent=st.integers(0, 3),
    quantization=st.sampled_from([None, Int8(), Int4(group=3)]),
    in_folder=st.booleans(),
    rewinds=st.sets(st.integers(1, 6)),
)
def test_tiers_are_memory(tmp_path_factory, policy, device, host, eviction, recent, quantization, in_folder, rewinds):
    folder = tmp_path_factory.mktemp("bank")
    how = {"policy": policy, "salience": OPTIONS, "quantization": quantization}
    store = TieredStore(
        device_budget=int(device * A_CHUNK),
        host_budget=host * A_CHUNK,
        disk_folder=None if in_folder else folder,
        num_recent=recent,
        eviction=eviction,
    )
    memory = KVBank(**how)
    bank = KVBank(store=store, **how)
    if in_folder:
        bank.open(folder, fsync="never")
    for chunk in range(7):
        for each in (memory, bank):
            each.prefetch(chunk, embedding=embedding(chunk))
        assert told(bank, chunk) == told(memory, chunk)
        for each in (memory, bank):
            write(each, chunk)
            if chunk in rewinds:
                write(each, chunk - 1, take=1)
                write(each, chunk, take=1)
    if in_folder:
        del bank, store, each
        bank = KVBank.load(folder, store=TieredStore(device_budget=0, host_budget=0, num_recent=recent))
    assert told(bank, 7) == told(memory, 7)


@settings(FIXED, max_examples=30)
@given(
    budgets=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    recent=st.integers(0, 3),
    eviction=st.sampled_from(["oldest", "unread"]),
    calls=st.lists(st.tuples(st.sampled_from(["put", "get", "remove"]), st.integers(0, 20)), max_size=25),
)
def test_budgets_and_order_are_those_of_a_slow_reference(tmp_path_factory, budgets, recent, eviction, calls):
    store = TieredStore(
        device_budget=budgets[0] * A_CHUNK,
        host_budget=budgets[1] * A_CHUNK,
        disk_folder=tmp_path_factory.mktemp("disk"),
        num_recent=recent,
        eviction=eviction,
    )
    tiers, read, clock, next_chunk = {}, {}, 0, 0
    for call, pick in calls:
        if call == "put":
            store.put(next_chunk, tiny_layers(next_chunk))
            tiers[next_chunk], read[next_chunk] = "device", 0
            newest = sorted(tiers)[max(0, len(tiers) - recent) :]
            for chunk in newest:
                if tiers[chunk] != "device":
                    clock += 1
                    tiers[chunk], read[chunk] = "device", clock
            for upper, lower, budget in (("device", "host", budgets[0]), ("host", "disk", budgets[1])):
                there = [chunk for chunk in tiers if tiers[chunk] == upper]
                movable = [chunk for chunk in there if chunk not in newest]
                movable.sort(key=lambda chunk: (read[chunk] if eviction == "unread" else 0, chunk))
                for chunk in movable[: max(0, len(there) - budget)]:
                    tiers[chunk] = lower
            next_chunk += 1
        elif tiers:
            chunk = sorted(tiers)[pick % len(tiers)]
            if call == "get":
                clock += 1
                read[chunk] = clock
                assert torch.equal(store.get(chunk)[1].value, tiny_layers(chunk)[1].value)
            else:
                store.remove(chunk)
                del tiers[chunk]
        assert {chunk: store.tier(chunk) for chunk in tiers} == tiers
        for tier, used in store.tier_bytes.items():
            assert used == A_CHUNK * list(tiers.values()).count(tier)


def lowered(tmp_path, chunks=4, **options):
    """A store with its newest chunk on the device and the others on disk."""
    store = TieredStore(device_budget=0, host_budget=0, disk_folder=tmp_path, num_recent=1, **options)
    for chunk in range(chunks):
        store.put(chunk, tiny_layers(chunk))
    return store


def test_prefetch_reads_on_a_thread_and_get_takes_what_came(tmp_path, monkeypatch):
    store = lowered(tmp_path)
    threads, load = [], Segment.load

    def spied(segment, **options):
        threads.append(threading.current_thread().name)
        return load(segment, **options)

    monkeypatch.setattr(Segment, "load", spied)
    store.prefetch([0, 2, 3])
    for chunk in (0, 2, 3):
        assert torch.equal(store.get(chunk)[0].key, tiny_layers(chunk)[0].key)
    assert [name.startswith("kvbank-prefetch") for name in threads] == [True, True]  # chunk 3 is on the device
    store.get(0)
    assert threads[2] == threading.main_thread().name
    store.prefetch([1])
    store.prefetch([0])  # the choice has changed
    store.remove(1)
    assert torch.equal(store.get(0)[0].key, tiny_layers(0)[0].key)


def test_a_chunk_that_leaves_memory_while_the_thread_asks_for_it_is_read_once(tmp_path):
    class Leaving(HeldChunk):
        """A chunk that the other thread moves to the disk right after it was found in memory."""

        asked = 0

        @property
        def layers(self):
            self.asked += 1
            return found if self.asked == 1 else None

        @layers.setter
        def layers(self, layers):
            pass

    store = lowered(tmp_path)
    found = store.get(3, home=False)
    brought = store._bring(Leaving(home=torch.device("cpu"), nbytes=0, tier="host", layers=found))
    assert torch.equal(brought[0].key, found[0].key)


def test_prefetch_does_not_wait(tmp_path, monkeypatch):
    store, may_go, load = lowered(tmp_path), threading.Event(), Segment.load

    def slow(segment, **options):
        assert may_go.wait(60)
        return load(segment, **options)

    monkeypatch.setattr(Segment, "load", slow)
    store.prefetch([0])
    may_go.set()  # only now can the thread finish: prefetch has returned before
    assert torch.equal(store.get(0)[0].key, tiny_layers(0)[0].key)


def test_what_prefetch_finds_damaged_is_said_by_the_read(tmp_path):
    store = lowered(tmp_path)
    file = next(tmp_path.rglob("000001-*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    store.prefetch([1])
    with pytest.raises(DamageError, match=r"000001-1\.safetensors is damaged"):
        store.get(1)
    with pytest.raises(DamageError, match=r"000001-1\.safetensors is damaged"):
        store.get(1, home=False)


def test_the_choice_for_the_next_chunk_is_there_before_this_one_is_written(tmp_path):
    store = TieredStore(device_budget=0, host_budget=0, disk_folder=tmp_path, num_recent=1)
    bank = KVBank(policy=SemanticSparse(top_l=1, num_recent=1, coverage=None), store=store)
    for chunk in range(6):
        write(bank, chunk)
    bank.prefetch(7, embedding=embedding(7))  # chunk 6 is not yet written
    assert list(store._coming) == [4]
    write(bank, 6)
    assert bank.read(7, embedding=embedding(7)).chunks == (4, 6)
    assert not store._coming


def test_a_bank_in_a_folder_writes_every_chunk_once(tmp_path):
    store = TieredStore(device_budget=0, host_budget=0, num_recent=1)
    bank = KVBank(policy=Full(), store=store).open(tmp_path)
    for chunk in range(4):
        write(bank, chunk)
    assert store.tier_bytes == {"device": A_CHUNK, "host": 0, "disk": 3 * A_CHUNK}
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["segments"]


def test_the_folder_of_a_store_ends_with_it(tmp_path):
    store = lowered(tmp_path / "disk")
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    store.remove(0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    del store
    assert list((tmp_path / "disk").iterdir()) == []


def test_mistakes_are_named(tmp_path):
    store = TieredStore(device_budget=0, host_budget=10, num_recent=0)
    assert isinstance(store, Store)
    with pytest.raises(ValueError, match="host_budget is 10 bytes, and there is no disk for more"):
        store.put(0, tiny_layers(0))
    assert store.nbytes == 0
    store = lowered(tmp_path, chunks=3, disk_budget=2 * A_CHUNK)
    with pytest.raises(OSError, match=f"disk_budget is {2 * A_CHUNK} bytes, and chunk 2 exceeds it"):
        store.put(3, tiny_layers(3))
    assert store.nbytes == 3 * A_CHUNK
    with pytest.raises(ValueError, match="chunk 1 is held already"):
        store.put(1, tiny_layers(1))
    for call in (store.get, store.remove, store.tier, lambda chunk: store.prefetch([chunk])):
        with pytest.raises(ValueError, match=r"chunk 4 is not held; the store has \[0, 1, 2\]"):
            call(4)
    with pytest.raises(ValueError, match="host_budget is -1"):
        TieredStore(host_budget=-1)


@pytest.mark.parametrize("where", [{"disk_budget": 10**6}, {"disk_folder": "elsewhere"}])
def test_a_disk_that_a_bank_in_a_folder_would_not_use_is_refused(tmp_path, where):
    with pytest.raises(ValueError, match="disk_folder and disk_budget are for a bank in memory"):
        KVBank(policy=Full(), store=TieredStore(**where)).open(tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
    KVBank(policy=Full()).open(tmp_path / "bank").close()
    with pytest.raises(ValueError, match="disk_folder and disk_budget are for a bank in memory"):
        KVBank.load(tmp_path / "bank", store=TieredStore(**where))
    KVBank.load(tmp_path / "bank").close()  # it was let go


@pytest.mark.parametrize("policy", [Full(), Sink(1, 4), SemanticSparse(top_l=1, num_recent=2, coverage=None)])
@pytest.mark.parametrize("room", [0, 2])
def test_a_write_that_finds_no_room_changes_nothing(tmp_path, policy, room):
    how = {"disk_budget": room * A_CHUNK, "disk_folder": tmp_path} if room else {}
    store = TieredStore(device_budget=0, host_budget=A_CHUNK, num_recent=1, **how)
    bank, twin = KVBank(policy=policy, store=store), KVBank(policy=policy)
    for chunk in range(2 + room):
        write(bank, chunk)
        write(twin, chunk)
    before, tiers = told(bank, bank.next_index), store.tier_bytes
    assert before == told(twin, twin.next_index)
    with pytest.raises((ValueError, OSError), match=r"there is no disk for more|exceeds it"):
        bank.write(bank.next_index, tiny_layers(50), embedding=embedding(0))
    assert (told(bank, bank.next_index), store.tier_bytes) == (before, tiers)
    for each in (bank, twin):  # what replaces something finds room
        write(each, 1, take=1)
    assert told(bank, 2) == told(twin, 2)
    assert len(list(tmp_path.rglob("*.safetensors"))) == list(map(store.tier, bank.chunks)).count("disk")


def test_a_replaced_chunk_is_still_there_if_its_successor_finds_no_room(tmp_path):
    store = TieredStore(device_budget=0, host_budget=A_CHUNK, num_recent=0, disk_budget=A_CHUNK, disk_folder=tmp_path)
    for chunk in range(2):
        store.put(chunk, tiny_layers(chunk))
    assert (store.tier(0), store.tier(1)) == ("disk", "host")
    large = tiny_layers(9, tokens=20)
    with pytest.raises(OSError, match="chunk 0 exceeds it"):
        store.put(0, large, instead_of=[0])
    assert torch.equal(store.get(0)[0].key, tiny_layers(0)[0].key)
    store.put(0, tiny_layers(5), instead_of=[0])
    assert torch.equal(store.get(0)[0].key, tiny_layers(5)[0].key)
    assert len(list(tmp_path.rglob("*.safetensors"))) == list(map(store.tier, (0, 1))).count("disk")


def test_damage_found_by_a_rewind_closes_the_bank(tmp_path):
    store = TieredStore(device_budget=0, host_budget=0, num_recent=2)
    bank = KVBank(policy=Full(), store=store).open(tmp_path)
    for chunk in range(5):
        write(bank, chunk)
    bank.close()
    bank = KVBank.load(tmp_path, store=TieredStore(device_budget=0, host_budget=0, num_recent=2))
    file = next((tmp_path / "segments").glob("000001-*"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(DamageError, match="000001"):
        bank.write(2, tiny_layers(77), embedding=embedding(2))
    with pytest.raises(ValueError, match="is closed"):
        bank.write(2, tiny_layers(77), embedding=embedding(2))
    file.write_bytes(whole)
    twin = KVBank(policy=Full())
    for chunk in range(2):
        write(twin, chunk)
    twin.write(2, tiny_layers(77), embedding=embedding(2))
    assert told(KVBank.load(tmp_path), 3)[3] == told(twin, 3)[3]


@pytest.mark.usefixtures("unhooked")
def test_another_eviction_is_refused():
    with pytest.raises(ValueError, match="eviction is 'newest'"):
        TieredStore(eviction="newest")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("quantization", [None, Int8()])
def test_tiers_of_a_gpu_model_are_memory(tmp_path, quantization):
    how = {"policy": SemanticSparse(top_l=2, num_recent=1, coverage=None), "quantization": quantization}
    store = TieredStore(device_budget=0, host_budget=2 * A_CHUNK, num_recent=1)
    memory, bank = KVBank(**how), KVBank(store=store, **how).open(tmp_path)
    for chunk in range(8):
        layers = [
            LayerKV(layer.key.cuda(), layer.value.cuda(), layer.position.cuda(), query=layer.query.cuda())
            for layer in tiny_layers(chunk)
        ]
        for each in (memory, bank):
            each.prefetch(chunk, embedding=embedding(chunk))
        assert told(bank, chunk) == told(memory, chunk)
        for each in (memory, bank):
            each.write(chunk, layers, embedding=embedding(chunk))
    assert {store.tier(chunk) for chunk in range(8)} == {"device", "host", "disk"}
    assert all(part.is_pinned() for layer in store.get(6, home=False) for part in layer.tensors().values())
    assert bank.read(8, embedding=embedding(8)).layers[0].key.is_cuda


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tokens_are_compared_across_tiers():
    policy = DeepSink(num_sink=1, num_recent=1, num_tokens=5)
    tiered = KVBank(policy=policy, store=TieredStore(device_budget=A_CHUNK, host_budget=None, num_recent=1))
    memory = KVBank(policy=policy)
    for chunk in range(6):
        layers = [
            LayerKV(layer.key.cuda(), layer.value.cuda(), layer.position.cuda(), query=layer.query.cuda())
            for layer in tiny_layers(chunk)
        ]
        assert told(tiered, chunk) == told(memory, chunk)
        for bank in (tiered, memory):
            bank.write(chunk, layers, embedding=embedding(chunk))
