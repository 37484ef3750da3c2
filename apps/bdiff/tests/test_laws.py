"""The laws of the design with the real parts: the transformer, the loop, the bank and the noise."""

import importlib.util
from pathlib import Path

import pytest
import torch

from bdiff_core import ChunkCondition, ChunkDiT, ModelConfig, generate, prepare_context
from kvbank import DynamicSparse, Full, KVBank, Rolling, SemanticSparse, Sink
from noisesched import NoiseStream, denoising_grid

CONFIG = ModelConfig(
    dim=40,
    num_layers=3,
    num_heads=2,
    ffn_dim=48,
    in_channels=3,
    out_channels=3,
    text_dim=12,
    text_length=6,
    freq_dim=16,
)
CHUNKS, FRAMES, SIZE = 7, 2, (4, 6)
PLACES = torch.tensor([0, 1, 1, 2, 2, 0, 1])
POLICIES = (
    SemanticSparse(top_l=2, num_recent=1, coverage=0.7),
    DynamicSparse(num_chunks=3, coverage=0.6),
    Rolling(2),
    Sink(1, 2),
    Full(),
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    model = ChunkDiT(CONFIG)
    for parameter in model.parameters():
        parameter.data = (
            0.3 * torch.randn(parameter.shape)
            if parameter.ndim < 2
            else 1.5 * torch.randn(parameter.shape) / parameter.shape[-1] ** 0.5
        )
    return model


@pytest.fixture(scope="module")
def reference():
    """The slow transformer of bdiff-core's tests."""
    path = Path(__file__).parents[3] / "packages/bdiff-core/tests/reference.py"
    spec = importlib.util.spec_from_file_location("bdiff_core_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def embedding(chunk):
    return torch.nn.functional.one_hot(PLACES[chunk], 3).float()


def conditions(seed=0):
    texts = torch.randn(CHUNKS, 6, 12, generator=torch.Generator().manual_seed(seed))
    return [
        ChunkCondition(index=c, text=texts[c], negative=torch.zeros(6, 12), embedding=embedding(c))
        for c in range(CHUNKS)
    ]


def bank(model, policy):
    return KVBank(policy=policy, rotate=model.rotate, seed=5)


def film(model, chunks, memory, **options):
    stream, grid = NoiseStream((3, *SIZE), FRAMES, seed=1), denoising_grid(3)
    with torch.no_grad():
        return list(generate(model, chunks, memory=memory, noise=stream, grid=grid, **options))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_law_2_any_memory_equals_one_pass_with_the_masks_of_its_trace(model, reference, policy):
    """Random latents, levels and prompts; chunk ids and kept tokens as the bank recorded them."""
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(1, 3, CHUNKS * FRAMES, *SIZE, generator=generator)
    levels = torch.rand(1, CHUNKS, generator=generator).repeat_interleave(FRAMES, 1)
    prompts = torch.randn(1, CHUNKS, 6, 12, generator=generator)
    memory, cached = bank(model, policy), []
    with torch.no_grad():
        for c in range(CHUNKS):
            chunk = slice(c * FRAMES, (c + 1) * FRAMES)
            recall = memory.read(c, embedding=embedding(c))
            context = prepare_context(recall, model=model, index=c, positions="absolute", frames_per_chunk=FRAMES)
            given = latents[:, :, chunk], levels[:, chunk], prompts[:, c]
            where = {"context": context, "start": c * FRAMES}
            cached.append(model(*given, **where))
            memory.write(c, model.keys_values(*given, **where), embedding=embedding(c))
    tokens = CONFIG.num_tokens(FRAMES, *SIZE)
    masks = [torch.zeros(CHUNKS * tokens, CHUNKS * tokens, dtype=torch.bool) for _ in range(CONFIG.num_layers)]
    for trace in memory.trace:
        rows = slice(trace.index * tokens, (trace.index + 1) * tokens)
        for layer, mask in enumerate(masks):
            mask[rows, rows] = True
            for i, earlier in enumerate(trace.chunks):
                mask[rows, earlier * tokens + torch.tensor(list(trace.kept[layer][i]))] = True
    whole = reference.forward(
        model, latents[0], levels[0], prompts[0], chunk_of_frame=[f // FRAMES for f in range(CHUNKS * FRAMES)],
        position=model.positions(latents), masks=masks,
    )  # fmt: skip
    made = torch.cat(cached, dim=2)[0]
    assert ((made - whole).norm() / whole.norm()).item() < 1e-4
    if getattr(policy, "coverage", None):
        assert min(share for trace in memory.trace for share in trace.shares) < 1.0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_law_3_a_prompt_changes_no_chunk_before_it(model, policy, guidance):
    before = conditions()
    after = [*before[:4], conditions(seed=8)[4], *before[5:]]
    one, other = (film(model, chunks, bank(model, policy), guidance=guidance) for chunks in (before, after))
    same = [torch.equal(a.latents, b.latents) for a, b in zip(one, other, strict=True)]
    assert same[:4] == [True] * 4
    assert not same[4]
    assert not same[5]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_law_5_going_on_from_a_saved_bank_gives_the_same_bytes(model, policy, tmp_path):
    whole = film(model, conditions(), bank(model, policy))
    memory = bank(model, policy)
    head = film(model, conditions()[:4], memory)
    memory.save(tmp_path / "bank.safetensors")
    again = KVBank.load(tmp_path / "bank.safetensors", rotate=model.rotate)
    tail = film(model, conditions()[4:], again)
    for one, other in zip(whole, [*head, *tail], strict=True):
        assert torch.equal(one.latents, other.latents)
        assert one.recall.chunks == other.recall.chunks


def test_a_window_has_constant_memory_and_recall_grows_by_what_is_kept(model):
    sizes = {}
    for policy in (Rolling(2), SemanticSparse(top_l=2, num_recent=1, coverage=0.7)):
        memory, sizes[type(policy)] = bank(model, policy), []
        for chunk in conditions():
            film(model, [chunk], memory)
            sizes[type(policy)].append(memory.nbytes)
    assert len(set(sizes[Rolling][2:])) == 1
    growth = torch.tensor(sizes[SemanticSparse]).diff()
    assert (growth > 0).all()
    assert growth.max() < 1.5 * growth.min()
