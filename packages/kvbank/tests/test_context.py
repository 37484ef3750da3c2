import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvbank import Full, KVBank, LayerKV, Rolling, SemanticSparse
from kvbank.policies import LayerPick, LayerSummary, PolicyContext, QueryRecall, RecallPolicy


@dataclass(frozen=True)
class Scripted:
    """Answers what it is told, whatever the past."""

    answer: tuple = ()
    uses_summaries: bool = False
    drop: float = 0.0
    asked: list = field(default_factory=list, compare=False)

    coverage: ClassVar[None] = None
    uses_similarity: ClassVar[bool] = False

    def select(self, index, similarity=()):
        return tuple(range(index))

    def kind(self, index, chunk):
        return "recent" if chunk == index - 1 else "recalled"

    def retains(self, index, chunk):
        return True

    def recall(self, past):
        self.asked.append(past)
        return self.answer if past.spans else ()


def filled(make_layers, policy, num_chunks=3, **options):
    bank = KVBank(policy=policy, **options)
    for chunk in range(num_chunks):
        bank.write(chunk, make_layers(chunk), embedding=torch.eye(4)[chunk], metadata={"shot": chunk // 2})
    return bank


def ids(*tokens):
    return torch.tensor(tokens, dtype=torch.int64)


ANSWER = (
    LayerPick(chunks=(0, 2), tokens={0: ids(1, 5, 6)}, weights={0: 0.5}),
    LayerPick(chunks=(1,), tokens={1: ids()}, weights={1: 0.0}),
)


def test_layers_show_their_own_chunks_tokens_and_weights(make_layers):
    recall = filled(make_layers, Scripted(ANSWER)).read(3, embedding=None)
    assert recall.chunks == (0, 1, 2)
    assert recall.kinds == ("recalled", "recalled", "recent")
    assert recall.spans == ((3, 0, 12), (0, 0, 0))
    assert recall.weights == ((0.5, 1.0, 1.0), (1.0, 0.0, 1.0))
    first, last = make_layers(0)[0], make_layers(2)[0]
    shown = [1, 5, 6]
    assert torch.equal(recall.layers[0].key, torch.cat([first.key[:, :, shown], last.key], 2))
    assert torch.equal(recall.layers[0].value, torch.cat([first.value[:, :, shown] / 2, last.value], 2))
    assert torch.equal(recall.layers[0].position, torch.cat([first.position[shown], last.position]))
    assert recall.layers[1].key.shape == (2, 2, 0, 4)


def test_gradients_reach_what_is_picked_by_its_weight(make_layers):
    layers = make_layers(0)
    for layer in layers:
        layer.value.requires_grad_()
    bank = KVBank(policy=Scripted((LayerPick(chunks=(0,), tokens={0: ids(1, 4)}, weights={0: 0.25}),) * 2))
    bank.write(0, layers, embedding=None)
    bank.read(1, embedding=None).layers[0].value.sum().backward()
    expected = torch.zeros(2, 2, 12, 4)
    expected[:, :, [1, 4]] = 0.25
    assert torch.equal(layers[0].value.grad, expected)


def test_the_trace_tells_the_tokens_of_each_layer(make_layers):
    bank = filled(make_layers, Scripted(ANSWER))
    recall = bank.read(3, embedding=None)
    (trace,) = bank.trace
    assert [[list(tokens) for tokens in layer] for layer in trace.kept] == [
        [[1, 5, 6], [], list(range(12))],
        [[], [], []],
    ]
    assert trace.shares == (3 / 12 / 2, 0.0, 0.5)
    assert (trace.spans, trace.weights) == (recall.spans, recall.weights)


@given(data=st.data(), drop=st.sampled_from([0.0, 0.4]))
def test_spans_kept_tokens_and_tensors_agree_whatever_is_answered(data, drop):
    num_layers, sizes = 2, [3, 5, 4]
    layers = {
        chunk: [_layer(10 * chunk + layer, size) for layer in range(num_layers)] for chunk, size in enumerate(sizes)
    }
    picks = []
    for _ in range(num_layers):
        chunks = sorted(data.draw(st.sets(st.integers(0, 2))))
        tokens = {c: data.draw(st.sets(st.integers(0, sizes[c] - 1))) for c in chunks if data.draw(st.booleans())}
        picks.append(LayerPick(chunks=tuple(chunks), tokens={c: ids(*sorted(some)) for c, some in tokens.items()}))
    bank = KVBank(policy=Scripted(tuple(picks), drop=drop))
    for chunk, each in layers.items():
        bank.write(chunk, each, embedding=None)
    recall = bank.read(3, embedding=None)
    (trace,) = bank.trace
    assert recall.chunks == tuple(sorted({chunk for pick in picks for chunk in pick.chunks}))
    for number, layer in enumerate(recall.layers):
        expected = []
        for i, chunk in enumerate(recall.chunks):
            kept = list(trace.kept[number][i])
            whole = list(range(sizes[chunk])) if chunk in picks[number].chunks else []
            allowed = picks[number].tokens.get(chunk, ids(*whole)).tolist()
            assert kept == allowed if drop == 0.0 else set(kept) <= set(allowed)
            assert recall.spans[number][i] == len(kept)
            expected.append(layers[chunk][number].key[:, :, kept])
        assert torch.equal(layer.key, torch.cat(expected, 2))


def _layer(seed, tokens):
    key, value = torch.randn(2, 1, 1, tokens, 2, generator=torch.Generator().manual_seed(seed)).unbind(0)
    return LayerKV(key, value, torch.zeros(tokens, 3, dtype=torch.int64))


def test_a_policy_sees_what_the_bank_knows(make_layers):
    policy = Scripted((LayerPick(chunks=()),) * 2, uses_summaries=True)
    bank = filled(make_layers, policy, budget=30)
    bank.annotate(3, {"pose": [1, 2]})
    bank.annotate(7, {"pose": [3, 4]})
    bank.annotate(1, {"latent": [0.5]})
    bank.read(3, embedding=torch.eye(4)[1])
    past = policy.asked[-1]
    assert (past.index, past.chunks, past.num_layers, past.budget) == (3, (0, 1, 2), 2, 30)
    assert past.spans == dict.fromkeys(range(3), (12, 12))
    assert past.metadata == {0: {"shot": 0}, 1: {"shot": 0, "latent": [0.5]}, 2: {"shot": 1}, 3: {"pose": [1, 2]}}
    assert past.similarity == {0: 0.0, 1: 1.0, 2: 0.0}
    assert torch.equal(past.embedding, torch.eye(4)[1])
    for chunk in range(3):
        assert torch.equal(past.embeddings[chunk], torch.eye(4)[chunk])
        for number, layer in enumerate(make_layers(chunk)):
            assert torch.equal(past.keys(chunk, number), layer.key)
            summary = past.summaries[chunk][number]
            assert torch.allclose(summary.key, sum(layer.key.unbind(2)) / 12, atol=1e-6)
            assert torch.allclose(summary.query, sum(layer.query.unbind(2)) / 12, atol=1e-6)


def test_summaries_count_and_are_made_for_those_who_use_them(make_layers):
    plain, summarized = (filled(make_layers, Scripted(uses_summaries=uses)) for uses in (False, True))
    assert plain.policy_context(3).summaries == {}
    # Key and query, 3 chunks of 2 layers, 2 branches, 2 heads, dh 4, float32.
    assert summarized.nbytes - plain.nbytes == 2 * 3 * 2 * 2 * 2 * 4 * 4


def test_an_earlier_reader_sees_only_what_is_before_it(make_layers):
    past = filled(make_layers, Scripted()).policy_context(1, embedding=torch.ones(4))
    assert past.chunks == (0,)
    assert set(past.metadata) == {0, 1}
    assert past.metadata[1] == {}


def test_plans_outlive_a_rewind_and_notes_do_not(make_layers):
    bank = KVBank(policy=Full())
    bank.annotate(1, {"pose": 1, "shot": 1})
    for chunk in range(3):
        bank.write(chunk, make_layers(chunk), embedding=None, metadata={"take": chunk})
    bank.annotate(1, {"latent": 5, "shot": 2})
    assert bank.metadata[1] == {"pose": 1, "shot": 2, "take": 1, "latent": 5}
    bank.write(0, make_layers(0), embedding=None)
    assert bank.metadata == {0: {}}
    bank.write(1, make_layers(1), embedding=None)
    assert bank.metadata[1] == {"pose": 1, "shot": 1}
    with pytest.raises(ValueError, match="chunk number is -1"):
        bank.annotate(-1, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        bank.annotate(1, {"latent": torch.ones(2)})


def test_prefetch_asks_once_everything_is_written(make_layers):
    policy = Scripted(ANSWER)
    bank = filled(make_layers, policy)
    bank.prefetch(4, embedding=None)
    assert not policy.asked
    bank.prefetch(3, embedding=None)
    assert len(policy.asked) == 1
    assert bank.trace == ()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((LayerPick(chunks=()),), "answered for 1 layers; the chunks held have 2"),
        ((LayerPick(chunks=(1, 0)), LayerPick(chunks=())), r"layer 0, answered chunks \(1, 0\); expected earlier"),
        ((LayerPick(chunks=()), LayerPick(chunks=(3,))), r"layer 1, answered chunks \(3,\)"),
        ((LayerPick(chunks=(1, 1)), LayerPick(chunks=())), r"answered chunks \(1, 1\)"),
        ((LayerPick(chunks=(0,), tokens={0: ids(12)}),) * 2, "expected int64 ids of its 12 stored tokens"),
        ((LayerPick(chunks=(0,), tokens={0: ids(2, 1)}),) * 2, "ascending, each once"),
        ((LayerPick(chunks=(0,), tokens={0: ids(2).int()}),) * 2, "expected int64 ids"),
        ((LayerPick(chunks=(0,), tokens={1: ids(2)}),) * 2, r"chunks \[1\], which it does not show"),
        ((LayerPick(chunks=(0,), weights={2: 1.0}),) * 2, r"chunks \[2\], which it does not show"),
        ((LayerPick(chunks=(0,), weights={0: -0.5}),) * 2, "the weight -0.5; expected a finite number of at least 0"),
        ((LayerPick(chunks=(0,), weights={0: float("nan")}),) * 2, "the weight nan"),
    ],
)
def test_answers_that_make_no_sense_are_refused(make_layers, answer, message):
    with pytest.raises(ValueError, match=message):
        filled(make_layers, Scripted(answer)).read(3, embedding=None)


@pytest.mark.usefixtures("unhooked")
def test_token_ids_have_one_axis(make_layers):
    answer = (LayerPick(chunks=(0,), tokens={0: ids(2)[None]}),) * 2
    with pytest.raises(ValueError, match="expected int64 ids of its 12 stored tokens"):
        filled(make_layers, Scripted(answer)).read(3, embedding=None)


@pytest.mark.parametrize("policy", [Rolling(2), SemanticSparse(1, 1, None), Scripted((LayerPick(chunks=(0, 2)),) * 2)])
def test_no_read_exceeds_the_budget(make_layers, policy):
    filled(make_layers, policy, budget=24).read(3, embedding=torch.eye(4)[0])
    with pytest.raises(ValueError, match=r"shows 24 tokens; the budget is 23\. Let the policy show fewer"):
        filled(make_layers, policy, budget=23).read(3, embedding=torch.eye(4)[0])
    with pytest.raises(ValueError, match="budget is 0; expected at least 1 token"):
        KVBank(policy=policy, budget=0)


@given(
    spans=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    budget=st.one_of(st.none(), st.integers(1, 40)),
    data=st.data(),
)
def test_within_budget_takes_the_best_until_one_does_not_fit(spans, budget, data):
    past = PolicyContext(index=len(spans), spans=dict(enumerate(spans)), budget=budget)
    order = data.draw(st.permutations(range(len(spans))))
    cut = data.draw(st.integers(0, len(spans)))
    always, ranked = sorted(order[:cut]), order[cut:]
    for layers in (None, [0], [1]):
        expected = list(always)
        for chunk in ranked:
            sums = [sum(spans[each][layer] for each in [*expected, chunk]) for layer in layers or (0, 1)]
            if budget is not None and max(sums) > budget:
                break
            expected.append(chunk)
        assert past.within_budget(ranked, always=always, layers=layers) == tuple(sorted(expected))


def test_reading_what_a_recall_policy_let_go_is_refused(make_layers):
    bank = KVBank(policy=QueryRecall(top_l=0, num_recent=1))
    for chunk in range(3):
        bank.write(chunk, make_layers(chunk), embedding=None)
    with pytest.raises(ValueError, match=r"chunk 2 sees chunks \[1\], which were freed: under QueryRecall\("):
        bank.read(2, embedding=None)


def test_a_recall_policy_with_a_part_missing_is_refused():
    class Half(Rolling):
        def recall(self, past):
            return ()

    assert isinstance(Scripted(), RecallPolicy)
    with pytest.raises(
        TypeError, match=r"has no uses_summaries; expected all attributes of kvbank\.policies\.RecallPolicy"
    ):
        KVBank(policy=Half(2))


@pytest.mark.usefixtures("unhooked")
def test_what_is_no_policy_at_all_is_refused():
    with pytest.raises(
        TypeError, match=r"has no coverage, drop, uses_similarity, select, kind, retains; .*policies.Policy"
    ):
        KVBank(policy=object())


def test_a_past_by_hand_says_what_it_lacks():
    past = PolicyContext(index=2, spans={0: (4,), 1: (4,)}, metadata={0: {"shot": 1}})
    assert past.noted(0, "shot") == 1
    with pytest.raises(ValueError, match=r"chunk 1 has no 'pose' in its metadata, only \[\]; .*bank.annotate\(1, "):
        past.noted(1, "pose")
    with pytest.raises(ValueError, match="made without keys"):
        past.keys(0, 0)
    assert dataclasses.replace(past, spans={}).num_layers == 0


def test_a_summary_without_queries_has_none(make_layers):
    layer = make_layers(0)[0]
    summary = LayerSummary.of(dataclasses.replace(layer, query=None))
    assert summary.query is None
    assert summary.nbytes == 2 * 2 * 4 * 4
