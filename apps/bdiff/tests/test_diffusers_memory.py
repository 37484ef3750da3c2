"""The attention processor of the guide, in diffusers' model and a loop of its own, beside `bdiff_core.generate`."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from bdiff_core import ChunkCondition, generate, load_transformer
from kvbank import DynamicSparse, Full, KVBank, Rolling, SemanticSparse
from kvbank.adapters import RecallCache, WanRope
from noisesched import NoiseStream

diffusers = pytest.importorskip("diffusers", reason="the model is one of diffusers")

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "diffusers-memory.md"
SIZES = {
    "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 8,
    "freq_dim": 32, "ffn_dim": 48, "num_layers": 3,
}  # fmt: skip
FRAMES, HEIGHT, WIDTH = 2, 4, 6
PLACES = [0, 0, 1, 2, 2, 1, 0]
GRID = [1.0, 0.75, 0.4, 0.0]


@pytest.fixture(scope="module")
def processor():
    """The class that the guide shows."""
    if not GUIDE.exists():
        pytest.skip("the docs are not beside an installed package")
    (block,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    shown = block[: block.index("\n\n\ntransformer = ")]
    scope = {}
    exec(compile(shown, str(GUIDE), "exec"), scope)
    assert len(shown[shown.index("class RecallAttention") :].splitlines()) <= 22
    return scope["RecallAttention"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """diffusers' model with random weights, and ours read from what it saves."""
    theirs = diffusers.WanTransformer3DModel(**SIZES)
    generator = torch.Generator().manual_seed(0)
    for name, p in theirs.named_parameters():
        scale = 0.3 if p.ndim < 2 or "table" in name else p[0].numel() ** -0.5
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        p.data = offset + scale * torch.randn(p.shape, generator=generator)
    folder = tmp_path_factory.mktemp("wan")
    theirs.save_pretrained(folder)
    return theirs.eval(), load_transformer(folder)


def conditions():
    texts = torch.randn(3, 512, 8, generator=torch.Generator().manual_seed(4))
    texts[:, 9:] = 0.0
    return [
        ChunkCondition(index=i, text=texts[place], negative=torch.zeros(512, 8), embedding=torch.eye(3)[place])
        for i, place in enumerate(PLACES)
    ]


def by_diffusers(model, cache, noise, *, guidance):
    """The loop of the guide; with guidance both prompts are a batch of two."""
    made = []
    for chunk in conditions():
        text = torch.stack([chunk.text] if guidance == 1.0 else [chunk.text, chunk.negative])

        def velocity(x, level, text=text):
            batch = len(text)
            out = model(x.expand(batch, -1, -1, -1, -1), torch.full((batch,), 1000 * level), text).sample
            return out[:1] if batch == 1 else out[1:] + guidance * (out[:1] - out[1:])

        cache.begin(chunk.index, embedding=chunk.embedding)
        x = noise.chunk(chunk.index).transpose(0, 1)[None]
        for level, after in pairwise(GRID):
            x = x + (after - level) * velocity(x, level)
        velocity(x, 0.0)
        made.append(x)
    return made


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("positions", ["slots", "absolute"])
@pytest.mark.parametrize(
    "policy",
    [Full(), Rolling(2), SemanticSparse(2, 1, None), SemanticSparse(1, 1, 0.7), DynamicSparse(2, coverage=0.6)],
    ids=str,
)
def test_latents_are_those_of_our_loop(processor, pair, policy, positions, guidance):
    theirs, ours = pair
    rope = WanRope(SIZES["attention_head_dim"])
    cache = RecallCache(
        KVBank(policy=policy, rotate=rope, seed=5), rope=rope, grid=(HEIGHT // 2, WIDTH // 2), positions=positions
    )
    for layer, block in enumerate(theirs.blocks):
        block.attn1.set_processor(processor(cache, layer))
    noise = NoiseStream((4, HEIGHT, WIDTH), FRAMES, seed=1)
    memory = KVBank(policy=policy, rotate=ours.rotate, seed=5)
    options = {"noise": noise, "grid": GRID, "positions": positions, "guidance": guidance}
    with torch.no_grad():
        found = by_diffusers(theirs, cache, noise, guidance=guidance)
        expected = [chunk.latents for chunk in generate(ours, conditions(), memory=memory, **options)]
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 1e-5 * max(1.0, float(other.abs().max()))
    assert [trace.chunks for trace in cache.bank.trace] == [trace.chunks for trace in memory.trace]
    assert [trace.kept for trace in cache.bank.trace] == [trace.kept for trace in memory.trace]
    if policy.coverage is not None:
        assert min(cache.bank.trace[-1].shares) < 1.0


def test_a_full_memory_is_diffusers_own_pass_over_the_first_chunk(processor, pair):
    """Nothing is recalled there, so the processor is the one that it replaces."""
    model, _ = pair
    rope = WanRope(SIZES["attention_head_dim"])
    cache = RecallCache(KVBank(policy=Full()), rope=rope, grid=(HEIGHT // 2, WIDTH // 2))
    x = torch.randn(1, 4, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    own = type(model.blocks[0].attn2.processor)
    made = []
    for kind in (processor, lambda cache, layer: own()):
        for layer, block in enumerate(model.blocks):
            block.attn1.set_processor(kind(cache, layer))
        cache.begin(0, embedding=None)
        with torch.no_grad():
            made.append(model(x, torch.full((1,), 700.0), conditions()[0].text[None]).sample)
    assert (made[0] - made[1]).abs().max() < 1e-5
