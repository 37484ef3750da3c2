"""`RecallCache` in a small chunk-causal transformer of attention alone, beside one masked pass over the whole video."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kvbank import Full, Int8, KVBank, LayerKV, Rolling, SemanticSparse, Sink, salient_tokens
from kvbank.adapters import RecallCache, WanRope

HEADS, DH, ROWS, COLUMNS, LAYERS = 2, 10, 2, 3, 3
FRAME = ROWS * COLUMNS
ROPE = WanRope(DH)
PLACES = [0, 0, 1, 2, 2, 1, 0]
SEMANTIC = SemanticSparse(top_l=1, num_recent=1, coverage=None)


def weights():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(LAYERS, HEADS * DH, 3 * HEADS * DH, generator=generator) / (HEADS * DH) ** 0.5


def qkv(x, weight):
    parts = (torch.tanh(x) @ weight).chunk(3, dim=2)
    return [2 * part.unflatten(2, (HEADS, DH)) for part in parts]


def attended(query, key, value, mask=None):
    heads_first = (part.transpose(1, 2) for part in (query, key, value))
    return scaled_dot_product_attention(*heads_first, attn_mask=mask).transpose(1, 2).flatten(2)


def turned(x, times):
    """The rotary embedding by complex numbers; `times` holds the place in time of each frame."""
    side = DH // 6
    axes = (torch.tensor(times), torch.arange(ROWS), torch.arange(COLUMNS))
    places = torch.meshgrid(*axes, indexing="ij")
    angles = [
        place.flatten()[:, None] * 10000.0 ** -(torch.arange(width, dtype=torch.float64) / max(width, 1))
        for place, width in zip(places, (DH // 2 - 2 * side, side, side), strict=True)
    ]
    angle = torch.cat(angles, dim=1)[:, None]
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2).to(x.dtype)


def chunks_of(lengths, batch=1):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, frames * FRAME, HEADS * DH, generator=generator) for frames in lengths]


def embedding(chunk):
    return torch.eye(3)[PLACES[chunk]]


def run(cache, x):
    """One pass over a chunk; the outputs of all layers."""
    outputs = []
    for layer, weight in enumerate(weights()):
        query, key, value = qkv(x, weight)
        cache.update(key, value, layer, query=query)
        x = x + attended(cache.rotate(query), *cache.get(layer))
        outputs.append(x)
    return outputs[-1]


def cached(policy, chunks, *, positions="slots", **options):
    """Two steps and a clean pass for each chunk."""
    cache = RecallCache(
        KVBank(policy=policy, rotate=ROPE, **options), rope=ROPE, grid=(ROWS, COLUMNS), positions=positions
    )
    return cache, through(cache, chunks)


def through(cache, chunks):
    made = []
    for index, x in enumerate(chunks):
        cache.begin(index, embedding=embedding(index))
        run(cache, x + 1.0)
        run(cache, x - 0.5)
        made.append(run(cache, x))
    return made


def masked(chunks, shown):
    """One pass over the whole video in which chunk i sees `shown[i]` and itself, at their places in the video."""
    lengths = [x.shape[1] for x in chunks]
    owner = torch.arange(len(chunks)).repeat_interleave(torch.tensor(lengths))
    sees = torch.eye(len(chunks), dtype=torch.bool)
    for index, seen in enumerate(shown):
        sees[index, list(seen)] = True
    mask, x = sees[owner][:, owner], torch.cat(chunks, dim=1)
    times = range(x.shape[1] // FRAME)
    for weight in weights():
        query, key, value = qkv(x, weight)
        x = x + attended(turned(query, times), turned(key, times), value, mask=mask)
    return x.split(lengths, dim=1)


def close(ours, theirs):
    return all((one - other).abs().max() < 1e-5 for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("positions", ["slots", "absolute"])
@pytest.mark.parametrize("lengths", [(2, 2, 2, 2, 2), (1, 3, 2, 1, 2)])
@pytest.mark.parametrize("policy", [Full(), Rolling(2)])
def test_a_window_is_one_masked_pass_wherever_its_chunks_are_placed(policy, lengths, positions):
    chunks = chunks_of(lengths, batch=2)
    _, made = cached(policy, chunks, positions=positions)
    assert close(made, masked(chunks, [policy.select(index) for index in range(5)]))


@pytest.mark.parametrize("policy", [SEMANTIC, SemanticSparse(top_l=2, num_recent=1, coverage=None, num_sink=1)])
def test_what_is_shown_is_what_the_policy_selects(policy):
    chunks = chunks_of([2] * 7)
    cache, made = cached(policy, chunks, positions="absolute")
    shown = [
        policy.select(index, [float(PLACES[index] == PLACES[earlier]) for earlier in range(index)])
        for index in range(7)
    ]
    assert [trace.chunks for trace in cache.bank.trace] == shown
    assert close(made, masked(chunks, shown))
    assert not close(made, cached(policy, chunks)[1])


@pytest.mark.parametrize("policy", [SEMANTIC, Sink(1, 1)])
def test_slots_are_right_before_the_chunk_and_in_order(policy):
    """The keys that `get` gives, turned by hand: recalled, recent, own."""
    lengths = (1, 2, 3, 1, 2, 2, 2)
    chunks = chunks_of(lengths)
    cache, _ = cached(policy, chunks)
    seen = cache.bank.trace[-1].chunks
    assert len(seen) == 2
    keys = [[qkv(x, weights()[0])[1] for x in chunks][chunk] for chunk in (*seen, 6)]
    first = -sum(lengths[chunk] for chunk in seen)
    expected = turned(torch.cat(keys, dim=1), range(first, lengths[6]))
    key, value = cache.get(0)
    assert torch.allclose(key, expected, atol=1e-5)
    values = [qkv(chunks[chunk], weights()[0])[2] for chunk in (*seen, 6)]
    assert torch.equal(value, torch.cat(values, dim=1))


@dataclass(frozen=True)
class Mixed:
    """Shows chunks 0 to 2, of which the middle one alone is called recalled."""

    coverage: ClassVar[None] = None
    drop: ClassVar[float] = 0.0
    uses_similarity: ClassVar[bool] = False

    def select(self, index, similarity=()):
        return tuple(range(index))

    def kind(self, index, chunk):
        return "recalled" if chunk == 1 else "recent"

    def retains(self, index, chunk):
        return True


def test_recent_chunks_have_the_last_slots_whatever_their_numbers():
    chunks = chunks_of((1, 2, 3, 1))
    cache, _ = cached(Mixed(), chunks)
    keys = [qkv(x, weights()[0])[1] for x in chunks]
    slots = (range(-4, -3), range(-6, -4), range(-3, 0), range(1))
    expected = torch.cat([turned(key, slot) for key, slot in zip(keys, slots, strict=True)], dim=1)
    assert torch.allclose(cache.get(0)[0], expected, atol=1e-5)


def test_salient_tokens_are_those_of_the_last_pass():
    chunks = chunks_of([3])
    cache, _ = cached(SemanticSparse(top_l=1, num_recent=1, coverage=0.5), chunks)
    cache.begin(1, embedding=embedding(1))
    query, key, _ = (part.transpose(1, 2) for part in qkv(chunks[0], weights()[0]))
    times = range(3)
    heads_last = (turned(part.transpose(1, 2), times).transpose(1, 2) for part in (query, key))
    (kept,) = cache.bank.trace[-1].kept[0]
    assert list(kept) == salient_tokens(*heads_last, coverage=0.5).tolist()
    assert len(kept) < 3 * FRAME


def test_a_packed_bank_on_disk_is_a_cache_as_well(tmp_path):
    chunks = chunks_of([2] * 4)
    bank = KVBank(policy=Full(), quantization=Int8()).open(tmp_path / "bank")
    cache = RecallCache(bank, rope=ROPE, grid=(ROWS, COLUMNS))
    packed, whole = through(cache, chunks), cached(Full(), chunks)[1]
    assert (packed[-1] - whole[-1]).abs().max() < 0.1
    cache.keep()
    bank.close()
    continued = KVBank.load(tmp_path / "bank")
    again = RecallCache(continued, rope=ROPE, grid=(ROWS, COLUMNS), positions="absolute")
    again.begin(4, embedding=None)
    assert (again.rotate(x := torch.ones(1, FRAME, HEADS, DH)) - turned(x, [8])).abs().max() < 1e-6
    continued.close()


def test_half_precision_stays_half_precision():
    chunks = [x.bfloat16() for x in chunks_of([2] * 3)]
    cache = RecallCache(KVBank(policy=Full()), rope=ROPE, grid=(ROWS, COLUMNS))
    for index, x in enumerate(chunks):
        cache.begin(index, embedding=None)
        for layer, weight in enumerate(weights().bfloat16()):
            query, key, value = qkv(x, weight)
            cache.update(key, value, layer, query=query)
            assert {part.dtype for part in (*cache.get(layer), cache.rotate(query))} == {torch.bfloat16}


def test_a_window_frees_what_it_cannot_show_again():
    cache, _ = cached(Rolling(2), chunks_of([2] * 7))
    assert cache.bank.chunks == (4, 5)


@pytest.mark.parametrize("first", [1, 5])
def test_a_second_video_is_as_the_first_of_a_new_cache(first):
    cache, _ = cached(SEMANTIC, chunks_of([2] * first))
    cache.reset()
    assert cache.index is None
    chunks = chunks_of([1] * 4)
    again, fresh = through(cache, chunks), cached(SEMANTIC, chunks)[1]
    assert all(torch.equal(one, other) for one, other in zip(again, fresh, strict=True))
    assert cache.bank.next_index == 3


def test_a_chunk_made_again_replaces_what_followed():
    chunks = chunks_of([2] * 5)
    cache, made = cached(SEMANTIC, chunks)
    for index in (2, 3):
        cache.begin(index, embedding=embedding(index))
        assert torch.equal(run(cache, chunks[index]), made[index])
    assert cache.bank.next_index == 3
    cache.keep()
    cache.keep()  # a second time: nothing happens
    assert cache.bank.next_index == 4


def test_a_cache_says_what_is_out_of_order():
    cache = RecallCache(KVBank(policy=Full()), rope=ROPE, grid=(ROWS, COLUMNS))
    x = torch.ones(1, FRAME, HEADS, DH)
    for call in (cache.keep, lambda: cache.update(x, x, 0), lambda: cache.rotate(x)):
        with pytest.raises(ValueError, match=r"no chunk is open; call begin\(index, embedding=...\) before the steps"):
            call()
    cache.begin(0, embedding=None)
    with pytest.raises(ValueError, match="layer 0 has nothing of the current chunk; call update before get"):
        cache.get(0)
    with pytest.raises(ValueError, match="chunk 0 has no keys and values; run the model between begin and keep"):
        cache.begin(1, embedding=None)
    with pytest.raises(
        ValueError, match="a chunk has 7 tokens; expected a multiple of 6, the 2 x 3 tokens of a latent"
    ):
        cache.rotate(torch.ones(1, 7, HEADS, DH))
    cache.update(x, x, 0)
    cache.begin(1, embedding=None)
    cache.update(x, x, 1)
    with pytest.raises(ValueError, match="layer is 1; the chunks before have 1 layers"):
        cache.get(1)


def test_chunks_that_something_else_wrote_must_say_where_they_are():
    chunks, written = chunks_of([2] * 2), KVBank(policy=Full())
    cache, made = cached(Full(), chunks)
    cache.keep()
    recall = cache.bank.read(2, embedding=None)
    for index, tokens in enumerate((slice(0, 2 * FRAME), slice(2 * FRAME, None))):
        layers = [LayerKV(x.key[:, :, tokens], x.value[:, :, tokens], x.position[tokens]) for x in recall.layers]
        written.write(index, layers, embedding=None)
    other = RecallCache(written, rope=ROPE, grid=(ROWS, COLUMNS))
    with pytest.raises(ValueError, match="the metadata of chunk 1 lacks its start and frames"):
        other.begin(2, embedding=None)
    for index in range(2):
        written.annotate(index, {"start": 2 * index, "frames": 2})
    for each in (cache, other):
        each.begin(2, embedding=None)
    assert torch.equal(run(cache, made[0]), run(other, made[0]))


def test_missing_queries_are_asked_for_at_the_first_layer():
    cache = RecallCache(KVBank(policy=SemanticSparse()), rope=ROPE, grid=(ROWS, COLUMNS))
    cache.begin(0, embedding=torch.ones(3))
    x = torch.ones(1, FRAME, HEADS, DH)
    with pytest.raises(ValueError, match=r"query is None; SemanticSparse\(.*\) needs queries: update\("):
        cache.update(x, x, 0)


@pytest.mark.parametrize("width", [2, 4, 6, 10, 16, 22, 128])
def test_rope_is_that_of_wan_and_a_negative_position_undoes_it(width):
    x = torch.randn(2, 3, 5, width, generator=torch.Generator().manual_seed(2))
    position = torch.tensor([[0, 0, 0], [1, 2, 3], [7, 0, 1], [20, 29, 51], [1023, 1, 1]])
    rope = WanRope(width)
    side = 2 * (width // 6)
    for token, place in enumerate(position.tolist()):
        start = 0
        for axis, own in zip(place, (width - 2 * side, side, side), strict=True):
            for pair in range(own // 2):
                turn = torch.polar(torch.ones(1), torch.tensor([axis * 10000.0 ** (-2 * pair / own)]))
                at = start + 2 * pair
                here = torch.view_as_complex(x[:, :, token, at : at + 2].contiguous()) * turn
                found = torch.view_as_complex(rope(x, position)[:, :, token, at : at + 2].contiguous())
                assert torch.allclose(found, here, atol=2e-4)  # the angle of the reference is in float32
            start += own
    assert (rope(rope(x, position), -position) - x).abs().max() < 1e-6


@pytest.mark.parametrize("width", [0, 7])
def test_a_head_width_that_cannot_turn_is_refused(width):
    with pytest.raises(ValueError, match=f"head_dim is {width}; expected a positive even number"):
        WanRope(width)


def test_heads_of_another_width_are_refused():
    with pytest.raises(ValueError, match="the heads are 10 wide; this WanRope is for 128"):
        WanRope(128)(torch.ones(1, 1, 1, 10), torch.zeros(1, 3, dtype=torch.int64))
