"""`SelfForcingMemory` in a loop with Self-Forcing's conventions, on random weights."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from kvbank import Full, Int8, KVBank, Rolling, SemanticSparse, Sink, salient_tokens
from kvbank.adapters import SelfForcingMemory, WanRope
from kvbank.policies import QueryRecall

spec = importlib.util.spec_from_file_location("causal_loop", Path(__file__).with_name("causal_loop.py"))
loop = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loop)

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "self-forcing-memory.md"
PROMPTS = ["meadow", "meadow", "shore", "cave", "cave", "shore", "meadow"]
ROPE = WanRope(loop.DH)
GRID = (loop.ROWS, loop.COLUMNS)
SEMANTIC = SemanticSparse(top_l=1, num_recent=1, coverage=None)


def embedding_of(text):
    return text["prompt_embeds"][0].float().mean(dim=0)


def modules(pipeline):
    return [block.self_attn for block in pipeline.generator.model.blocks]


def remembering(pipeline, policy, *, watched=True, prompts=None, positions="slots", **options):
    """A memory in a pipeline: as the guide shows, and for chunks of unequal lengths."""
    memory = SelfForcingMemory(
        KVBank(policy=policy, rotate=ROPE, **options),
        rope=ROPE,
        grid=GRID,
        frames_per_chunk=pipeline.num_frame_per_block,
        positions=positions,
        attention=modules(pipeline) if watched else (),
    )

    def before(generator, args, kwargs):
        start = kwargs["current_start"]
        chunk = -(-start // memory.chunk_tokens)
        text = kwargs["conditional_dict"] if prompts is None else pipeline.text_encoder([prompts[chunk]])
        if chunk != memory.index:
            memory.begin(chunk, kwargs["kv_cache"], embedding=embedding_of(text), current_start=start)
            for layer in kwargs["crossattn_cache"]:
                layer["is_init"] = False
        return args, kwargs | {"conditional_dict": text, "current_start": memory.start}

    pipeline.generator.register_forward_pre_hook(before, with_kwargs=True)
    return memory


def made(pipeline, frames=18, **options):
    return pipeline.inference(loop.noise_of(frames, **options), ["meadow"])


def close(ours, theirs):
    return (ours - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize("positions", ["slots", "absolute"])
@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_full_memory_is_the_loop_without_it(positions, watched, batch):
    pipeline = loop.Pipeline()
    remembering(pipeline, Full(), positions=positions, watched=watched)
    assert close(made(pipeline, batch=batch), made(loop.Pipeline(), batch=batch))


@pytest.mark.parametrize("positions", ["slots", "absolute"])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_last_chunks_are_the_window_of_the_model(positions, window):
    """`local_attn_size` counts the chunk's own frames."""
    theirs = made(loop.Pipeline(local_attn_size=3 * (window + 1)))
    pipeline = loop.Pipeline()
    remembering(pipeline, Rolling(window), positions=positions)
    assert close(made(pipeline), theirs)
    assert not close(theirs, made(loop.Pipeline()))
    narrow = loop.Pipeline(local_attn_size=3 * (window + 1))  # in a cache of just this size
    remembering(narrow, Rolling(window), positions=positions)
    assert close(made(narrow), theirs)


def test_a_sink_at_absolute_positions_is_the_sink_of_the_model():
    theirs = made(loop.Pipeline(local_attn_size=9, sink_size=3))
    ours = {}
    for positions in ("absolute", "slots"):
        pipeline = loop.Pipeline()
        remembering(pipeline, Sink(1, 1), positions=positions)
        ours[positions] = made(pipeline)
    assert close(ours["absolute"], theirs)
    assert not close(ours["slots"], theirs)  # next to the window instead of far behind it


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("positions", ["slots", "absolute"])
def test_a_first_frame_that_is_a_chunk_of_its_own(positions, watched):
    pipeline = loop.Pipeline(first_frame_alone=True)
    memory = remembering(pipeline, Full(), positions=positions, watched=watched)
    assert close(made(pipeline, frames=16), made(loop.Pipeline(first_frame_alone=True), frames=16))
    assert [memory.bank.metadata[chunk]["start"] for chunk in range(5)] == [0, 1, 4, 7, 10]


def test_half_precision_is_the_loop_bit_for_bit_when_keys_are_taken_before_rope():
    def half(pipeline):
        pipeline.generator.bfloat16()
        return pipeline

    noise, plain, pipeline = loop.noise_of(18).bfloat16(), half(loop.Pipeline()), half(loop.Pipeline())
    remembering(pipeline, Full(), positions="absolute")
    theirs = plain.inference(noise, ["meadow"])
    assert torch.equal(pipeline.inference(noise, ["meadow"]), theirs)
    rotated_back = half(loop.Pipeline())
    remembering(rotated_back, Full(), positions="absolute", watched=False)
    assert 0 < (rotated_back.inference(noise, ["meadow"]) - theirs).float().abs().max() < 0.1


def by_hand(pipeline, policy, *, positions, frames=21):
    """Semantic memory without a bank: keys before RoPE of every chunk in a list, the past at positions from 0."""
    keys, chunks, embeddings, trace, last = {}, [], [], [], [None]
    for number, module in enumerate(modules(pipeline)):
        module.norm_k.register_forward_hook(lambda module, given, out, at=number: keys.update({at: out.clone()}))

    def before(generator, args, kwargs):
        start, cache = kwargs["current_start"], kwargs["kv_cache"]
        chunk = start // (3 * loop.FRAME)
        text = pipeline.text_encoder([PROMPTS[chunk]])
        if chunk != last[0]:
            if chunk:
                end = int(cache[0]["local_end_index"])
                own = slice(end - 3 * loop.FRAME, end)
                heads = (loop.HEADS, loop.DH)
                chunks.append([(keys[i].unflatten(2, heads), c["v"][:, own].clone()) for i, c in enumerate(cache)])
            embedding = embedding_of(text)
            trace.append(policy.select(chunk, [float(cosine_similarity(embedding, e, dim=0)) for e in embeddings]))
            embeddings.append(embedding)
            for number, layer in enumerate(cache):
                layer["local_end_index"].fill_(len(trace[-1]) * 3 * loop.FRAME)
                for slot, shown in enumerate(trace[-1]):
                    to = slice(slot * 3 * loop.FRAME, (slot + 1) * 3 * loop.FRAME)
                    key, value = chunks[shown][number]
                    place = slot if positions == "slots" else shown
                    layer["k"][:, to], layer["v"][:, to] = loop.turned(key, loop.turns(3, 3 * place)), value
            for layer in kwargs["crossattn_cache"]:
                layer["is_init"] = False
            last[0] = chunk
            here = len(trace[-1]) * 3 * loop.FRAME if positions == "slots" else start
            for layer in cache:
                layer["global_end_index"].fill_(here)
        here = len(trace[-1]) * 3 * loop.FRAME if positions == "slots" else start
        return args, kwargs | {"conditional_dict": text, "current_start": here}

    pipeline.generator.register_forward_pre_hook(before, with_kwargs=True)
    return made(pipeline, frames=frames), trace


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("positions", ["slots", "absolute"])
@pytest.mark.parametrize("policy", [SEMANTIC, SemanticSparse(top_l=2, num_recent=2, coverage=None)])
def test_semantic_memory_is_the_same_made_by_hand(policy, positions, watched):
    theirs, shown = by_hand(loop.Pipeline(), policy, positions=positions)
    pipeline = loop.Pipeline()
    memory = remembering(pipeline, policy, positions=positions, prompts=PROMPTS, watched=watched)
    assert close(made(pipeline, frames=21), theirs)
    assert [trace.chunks for trace in memory.bank.trace] == shown
    if policy == SEMANTIC:
        assert shown[6] == (1, 5)  # the meadow again: its newest chunk, and the chunk before
    assert int(pipeline.kv_cache1[0]["local_end_index"]) == (len(shown[6]) + 1) * memory.chunk_tokens


def test_salient_tokens_are_chosen_by_the_queries_of_the_clean_pass():
    pipeline = loop.Pipeline()
    memory = remembering(pipeline, SemanticSparse(top_l=1, num_recent=1, coverage=0.5), prompts=PROMPTS)
    seen = {}
    for number, module in enumerate(modules(pipeline)):
        for name in ("norm_q", "norm_k"):
            getattr(module, name).register_forward_hook(
                lambda module, given, out, at=(name, number): seen.update({at: out.unflatten(2, (loop.HEADS, loop.DH))})
            )
    made(pipeline, frames=3)
    memory.keep(pipeline.kv_cache1)
    memory.keep(pipeline.kv_cache1)  # a second time: nothing happens
    assert memory.bank.next_index == 1
    recall = memory.bank.read(1, embedding=torch.ones(loop.HEADS * loop.DH))
    for number, kept in enumerate(memory.bank.trace[-1].kept):
        query, key = (
            loop.turned(seen[name, number], loop.turns(3, 0)).transpose(1, 2) for name in ("norm_q", "norm_k")
        )
        (tokens,) = kept
        assert list(tokens) == salient_tokens(query, key, coverage=0.5).tolist()
        assert len(tokens) < memory.chunk_tokens
        unrotated = seen["norm_k", number].transpose(1, 2)[:, :, list(tokens)]
        assert torch.allclose(recall.layers[number].key, unrotated, atol=1e-6)


@pytest.mark.parametrize(
    "policy", [SemanticSparse(top_l=1, num_recent=1, coverage=0.6), QueryRecall(top_l=1, num_recent=1)]
)
def test_policies_that_look_at_queries(policy):
    pipeline = loop.Pipeline()
    memory = remembering(pipeline, policy, prompts=PROMPTS, quantization=Int8())
    assert made(pipeline, frames=21).isfinite().all()
    assert all(len(trace.chunks) <= 3 for trace in memory.bank.trace)
    filled = [int(cache["local_end_index"]) for cache in pipeline.kv_cache1]
    spans = memory.bank.trace[-1].spans
    assert filled == [sum(span) + memory.chunk_tokens for span in spans]


def test_a_memory_lets_go_of_what_its_policy_cannot_show_again():
    held = {}
    for frames in (9, 21):
        pipeline = loop.Pipeline()
        memory = remembering(pipeline, Rolling(2))
        made(pipeline, frames=frames)
        held[frames] = memory.bank.nbytes
        assert len(memory.bank) == 2
        assert memory.bank.chunks == (frames // 3 - 3, frames // 3 - 2)
    assert held[9] == held[21]


@pytest.mark.parametrize("first", [3, 21])
def test_a_second_video_is_as_the_first_of_a_new_memory(first):
    fresh, pipeline = loop.Pipeline(), loop.Pipeline()
    remembering(fresh, SEMANTIC, prompts=PROMPTS[::-1])
    memory = remembering(pipeline, SEMANTIC, prompts=PROMPTS[::-1])
    made(pipeline, frames=first)
    memory.reset()
    assert torch.equal(made(pipeline, frames=15), made(fresh, frames=15))
    assert memory.bank.next_index == 4  # of the second video alone
    memory.close()
    assert not any(module.norm_k._forward_hooks for module in modules(pipeline))


def test_slots_go_beyond_the_table_of_the_model(monkeypatch):
    monkeypatch.setattr(loop, "TABLE", 12)
    with pytest.raises(AssertionError, match="beyond the table"):
        made(loop.Pipeline())
    pipeline = loop.Pipeline()
    remembering(pipeline, SEMANTIC, prompts=PROMPTS)
    assert made(pipeline).isfinite().all()


def test_the_snippet_of_the_guide():
    if not GUIDE.exists():
        pytest.skip("the docs are not beside an installed package")
    (snippet,) = re.findall(r"^```py\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert snippet.count("grid=(30, 52)") == 1
    assert len(snippet.splitlines()) < 50
    pipeline = loop.Pipeline()
    scope = {"pipeline": pipeline, "prompts": PROMPTS}
    exec(compile(snippet.replace("(30, 52)", str(GRID)), str(GUIDE), "exec"), scope)
    video = made(pipeline, frames=21)
    other = loop.Pipeline()
    policy = scope["memory"].bank.policy
    assert policy == SemanticSparse(top_l=2, num_recent=2, coverage=0.98)
    remembering(other, policy, prompts=PROMPTS)
    assert torch.equal(video, made(other, frames=21))
    assert [trace.chunks for trace in scope["memory"].bank.trace][6] == (0, 1, 4, 5)


def test_what_does_not_fit_is_refused_before_the_cache_is_touched():
    pipeline = loop.Pipeline(local_attn_size=9)
    remembering(pipeline, Full())
    with pytest.raises(ValueError, match=r"chunk 3 is shown 54 tokens; attention has room for 36 beside .* own 18"):
        made(pipeline)
    assert int(pipeline.kv_cache1[0]["local_end_index"]) == 54
    larger = loop.Pipeline()
    for module in modules(larger):
        module.max_attention_size = 6 * loop.FRAME  # what attention reads, whatever the cache holds
    remembering(larger, Full())
    with pytest.raises(ValueError, match="chunk 2 is shown 36 tokens; attention has room for 18"):
        made(larger)


def memory_of(pipeline, **changed):
    options = {"rope": ROPE, "grid": GRID, "frames_per_chunk": 3} | changed
    return SelfForcingMemory(KVBank(policy=options.pop("policy", Full())), **options)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"policy": SemanticSparse()}, r"needs queries, which the cache does not hold: give attention="),
        (
            {"policy": QueryRecall(top_l=1, num_recent=1)},
            r"needs queries, which the cache does not hold: give attention=",
        ),
        ({"frames_per_chunk": 0}, "frames_per_chunk is 0; expected at least 1"),
        ({"grid": (0, 3)}, r"grid is \(0, 3\); expected rows and columns"),
        ({"attention": [torch.nn.Linear(1, 1)]}, r"attention\[0\] is a Linear without norm_k; expected"),
    ],
)
def test_a_wrong_setting_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        memory_of(loop.Pipeline(), **changed)


@pytest.mark.usefixtures("unhooked")
def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="positions is 'relative'; expected 'slots' or 'absolute'"):
        memory_of(loop.Pipeline(), positions="relative")


def test_a_memory_says_what_is_out_of_order():
    pipeline = loop.Pipeline()
    made(pipeline, frames=3)  # fills kv_cache1
    memory, cache = memory_of(pipeline), pipeline.kv_cache1
    with pytest.raises(ValueError, match="no chunk is open; call begin before the first pass"):
        memory.keep(cache)
    with pytest.raises(ValueError, match="current_start is 7; expected a multiple of 6"):
        memory.begin(0, cache, embedding=None, current_start=7)
    memory.begin(0, cache, embedding=None, current_start=0)
    with pytest.raises(ValueError, match="chunk 0 is not in the cache; run the model between begin and keep"):
        memory.keep(cache)
    with pytest.raises(ValueError, match="chunk 3 cannot read yet"):
        memory.begin(3, cache, embedding=None, current_start=54)


@pytest.mark.parametrize("changed", [{"grid": (3, 2)}, {"rope": WanRope(loop.DH, theta=100.0)}])
def test_keys_that_are_not_those_of_the_cache_are_refused(changed):
    pipeline = loop.Pipeline()
    made(pipeline, frames=3)
    memory = memory_of(pipeline, attention=modules(pipeline), **changed)
    memory.begin(0, pipeline.kv_cache1, embedding=None, current_start=0)
    x = torch.randn(1, memory.chunk_tokens, loop.HEADS * loop.DH)
    for module, cache in zip(modules(pipeline), pipeline.kv_cache1, strict=True):
        module(x, cache, 0)
    with pytest.raises(ValueError, match=r"keys of attention\[0\], rotated, are not those of chunk 0 in the cache"):
        memory.keep(pipeline.kv_cache1)
    assert memory.bank.next_index == 0


def test_a_cache_of_other_layers_is_refused():
    pipeline = loop.Pipeline()
    memory = remembering(pipeline, Full())
    made(pipeline, frames=6)
    memory.keep(pipeline.kv_cache1)
    with pytest.raises(ValueError, match="the cache has 1 layers; the chunks in the bank have 2"):
        memory.begin(2, pipeline.kv_cache1[:1], embedding=None, current_start=36)
