"""The policies that score for themselves, each against a loop over all chunks, heads, channels or points."""

import dataclasses
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvbank import KVBank, LayerKV
from kvbank.policies import DeepSink, LatentRecall, LayerSummary, PolicyContext, PoseRecall, QueryRecall, RecallPolicy

FIXED = settings(
    derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COUNTS = st.integers(0, 3)
SHARED = {"top_l": COUNTS, "num_recent": COUNTS, "num_sink": COUNTS}
QUERY_SCORED = [LatentRecall, QueryRecall, PoseRecall]
# Made in the tests from these: the jaxtyping hook draws random numbers, which strategies must not.
POLICIES = st.one_of(
    *(st.tuples(st.just(policy), st.fixed_dictionaries(SHARED)) for policy in QUERY_SCORED),
    st.tuples(
        st.just(DeepSink),
        st.fixed_dictionaries(
            {
                "num_sink": COUNTS,
                "num_recent": st.integers(1, 3),
                "num_tokens": COUNTS,
                "reach": st.one_of(st.none(), COUNTS),
            }
        ),
    ),
)


def candidates_of(policy, index):
    return [c for c in range(index) if c >= policy.num_sink and c < index - policy.num_recent]


def ranked(scores):
    """Best first by repeated search; ties go to the newest."""
    left, order = dict(scores), []
    while left:
        best = min(left)
        for chunk in sorted(left):
            if left[chunk] >= left[best]:
                best = chunk
        order.append(best)
        del left[best]
    return order


def expected_ids(policy, index, order):
    return tuple(sorted([c for c in range(index) if c not in candidates_of(policy, index)] + order[: policy.top_l]))


def random_past(seed, index, *, num_layers=2, tokens=3, heads=2, dh=3, **fields):
    generator = torch.Generator().manual_seed(seed)
    summaries = {
        chunk: tuple(LayerSummary(*torch.randn(2, 1, heads, dh, generator=generator)) for _ in range(num_layers))
        for chunk in range(index)
    }
    spans = dict.fromkeys(range(index), (tokens,) * num_layers)
    return PolicyContext(index=index, spans=spans, summaries=summaries, **fields)


@FIXED
@given(latents=st.lists(st.sampled_from([(1, 0), (0, 1), (1, 1), (-2, 0), (3, 1)]), max_size=9), data=st.data())
def test_latent_recall_is_the_nearest_to_the_newest(latents, data):
    policy = data.draw(st.builds(LatentRecall, **SHARED))
    index = len(latents)
    past = random_past(0, index, metadata={c: {"latent": list(each)} for c, each in enumerate(latents)})
    scores = {}
    for chunk in candidates_of(policy, index):
        x, y = latents[-1], latents[chunk]
        scores[chunk] = round((x[0] * y[0] + x[1] * y[1]) / math.hypot(*x) / math.hypot(*y), 7)
    chunks = expected_ids(policy, index, ranked(scores))
    assert {pick.chunks for pick in policy.recall(past)} == {chunks}
    # A trainer gets the same from the scores alone.
    assert policy.select(index, [scores.get(c, 9.0) for c in range(index)]) == chunks


@FIXED
@given(index=st.integers(0, 8), seed=st.integers(0, 999), data=st.data())
def test_query_recall_is_what_each_layer_asks_for(index, seed, data):
    layers = data.draw(st.one_of(st.none(), st.sets(st.integers(0, 2)).map(lambda each: tuple(sorted(each)))))
    temperature = data.draw(st.sampled_from([None, 0.5]))
    policy = QueryRecall(**data.draw(st.fixed_dictionaries(SHARED)), layers=layers, temperature=temperature)
    past = random_past(seed, index, num_layers=3)
    picks = policy.recall(past)
    assert len(picks) == (3 if index else 0)
    for layer, pick in enumerate(picks):
        scores = {}
        for chunk in candidates_of(policy, index) if layers is None or layer in layers else []:
            cosines = []
            for head in range(2):
                q = past.summaries[index - 1][layer].query[0, head].tolist()
                k = past.summaries[chunk][layer].key[0, head].tolist()
                cosines.append(sum(a * b for a, b in zip(q, k, strict=True)) / math.hypot(*q) / math.hypot(*k))
            scores[chunk] = sum(cosines) / 2
        recalled = ranked(scores)[: policy.top_l]
        assert pick.chunks == expected_ids(policy, index, recalled)
        assert not pick.tokens
        if temperature is None:
            assert not pick.weights
        else:
            total = sum(math.exp(scores[c] / temperature) for c in recalled)
            softmax = {c: math.exp(scores[c] / temperature) / total for c in recalled}
            assert pick.weights == pytest.approx({c: p / max(softmax.values()) for c, p in softmax.items()}, abs=1e-5)


def sees(policy, pose, point):
    """Whether a camera sees a point, by angles."""
    x, y, z = (a - b for a, b in zip(point, pose, strict=False))
    yaw, pitch = math.degrees(math.atan2(x, z)), math.degrees(math.atan2(y, math.hypot(x, z)))
    turned = abs(yaw - pose[4]) % 360
    horizontal, vertical = policy.field_of_view
    return min(turned, 360 - turned) < horizontal / 2 and abs(pitch - pose[3]) < vertical / 2


PLACE, PITCH, YAW = (st.sampled_from(each) for each in ([-9.3, 0.0, 7.7], [0.0, -20.7], [0.0, 91.3, 200.9]))


@FIXED
@given(
    poses=st.lists(st.tuples(PLACE, PLACE, PLACE, PITCH, YAW), max_size=6),
    timed=st.booleans(),
    data=st.data(),
)
def test_pose_recall_covers_greedily_what_the_reader_will_see(poses, timed, data):
    policy = data.draw(
        st.builds(PoseRecall, **SHARED, num_points=st.just(24), time=st.just("second" if timed else None))
    )
    reader, index = (1.1, 0.0, -0.6, 0.0, 10.3), len(poses)
    seconds = [2.5 * (chunk % 4) for chunk in range(index + 1)]
    past = random_past(
        0,
        index,
        metadata={c: {"pose": p, "second": s} for c, (p, s) in enumerate(zip([*poses, reader], seconds, strict=True))},
    )
    left = candidates_of(policy, index)
    ages = {c: abs(seconds[index] - seconds[c]) if timed else index - c for c in left}
    oldest = (max(ages.values(), default=0) or 1) if timed else index
    points = (policy._points() + torch.tensor(reader[:3], dtype=torch.float64)).tolist()
    wanted, order = {i for i, point in enumerate(points) if sees(policy, reader, point)}, []
    for _ in range(min(policy.top_l, len(left))):
        scores = {}
        for chunk in left:
            seen = {i for i in wanted if sees(policy, poses[chunk], points[i])}
            scores[chunk] = len(seen) / max(1, len(wanted)) - 0.2 * (ages[chunk] / oldest)
        order.append(ranked(scores)[0])
        left.remove(order[-1])
        wanted = {i for i in wanted if not sees(policy, poses[order[-1]], points[i])}
    assert {pick.chunks for pick in policy.recall(past)} == {expected_ids(policy, index, order)}


def test_points_fill_a_ball():
    points = PoseRecall(radius=2.0, num_points=8192)._points()
    radius = points.norm(dim=1)
    assert radius.max() <= 2.0
    # Half of the volume of a ball is within 0.5 ** (1 / 3) of its radius, and half on each side of a plane.
    assert (radius < 2.0 * 0.5 ** (1 / 3)).double().mean() == pytest.approx(0.5, abs=0.01)
    assert (points > 0).double().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.01)


def test_a_camera_that_looks_the_same_way_is_recalled_and_one_that_looks_away_is_not():
    east, west, up = [0, 0, 0, 0, 90], [0, 0, 0, 0, -90], [0, 0, 0, 80, 90]
    poses = [east, west, up, west, east]
    past = random_past(0, 4, metadata={c: {"pose": pose} for c, pose in enumerate(poses)})
    assert PoseRecall(top_l=1, num_recent=1).recall(past)[0].chunks == (0, 3)


DEEP = st.builds(
    DeepSink,
    num_sink=COUNTS,
    num_recent=st.integers(1, 3),
    num_tokens=st.integers(0, 9),
    reach=st.one_of(st.none(), COUNTS),
)


def deep_past(seed, sizes):
    """Keys and queries of few values, so that ties are common."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randint(-1, 2, shape, generator=generator).float()

    keys = {(chunk, layer): draw(1, 2, size, 2) for chunk, size in enumerate(sizes) for layer in range(2)}
    return PolicyContext(
        index=len(sizes),
        spans={chunk: (size, size) for chunk, size in enumerate(sizes)},
        summaries={
            chunk: tuple(LayerSummary(*draw(2, 1, 2, 2).unbind(0)) for _ in range(2)) for chunk in range(len(sizes))
        },
        keys=lambda chunk, layer: keys[chunk, layer],
    )


@FIXED
@given(policy=DEEP, seed=st.integers(0, 999), sizes=st.lists(st.integers(1, 4), max_size=7))
def test_deep_sink_shows_the_tokens_that_the_window_asks_for(policy, seed, sizes):
    index, past = len(sizes), deep_past(seed, sizes)
    window = [c for c in range(index) if c >= index - policy.num_recent]
    oldest = 0 if policy.reach is None else index - policy.num_recent - policy.reach
    between = [c for c in candidates_of(policy, index) if c >= oldest]
    whole = [c for c in range(index) if c < policy.num_sink or c in window]
    for layer, pick in enumerate(policy.recall(past)):
        scored = []
        for chunk in between:
            for token in range(sizes[chunk]):
                score = sum(
                    float(past.keys(chunk, layer)[0, head, token] @ past.summaries[c][layer].query[0, head])
                    for c in window
                    for head in range(2)
                )
                scored.append((score, chunk, token))
        taken = sorted(scored, reverse=True)[: policy.num_tokens]
        expected = {chunk: sorted(t for _, c, t in taken if c == chunk) for _, chunk, _ in taken}
        assert {chunk: tokens.tolist() for chunk, tokens in pick.tokens.items()} == expected
        assert pick.chunks == tuple(sorted([*whole, *expected]))


def test_deep_sink_fills_the_budget(make_layers):
    bank = KVBank(policy=DeepSink(num_sink=1, num_recent=1), budget=29)
    for chunk in range(5):
        bank.write(chunk, make_layers(chunk), embedding=None)
    recall = bank.read(5, embedding=None)
    assert [sum(spans) for spans in recall.spans] == [29, 29]
    assert set(recall.kinds) == {"sink", "recalled", "recent"}
    with pytest.raises(ValueError, match="has no num_tokens and the bank no budget"):
        DeepSink(num_sink=1, num_recent=1).recall(dataclasses.replace(bank.policy_context(5), budget=None))


def test_deep_sink_frees_what_is_out_of_reach(make_layers):
    bank = KVBank(policy=DeepSink(num_sink=1, num_recent=2, num_tokens=4, reach=1))
    for chunk in range(7):
        bank.read(chunk, embedding=None)
        bank.write(chunk, make_layers(chunk), embedding=None)
    assert bank.chunks == (0, 4, 5, 6)
    assert [sum(spans) for spans in bank.read(7, embedding=None).spans] == [3 * 12 + 4] * 2


@FIXED
@given(policy=POLICIES, index=st.integers(0, 10), later=st.integers(0, 6), data=st.data())
def test_recall_policies_keep_the_rules_of_policies(policy, index, later, data):
    policy = policy[0](**policy[1])
    assert isinstance(policy, RecallPolicy)
    assert {policy: 1}[dataclasses.replace(policy)] == 1
    reader = index + later
    scores = data.draw(st.lists(st.floats(-1, 1), min_size=reader, max_size=reader))
    chunks = policy.select(reader, scores)
    assert list(chunks) == sorted(set(chunks))
    assert set(chunks) <= set(range(reader))
    for chunk in chunks:
        assert chunk >= index or policy.retains(index, chunk)
        recent, sink = chunk >= reader - policy.num_recent, chunk < policy.num_sink
        assert policy.kind(reader, chunk) == ("recent" if recent else "sink" if sink else "recalled")


@pytest.mark.parametrize(
    "policy",
    [
        LatentRecall(top_l=1, num_recent=1, num_sink=1, coverage=0.8),
        QueryRecall(top_l=1, num_recent=1, temperature=0.2),
        PoseRecall(top_l=2, num_recent=1),
        DeepSink(num_sink=1, num_recent=1, num_tokens=7),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_a_video_under_each_policy_reads_what_its_trace_says(make_layers, policy):
    bank = KVBank(policy=policy)
    for chunk in range(7):
        bank.annotate(chunk, {"pose": [0, 0, 0, 0, 60 * chunk]})
        recall = bank.read(chunk, embedding=None)
        assert recall.chunks or chunk == 0
        trace = bank.trace[-1]
        for number, layer in enumerate(recall.layers):
            parts = [
                make_layers(c)[number].key[:, :, list(tokens)]
                for c, tokens in zip(recall.chunks, trace.kept[number], strict=True)
            ]
            assert torch.equal(layer.key, torch.cat(parts, 2))
        bank.write(chunk, make_layers(chunk), embedding=None)
        bank.annotate(chunk, {"latent": torch.eye(3)[chunk % 3].tolist()})
    assert "recalled" in recall.kinds


def test_layers_may_ask_for_different_chunks():
    def layer(chunk, number):
        """Layer 0 asks for what chunk 0 holds, layer 1 for what chunk 1 holds."""
        key = torch.eye(2)[(chunk + number) % 2].expand(1, 1, 3, 2)
        query = torch.eye(2)[0].expand(1, 1, 3, 2)
        return LayerKV(key, key, torch.zeros(3, 3, dtype=torch.int64), query=query)

    bank = KVBank(policy=QueryRecall(top_l=1, num_recent=1))
    for chunk in range(3):
        bank.write(chunk, [layer(chunk, number) for number in range(2)], embedding=None)
    recall = bank.read(3, embedding=None)
    assert recall.chunks == (0, 1, 2)
    assert recall.kinds == ("recalled", "recalled", "recent")
    assert recall.spans == ((3, 0, 3), (0, 3, 3))


def test_a_budget_holds_recall_back(make_layers):
    bank = KVBank(policy=QueryRecall(top_l=3, num_recent=1), budget=25)
    for chunk in range(6):
        bank.write(chunk, make_layers(chunk), embedding=None)
    assert [sum(spans) for spans in bank.read(6, embedding=None).spans] == [24, 24]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (LatentRecall(num_recent=1), "chunk 3 has no 'latent' in its metadata"),
        (PoseRecall(num_recent=1), "chunk 4 has no 'pose' in its metadata"),
        (QueryRecall(num_recent=1), "chunk 3 came without queries"),
        (DeepSink(num_sink=1, num_recent=1, num_tokens=2), "chunks before 4 came without queries"),
        (QueryRecall(layers=(1, 2)), r"layers is \(1, 2\); the chunks held have layers 0 to 1"),
    ],
)
def test_what_a_policy_needs_it_demands(make_layers, policy, message):
    bank = KVBank(policy=policy)
    for chunk in range(4):
        bank.write(chunk, [dataclasses.replace(layer, query=None) for layer in make_layers(chunk)], embedding=None)
    with pytest.raises(ValueError, match=message):
        bank.read(4, embedding=None)


@pytest.mark.parametrize("pose", [[0, 0, 0, 0], [[0, 0, 0, 0, 0]]])
def test_a_pose_has_five_numbers(pose):
    past = random_past(0, 4, metadata={chunk: {"pose": pose} for chunk in range(5)})
    with pytest.raises(ValueError, match=r"pose of chunk 4 has shape .* expected x, y, z, pitch, yaw"):
        PoseRecall(num_recent=1).recall(past)


def test_scores_must_be_one_a_chunk():
    with pytest.raises(ValueError, match="got 2 scores for chunk 5; expected one for each chunk before it"):
        LatentRecall().select(5, [0.1, 0.2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LatentRecall(top_l=-1), "top_l is -1"),
        (lambda: LatentRecall(coverage=2.0), "coverage is 2.0"),
        (lambda: QueryRecall(temperature=0.0), "temperature is 0.0"),
        (lambda: QueryRecall(layers=(-1,)), "layers is -1"),
        (lambda: PoseRecall(num_points=0), "num_points is 0"),
        (lambda: PoseRecall(field_of_view=(0.0, 90.0)), "field_of_view is"),
        (lambda: PoseRecall(radius=0.0), "radius is 0.0"),
        (lambda: PoseRecall(age_weight=-1.0), "age_weight -1.0"),
        (lambda: DeepSink(num_recent=0), "num_recent is 0; expected at least 1"),
        (lambda: DeepSink(num_tokens=-1), "num_tokens is -1"),
        (lambda: DeepSink(reach=-1), "reach is -1"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
