"""The examples that put a bank behind other people's caches, on random weights."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kvbank import Full, Int8, KVBank, Rolling, SemanticSparse

EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.exists():
    pytest.skip("the examples are not beside an installed package", allow_module_level=True)


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rotate(x, position):
    """A RoPE whose channel pairs turn by t, h and w."""
    angle = (position.to(x.dtype) * torch.tensor([0.3, 0.7, 1.1])).repeat_interleave(2, 1)[:, : x.shape[3]]
    first, second = x[..., ::2], x[..., 1::2]
    angle = angle[:, ::2]
    return torch.stack(
        [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], -1
    ).flatten(-2)


class CausalModel(torch.nn.Module):
    """Attention as Self-Forcing does it: keys after RoPE, the current chunk written behind the past at every step."""

    def __init__(self, width=12, heads=2, num_layers=2):
        super().__init__()
        torch.manual_seed(0)
        self.heads = heads
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, 3 * width) for _ in range(num_layers))

    def forward(self, x, position, kv_cache, current_start):
        for linear, cache in zip(self.layers, kv_cache, strict=True):
            query, key, value = (
                part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in linear(x).chunk(3, dim=2)
            )
            query, key = rotate(query, position), rotate(key, position)
            current_end = current_start + x.shape[1]
            end = int(cache["local_end_index"]) + current_end - int(cache["global_end_index"])
            cache["k"][:, end - x.shape[1] : end] = key.transpose(1, 2)
            cache["v"][:, end - x.shape[1] : end] = value.transpose(1, 2)
            past = (cache[name][:, :end].transpose(1, 2) for name in ("k", "v"))
            x = x + scaled_dot_product_attention(query, *past).transpose(1, 2).flatten(2)
            cache["global_end_index"].fill_(current_end)
            cache["local_end_index"].fill_(end)
        return x


TOKENS = 6


def positions(chunk):
    place = torch.arange(TOKENS)
    return torch.stack([2 * chunk + place // 3, place % 3, 0 * place], dim=1)


def told(cache, *, banked, chunks=6, embeddings=None):
    """Chunks of two denoising steps and a clean pass each."""
    model, video = CausalModel(), []
    with torch.no_grad():
        for chunk in range(chunks):
            embedding = None if embeddings is None else embeddings[chunk]
            if banked:
                cache.fill(chunk, embedding=embedding, current_start=chunk * TOKENS)
            x = torch.randn(2, TOKENS, 12, generator=torch.Generator().manual_seed(chunk))
            for _ in range(2):
                x = torch.tanh(model(x, positions(chunk), cache, chunk * TOKENS))
            model(x, positions(chunk), cache, chunk * TOKENS)
            video.append(x)
            if banked:
                cache.keep(chunk, positions(chunk), embedding=embedding)
    return video


def banked_cache(policy, **options):
    bank = KVBank(policy=policy, **options)
    return example("self_forcing_cache").BankedCache(bank, rotate=rotate, num_layers=2, shape=(2, 36, 2, 6)), bank


def plain_cache():
    return [
        {
            "k": torch.zeros(2, 36, 2, 6),
            "v": torch.zeros(2, 36, 2, 6),
            "global_end_index": torch.zeros(1, dtype=torch.long),
            "local_end_index": torch.zeros(1, dtype=torch.long),
        }
        for _ in range(2)
    ]


def test_a_full_bank_behind_a_list_of_dicts_is_the_cache_it_replaces():
    banked, _ = banked_cache(Full())
    for ours, theirs in zip(told(banked, banked=True), told(plain_cache(), banked=False), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_list_of_dicts_shows_what_the_bank_recalls():
    places = [torch.eye(3)[chunk % 3] for chunk in range(6)]
    banked, bank = banked_cache(SemanticSparse(top_l=1, num_recent=1, coverage=None), quantization=Int8())
    video = told(banked, banked=True, embeddings=places)
    assert [trace.chunks for trace in bank.trace] == [(), (0,), (0, 1), (0, 2), (1, 3), (2, 4)]
    assert int(banked[0]["local_end_index"]) == 3 * TOKENS  # two chunks and the current one
    rolling, _ = banked_cache(Rolling(1))
    assert not torch.allclose(video[-1], told(rolling, banked=True)[-1], atol=1e-2)


@pytest.fixture(scope="module")
def anyflow():
    diffusers = pytest.importorskip("diffusers")
    if not hasattr(diffusers, "AnyFlowFARTransformer3DModel"):
        pytest.skip("this diffusers has no AnyFlow")
    torch.manual_seed(0)
    return diffusers.AnyFlowFARTransformer3DModel(
        full_chunk_limit=4,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=2,
        rope_max_seq_len=64,
        chunk_partition=(1, 1, 1, 1),
    ).eval()


def called(model, latents, partition, cache, flag, *, level):
    """A step of the model as its pipeline makes it."""
    frames = latents.shape[1]
    return model(
        hidden_states=latents,
        timestep=torch.full((1, frames), level),
        r_timestep=torch.full((1, frames), 0.0),
        encoder_hidden_states=torch.ones(1, 3, 8),
        chunk_partition=list(partition),
        kv_cache=cache,
        kv_cache_flag=dict(flag),
        return_dict=False,
    )[0]


def own_cache():
    return {
        layer: {"full_cache": torch.zeros(2, 1, 2, 4 * 16, 12), "compressed_cache": torch.zeros(2, 1, 2, 4 * 4, 12)}
        for layer in range(2)
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [Full(), SemanticSparse(top_l=1, num_recent=1, coverage=None)], ids=repr)
def test_a_bank_behind_anyflow(anyflow, policy):
    latents = torch.randn(1, 6, 4, 8, 8, generator=torch.Generator().manual_seed(1))  # b t c h w
    places = [torch.eye(2)[chunk % 2] for chunk in range(6)]
    bank = KVBank(policy=policy)
    adapter = example("anyflow_cache").AnyFlowCache(bank, frames_per_chunk=1, tokens_per_frame=16, shape=(2, 1, 2, 12))
    cache = own_cache()
    with torch.no_grad():
        for chunk in range(4 if policy == Full() else 6):
            view = adapter.view(chunk, embedding=places[chunk])
            current = latents[:, chunk : chunk + 1]
            ours = called(anyflow, current, view.chunk_partition, view.kv_cache, view.kv_cache_flag, level=500.0)
            assert ours.isfinite().all()
            if chunk < 4:  # as many as the model keeps in full
                flag = {"num_cached_chunks": chunk, "is_cache_step": False}
                theirs = called(anyflow, current, (1,) * (chunk + 1), cache, flag, level=500.0)
                same_past = bank.trace[-1].chunks == tuple(range(chunk))
                assert torch.allclose(ours, theirs, atol=1e-5) == same_past
            flag = {"num_cached_chunks": chunk, "is_cache_step": True}
            called(anyflow, latents[:, : chunk + 1], (1,) * (chunk + 1), cache, flag, level=0.0)
            adapter.keep(chunk, cache, num_full=min(chunk + 1, 3), embedding=places[chunk])
    if policy != Full():
        assert bank.trace[-1].chunks == (3, 4)
