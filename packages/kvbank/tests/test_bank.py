import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvbank import (
    DynamicSparse,
    FaissIndex,
    Full,
    KVBank,
    LayerKV,
    MemoryStore,
    Recall,
    Rolling,
    SalienceOptions,
    SemanticSparse,
    Sink,
    salient_tokens,
)

FIXED = settings(
    derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PROBES = SalienceOptions(num_recent_probes=2, num_random_probes=3)
POLICIES = [
    SemanticSparse(top_l=2, num_recent=1, coverage=0.8),
    SemanticSparse(top_l=1, num_recent=2, coverage=None),
    SemanticSparse(top_l=1, num_recent=1, coverage=0.8, num_sink=1),
    DynamicSparse(2, 0.7),
    Rolling(2),
    Sink(1, 2),
    Full(),
]


def embedding(chunk):
    """Three places, visited in turn."""
    return torch.eye(3)[chunk % 3] + 0.1


def filled(make_layers, policy, num_chunks, *, read=True, **options):
    bank = KVBank(policy=policy, salience=PROBES, **options)
    for chunk in range(num_chunks):
        if read:
            bank.read(chunk, embedding=embedding(chunk))
        bank.write(chunk, iter(make_layers(chunk)), embedding=embedding(chunk))
    return bank


def same(left, right):
    assert (left.chunks, left.kinds, left.similarity, left.spans) == (
        right.chunks,
        right.kinds,
        right.similarity,
        right.spans,
    )
    assert len(left.layers) == len(right.layers)
    for a, b in zip(left.layers, right.layers, strict=True):
        assert torch.equal(a.key, b.key)
        assert torch.equal(a.value, b.value)
        assert torch.equal(a.position, b.position)


def cosine(left, right):
    return float(left @ right) / (math.hypot(*left.tolist()) * math.hypot(*right.tolist()))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_reads_are_the_kept_tokens_of_the_selected_chunks(make_layers, policy):
    bank = KVBank(policy=policy, salience=PROBES)
    for chunk in range(7):
        recall = bank.read(chunk, embedding=embedding(chunk))
        similarity = [cosine(embedding(chunk), embedding(past)) for past in range(chunk)]
        rounded = [round(value, 5) for value in similarity]
        assert recall.chunks == policy.select(chunk, rounded)
        assert recall.kinds == tuple(policy.kind(chunk, past) for past in recall.chunks)
        assert recall.similarity == pytest.approx([similarity[past] for past in recall.chunks], abs=1e-6)
        trace = bank.trace[chunk]
        assert (trace.index, trace.chunks, trace.kinds, trace.spans) == (
            chunk,
            recall.chunks,
            recall.kinds,
            recall.spans,
        )
        for number, layer in enumerate(recall.layers):
            assert layer.query is None
            originals = [make_layers(past)[number] for past in recall.chunks]
            kept = [list(tokens) for tokens in trace.kept[number]]
            assert recall.spans[number] == tuple(map(len, kept))
            for name, axis in (("key", 2), ("value", 2), ("position", 0)):
                parts = [
                    getattr(original, name).index_select(axis, torch.tensor(tokens))
                    for original, tokens in zip(originals, kept, strict=True)
                ]
                assert torch.equal(getattr(layer, name), torch.cat(parts, axis))
        bank.write(chunk, make_layers(chunk), embedding=embedding(chunk))


def test_an_empty_memory_shows_nothing():
    recall = KVBank(policy=SemanticSparse()).read(0, embedding=torch.ones(3))
    assert (recall.chunks, recall.kinds, recall.similarity, recall.spans, recall.layers) == ((), (), (), (), ())


def test_every_layer_keeps_its_own_salient_tokens_scored_after_rotation(make_layers):
    def rotate(x, position):
        return x * (1 + position[:, 2:].to(x.dtype))

    bank = KVBank(policy=DynamicSparse(1, 0.7), rotate=rotate)
    layers = make_layers(0)
    bank.write(0, layers, embedding=None)
    recall = bank.read(1, embedding=None)
    for layer, read in zip(layers, recall.layers, strict=True):
        query, key = rotate(layer.query, layer.position), rotate(layer.key, layer.position)
        kept = salient_tokens(query, key, coverage=0.7)
        assert torch.equal(read.key, layer.key[:, :, kept])
        assert not torch.equal(kept, salient_tokens(layer.query, layer.key, coverage=0.7))
    assert recall.spans[0] != recall.spans[1] or not torch.equal(recall.layers[0].position, recall.layers[1].position)


def test_layers_of_an_iterator_are_taken_one_by_one_and_may_have_any_class(make_layers):
    alive = []

    def produce():
        for layer in make_layers(0, num_layers=5):
            alive.append(1)
            yield SimpleNamespace(key=layer.key, value=layer.value, position=layer.position, query=layer.query)

    bank = KVBank(policy=SemanticSparse())
    bank.write(0, produce(), embedding=torch.ones(3))
    assert len(alive) == 5
    assert len(bank.read(1, embedding=torch.ones(3)).layers) == 5


def test_layers_may_differ_in_tokens(make_layers):
    bank = KVBank(policy=Full())
    for chunk in range(2):
        bank.write(chunk, [make_layers(chunk, tokens=4)[0], make_layers(chunk, tokens=8)[1]], embedding=None)
    assert bank.read(2, embedding=None).spans == ((4, 4), (8, 8))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_read_repeats_and_changes_nothing_but_the_trace(make_layers, policy):
    bank = filled(make_layers, policy, 5, read=False)
    before = (bank.nbytes, len(bank), bank.chunks, bank.trace)
    bank.prefetch(5, embedding=embedding(5))
    first = bank.read(5, embedding=embedding(5))
    for layer in first.layers:
        layer.key.zero_()
    second = bank.read(5, embedding=embedding(5))
    same(second, bank.read(5, embedding=embedding(5)))
    assert len(first.chunks) == 0 or second.layers[0].key.abs().sum() > 0
    assert (bank.nbytes, len(bank), bank.chunks) == before[:3]
    assert before[3] == ()
    assert [trace.index for trace in bank.trace] == [5]


def test_the_bank_owns_what_it_stores(make_layers):
    layers = make_layers(0)
    expected = layers[0].key.clone()
    bank = KVBank(policy=Full())
    bank.write(0, layers, embedding=None)
    layers[0].key.zero_()
    layers[0].position.zero_()
    recall = bank.read(1, embedding=None)
    assert torch.equal(recall.layers[0].key, expected)
    assert recall.layers[0].position.any()


@FIXED
@given(tokens=st.integers(1, 12), num_layers=st.integers(1, 3), num_chunks=st.integers(0, 4))
def test_nbytes_is_keys_values_and_positions(make_layers, tokens, num_layers, num_chunks):
    bank = KVBank(policy=Full())
    for chunk in range(num_chunks):
        bank.write(chunk, make_layers(chunk, tokens=tokens, num_layers=num_layers), embedding=None)
    # 2 branches, 2 heads, dh 4, float32; three int64 a position.
    assert bank.nbytes == num_chunks * num_layers * tokens * (2 * 2 * 2 * 4 * 4 + 3 * 8)


@pytest.mark.parametrize("policy", [Rolling(3), DynamicSparse(3, 1.0), Sink(1, 2)], ids=repr)
def test_memory_of_a_window_is_constant(make_layers, policy):
    bank, sizes = KVBank(policy=policy), []
    for chunk in range(12):
        bank.read(chunk, embedding=None)
        bank.write(chunk, make_layers(chunk), embedding=embedding(chunk))
        sizes.append((len(bank), bank.nbytes, len(bank._state.index)))
    one = sizes[0][1]
    assert sizes[2:] == [(3, 3 * one, 3)] * 10


def test_memory_of_semantic_sparse_is_its_kept_tokens(make_layers):
    bank = KVBank(policy=SemanticSparse(coverage=0.5), salience=PROBES)
    a_token = 2 * 2 * 2 * 4 * 4 + 3 * 8
    kept = 0
    for chunk in range(8):
        bank.write(chunk, make_layers(chunk, tokens=24), embedding=embedding(chunk))
        recall = bank.read(chunk + 1, embedding=embedding(chunk))
        newest = recall.chunks.index(chunk)
        kept += sum(spans[newest] for spans in recall.spans)
        assert bank.nbytes == kept * a_token
        assert len(bank) == chunk + 1
    assert kept < 0.8 * 8 * 2 * 24


def test_a_budget_bounds_every_layer(make_layers):
    bank = KVBank(policy=SemanticSparse(coverage=0.98), salience=SalienceOptions(max_tokens=3))
    bank.write(0, make_layers(0), embedding=torch.ones(2))
    assert bank.read(1, embedding=torch.ones(2)).spans == ((3,), (3,))
    assert bank.trace[0].shares == (0.25,)


def test_random_probes_do_not_depend_on_history(make_layers):
    policy = DynamicSparse(1, 0.5)
    options = SalienceOptions(num_recent_probes=1, num_random_probes=2)

    def kept(first, seed):
        bank = KVBank(policy=policy, seed=seed, salience=options)
        bank.write(0, make_layers(first, tokens=40), embedding=None)
        torch.rand(3)
        bank.write(1, make_layers(1, tokens=40), embedding=None)
        bank.read(2, embedding=None)
        return bank.trace[0].kept

    assert kept(0, seed=1) == kept(9, seed=1)
    assert kept(0, seed=1) != kept(0, seed=2)


def test_each_chunk_and_layer_draws_its_own_probes(make_layers):
    layer = make_layers(0, tokens=60)[0]
    bank = KVBank(policy=DynamicSparse(2, 0.5), salience=PROBES)
    for chunk in range(2):
        bank.write(chunk, [layer, layer], embedding=None)
    bank.read(2, embedding=None)
    kept = bank.trace[0].kept
    assert len({tuple(tokens) for per_layer in kept for tokens in per_layer}) == 4


def test_drop_hides_tokens_anew_for_each_reader_and_the_trace_says_which(make_layers):
    policy = SemanticSparse(top_l=1, num_recent=1, coverage=1.0, drop=0.5)
    banks = [filled(make_layers, policy, 4, seed=seed) for seed in (0, 0, 1)]
    reads = [[bank.read(4, embedding=embedding(4)) for _ in range(2)] for bank in banks]
    same(*reads[0])
    same(reads[0][0], reads[1][0])
    assert not torch.equal(reads[0][0].layers[0].position, reads[2][0].layers[0].position)
    trace = banks[0].trace[-1]
    assert trace.spans != banks[0].trace[-2].spans or trace.kept != banks[0].trace[-2].kept
    for number, layer in enumerate(reads[0][0].layers):
        shown = [
            make_layers(chunk)[number].key[:, :, list(tokens)]
            for chunk, tokens in zip(trace.chunks, trace.kept[number], strict=True)
        ]
        assert torch.equal(layer.key, torch.cat(shown, 2))
    assert banks[0].nbytes == filled(make_layers, SemanticSparse(1, 1, 1.0), 4).nbytes
    total = sum(sum(spans) for spans in trace.spans)
    assert 10 < total < 38  # of 48, half


def test_ties_go_to_the_newest_whatever_the_index(make_layers):
    for index in (None, FaissIndex()):
        bank = KVBank(policy=SemanticSparse(top_l=1, num_recent=1), index=index)
        for chunk in range(5):
            bank.write(chunk, make_layers(chunk), embedding=torch.full((384,), 0.1))
        assert bank.read(5, embedding=torch.full((384,), 0.3)).chunks == (3, 4)


@pytest.mark.parametrize(
    "policy", [Rolling(2), DynamicSparse(2, 0.9), Sink(1, 1), Full(), SemanticSparse(0, 2)], ids=repr
)
def test_windows_need_no_embedding(make_layers, policy):
    bank = KVBank(policy=policy)
    for chunk in range(4):
        bank.prefetch(chunk, embedding=None)
        recall = bank.read(chunk, embedding=None)
        assert set(recall.similarity) <= {None}
        bank.write(chunk, make_layers(chunk), embedding=None)
    assert bank.read(4, embedding=torch.ones(3)).similarity == (None,) * len(policy.select(4))


@pytest.mark.parametrize("again", [0, 2, 4])
def test_writing_a_chunk_again_rewinds_to_it(make_layers, again):
    policy = SemanticSparse(top_l=1, num_recent=1, coverage=0.8)
    bank = filled(make_layers, policy, 5)
    fresh = filled(make_layers, policy, again)
    for each in (bank, fresh):
        each.read(again, embedding=embedding(again))
        each.write(again, make_layers(77), embedding=embedding(1), metadata={"take": 2})
    assert bank.trace == fresh.trace
    assert (bank.next_index, len(bank), bank.nbytes, bank.metadata) == (
        fresh.next_index,
        len(fresh),
        fresh.nbytes,
        fresh.metadata,
    )
    same(bank.read(again + 1, embedding=embedding(1)), fresh.read(again + 1, embedding=embedding(1)))


def test_an_earlier_chunk_can_still_read(make_layers):
    bank, early = filled(make_layers, POLICIES[0], 6), filled(make_layers, POLICIES[0], 3)
    same(bank.read(3, embedding=embedding(3)), early.read(3, embedding=embedding(3)))


def test_reading_what_was_freed_is_refused(make_layers):
    bank = filled(make_layers, Rolling(2), 5)
    with pytest.raises(ValueError, match=r"chunk 4 sees chunks \[2\], which were freed: under Rolling\(num_chunks=2\)"):
        bank.read(4, embedding=None)
    bank.write(4, make_layers(4), embedding=None)
    assert bank.read(5, embedding=None).chunks == (3, 4)


def test_prefetch_tells_the_store_what_will_be_read(make_layers):
    asked = []

    class Spy(MemoryStore):
        def prefetch(self, chunks):
            asked.append(list(chunks))

    bank = filled(make_layers, SemanticSparse(top_l=1, num_recent=1), 6, store=Spy())
    bank.prefetch(6, embedding=embedding(6))
    bank.prefetch(7, embedding=embedding(7))  # chunk 6 is not written yet
    assert asked == [[3, 5], [4]]
    assert bank.read(6, embedding=embedding(6)).chunks == (3, 5)


def test_prefetch_changes_no_read(make_layers):
    banks = [filled(make_layers, POLICIES[0], 5) for _ in range(2)]
    banks[0].prefetch(5, embedding=embedding(5))
    same(*(bank.read(5, embedding=embedding(5)) for bank in banks))
    assert banks[0].trace == banks[1].trace


def test_gradients_reach_what_is_kept():
    key = torch.randn(1, 1, 6, 4, requires_grad=True)
    layer = LayerKV(key, key * 2, torch.zeros(6, 3, dtype=torch.int64), query=key * 3)
    bank = KVBank(policy=SemanticSparse(coverage=0.5))
    bank.write(0, [layer], embedding=torch.ones(2))
    bank.read(1, embedding=torch.ones(2)).layers[0].value.sum().backward()
    kept = list(bank.trace[0].kept[0][0])
    assert torch.equal(key.grad[0, 0, kept], torch.full((len(kept), 4), 2.0))
    assert key.grad.sum() == 8 * len(kept)


def test_metadata_is_copied_and_must_be_json(make_layers):
    bank = KVBank(policy=Full())
    note = {"shot": [1, 2]}
    bank.write(0, make_layers(0), embedding=None, metadata=note)
    note["shot"].append(3)
    assert bank.metadata == {0: {"shot": [1, 2]}}
    with pytest.raises(TypeError, match="not JSON serializable"):
        bank.write(1, make_layers(1), embedding=None, metadata={"x": torch.ones(1)})


def test_order_is_enforced(make_layers):
    bank = filled(make_layers, Full(), 2)
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"chunk {index} cannot be written now; the next is 2"):
            bank.write(index, make_layers(3), embedding=None)
        with pytest.raises(ValueError, match=f"chunk {index} cannot read yet; the chunks before 2 are written"):
            bank.read(index, embedding=None)


def test_a_policy_that_compares_prompts_demands_embeddings(make_layers):
    bank = KVBank(policy=SemanticSparse())
    for call in (
        lambda: bank.write(0, make_layers(0), embedding=None),
        lambda: bank.read(0, embedding=None),
        lambda: bank.prefetch(0, embedding=None),
    ):
        with pytest.raises(ValueError, match=r"embedding is None; SemanticSparse\(.* compares prompts"):
            call()


def test_a_coverage_demands_queries(make_layers):
    layers = [LayerKV(layer.key, layer.value, layer.position) for layer in make_layers(0)]
    with pytest.raises(ValueError, match="layer 0 of chunk 0 has no query"):
        KVBank(policy=DynamicSparse(2, 0.9)).write(0, layers, embedding=None)
    KVBank(policy=Rolling(2)).write(0, layers, embedding=None)


def test_all_of_the_attention_needs_no_queries(make_layers):
    layers = [LayerKV(layer.key, layer.value, layer.position) for layer in make_layers(0)]
    bank = KVBank(policy=DynamicSparse(2, 1.0))
    bank.write(0, layers, embedding=None)
    assert bank.read(1, embedding=None).spans == ((12,), (12,))
    budget = KVBank(policy=DynamicSparse(2, 1.0), salience=SalienceOptions(max_tokens=3))
    with pytest.raises(ValueError, match="layer 0 of chunk 0 has no query"):
        budget.write(0, layers, embedding=None)


def test_records_take_their_fields_in_order():
    key, value, query = torch.randn(3, 1, 2, 5, 4).unbind(0)
    layer = LayerKV(key, value, torch.zeros(5, 3, dtype=torch.int64), query)
    assert layer.query is query
    recall = Recall((0, 3), ("recalled", "recent"), (0.5, None), ((2, 3),), (layer,))
    named = Recall(
        chunks=(0, 3), kinds=("recalled", "recent"), similarity=(0.5, None), spans=((2, 3),), layers=(layer,)
    )
    for name in ("chunks", "kinds", "similarity", "spans", "layers"):
        assert getattr(recall, name) == getattr(named, name)


def test_positions_of_narrow_integers_become_int64(make_layers):
    layer = make_layers(2)[0]
    narrow = LayerKV(layer.key, layer.value, layer.position.int())
    assert narrow.position.dtype == torch.int64
    assert torch.equal(narrow.position, layer.position)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers[:1], "chunk 1 has 1 layers; the chunks before it have 2"),
        (lambda layers: [], "chunk 1 has no layers"),
        (
            lambda layers: [layers[0], LayerKV(layers[1].key[:1], layers[1].value[:1], layers[1].position)],
            r"layer 1 of chunk 1 has \(branches, heads, dh, dtype, device\) \(1, 2, 4",
        ),
        (
            lambda layers: [LayerKV(layers[0].key.double(), layers[0].value.double(), layers[0].position), layers[1]],
            "layer 0 of chunk 1 has .*float64",
        ),
        (
            lambda layers: [LayerKV(layers[0].key[:, :, :0], layers[0].value[:, :, :0], layers[0].position[:0])],
            "layer 0 of chunk 1 has no tokens",
        ),
    ],
)
def test_a_refused_write_leaves_the_bank_as_it_was(make_layers, change, message):
    bank = filled(make_layers, Full(), 2)
    expected = bank.read(2, embedding=embedding(2))
    with pytest.raises(ValueError, match=message):
        bank.write(1, change(make_layers(1)), embedding=embedding(1))
    with pytest.raises(ValueError, match="embedding has 5 numbers"):
        bank.write(1, make_layers(1), embedding=torch.ones(5))

    def failing():
        yield make_layers(1)[0]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        bank.write(1, failing(), embedding=embedding(1))
    same(bank.read(2, embedding=embedding(2)), expected)


@pytest.mark.usefixtures("unhooked")
def test_layers_of_unfit_shapes_are_refused():
    key, position = torch.ones(1, 2, 5, 4), torch.zeros(5, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"key has shape \(2, 5, 4\)"):
        LayerKV(key[0], key[0], position)
    with pytest.raises(ValueError, match="value has shape"):
        LayerKV(key, key[:, :, :4], position)
    with pytest.raises(ValueError, match="query has shape"):
        LayerKV(key, key, position, query=key[:, :1])
    with pytest.raises(ValueError, match=r"expected \[5, 3\] torch.int64"):
        LayerKV(key, key, position[:4])
    with pytest.raises(ValueError, match=r"expected \[5, 3\] torch.int64"):
        LayerKV(key, key, position.float())
