"""The example that puts a bank behind the cache of diffusers' AnyFlow, on random weights."""

import importlib.util
from pathlib import Path

import pytest
import torch

from kvbank import Full, KVBank, SemanticSparse

EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.exists():
    pytest.skip("the examples are not beside an installed package", allow_module_level=True)


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
