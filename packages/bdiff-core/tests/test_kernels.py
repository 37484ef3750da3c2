import contextlib
import dataclasses
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import flex_attention

from bdiff_core import prepare_context
from bdiff_core.attention import BACKENDS, Gather, backends, choose_attention, kernels
from bdiff_core.attention.scores import scored_attention, scored_gather
from bdiff_core.attention.view import View

CPU = torch.device("cpu")
PASSES = ("bidirectional", "chunks", "context", "context and chunks", "gather")

needs_flex = pytest.mark.skipif(
    backends._problem("flex", CPU, torch.float32) is not None, reason="FlexAttention is not right on this machine"
)
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@contextlib.contextmanager
def uncompiled():
    """FlexAttention as torch runs it without a compiler, which would take a while for each kind of pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_flex_kernel", lambda *, dynamic: flex_attention)
        yield


@pytest.fixture(scope="session")
def softmax(reference):
    """Attention by the explicit softmax of reference.py in float64, one video and one head at a time."""

    def attend(q, k, v, seen):
        q, k, v = (y.double().cpu() for y in (q, k, v))
        videos = range(q.shape[0])
        heads = range(q.shape[1])
        seen = seen.expand(q.shape[0], -1, -1)
        rows = [[reference.attend(q[b, h], k[b, h], v[b, h], seen[b]) for h in heads] for b in videos]
        return torch.stack([torch.stack(row) for row in rows])

    return attend


def make_view(queries, *, past=0, device="cpu", **fields):
    """A view of a pass with so many queries, which are not rotated."""
    batch = fields["mask"].shape[0] if "mask" in fields else 1
    cos = torch.zeros(batch, 1, queries, 1, device=device)
    view = View(cos=cos, sin=cos, attend=kernels.sdpa, **fields)
    return dataclasses.replace(view, block_masks=kernels.flex_block_masks(view, [past]))


def make_pass(kind, *, chunks=3, chunk_tokens=5, num_past=7, head_dim=20, seed=0, device="cpu", dtype=torch.float32):
    """Queries, keys, values and view of a pass, and which key each query sees, `[1 or b, n, m]`."""
    generator = torch.Generator().manual_seed(seed)
    n, past = chunks * chunk_tokens, num_past if "context" in kind else 0
    q, k, v = (torch.randn(2, 3, m, head_dim, generator=generator).to(device, dtype) for m in (n, past + n, past + n))
    seen, fields = torch.ones(1, n, past + n, dtype=torch.bool), {}
    chunk = torch.arange(chunks).repeat_interleave(chunk_tokens)
    if "chunks" in kind:
        seen[:, :, past:] = chunk[:, None] >= chunk
        fields = {"chunk_tokens": chunk_tokens}
    if kind == "gather":
        seen = torch.rand(2, n, n, generator=generator) < 0.5
        seen |= chunk[:, None] == chunk
        mask = torch.zeros(()).where(seen[:, None], float("-inf")).to(device, dtype)
        fields = {"mask": mask, "chunk_tokens": chunk_tokens}
    return q, k, v, make_view(n, past=past, device=device, **fields), seen


@pytest.mark.parametrize("name", ["sdpa", pytest.param("flex", marks=needs_flex)])
@pytest.mark.parametrize("kind", PASSES)
@settings(max_examples=4, deadline=None)
@given(
    chunks=st.integers(1, 3),
    chunk_tokens=st.integers(1, 70),
    num_past=st.integers(0, 150),
    head_dim=st.sampled_from([2, 6, 20, 36]),
    seed=st.integers(0, 2**16),
)
def test_a_kernel_equals_the_explicit_softmax(
    softmax, relative, name, kind, chunks, chunk_tokens, num_past, head_dim, seed
):
    sizes = {"chunks": chunks, "chunk_tokens": chunk_tokens, "num_past": num_past, "head_dim": head_dim}
    q, k, v, view, seen = make_pass(kind, **sizes, seed=seed)
    with uncompiled(), torch.no_grad():
        assert relative(BACKENDS[name].attend(q, k, v, view), softmax(q, k, v, seen)) < 1e-5


@needs_flex
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses what torch deprecates
def test_compiled_flex_equals_the_explicit_softmax(plain_errors, softmax, relative):
    for kind, num_past in (("context and chunks", 7), ("context and chunks", 150), ("gather", 0)):
        q, k, v, view, seen = make_pass(kind, chunk_tokens=50, num_past=num_past)
        with torch.no_grad():
            assert relative(BACKENDS["flex"].attend(q, k, v, view), softmax(q, k, v, seen)) < 1e-5


def make_gathered(*, shared, copies, num_tokens, seed, dtype=torch.float64):
    """A pass as in training: shared chunks that see earlier ones, and copies that see these and themselves."""
    generator = torch.Generator().manual_seed(seed)
    chunks = shared + copies
    visible = (torch.rand(2, chunks, chunks, generator=generator) < 0.7).tril()
    visible[:, :, shared:] = False
    visible[:, -1, :shared] = True
    visible |= torch.eye(chunks, dtype=torch.bool)
    keep = torch.rand(2, chunks, num_tokens, generator=generator) < 0.8
    gather = Gather(slots=torch.zeros(2, chunks, dtype=torch.long), visible=visible, keep=keep)
    seen = gather.mask(num_tokens)
    mask = torch.zeros((), dtype=dtype).where(seen, float("-inf"))
    qkv = [torch.randn(2, 3, chunks * num_tokens, 20, generator=generator).to(dtype) for _ in range(3)]
    fields = {"mask": mask, "chunk_tokens": num_tokens, "num_shared": gather.num_shared}
    return qkv, make_view(chunks * num_tokens, **fields), seen[:, 0]


@settings(max_examples=20, deadline=None)
@given(shared=st.integers(0, 4), copies=st.integers(1, 3), num_tokens=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_scores_without_what_a_gather_hides_give_the_same_attention(
    softmax, relative, shared, copies, num_tokens, seed
):
    qkv, view, seen = make_gathered(shared=shared, copies=copies, num_tokens=num_tokens, seed=seed)
    upstream = torch.randn(qkv[0].shape, dtype=torch.float64)
    assert view.num_shared == shared
    kernels = {
        "torch": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=view.mask),
        "scored": lambda q, k, v: scored_attention(q, k, v, view.mask),
        "gather": lambda q, k, v: scored_gather(q, k, v, view.mask, num_shared=shared, num_tokens=num_tokens),
    }
    found, gradients = {}, {}
    for name, kernel in kernels.items():
        inputs = [y.clone().requires_grad_() for y in qkv]
        found[name] = kernel(*inputs)
        gradients[name] = torch.stack(torch.autograd.grad(found[name], inputs, upstream))
        assert relative(found[name].detach(), softmax(*qkv, seen)) < 1e-12
    assert relative(gradients["scored"], gradients["torch"]) < 1e-12
    assert relative(gradients["gather"], gradients["torch"]) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("needs_gradients", [False, True])
def test_only_gradients_in_half_precision_take_the_scores(monkeypatch, dtype, needs_gradients):
    taken = []
    for name in ("scored_attention", "scored_gather"):
        kernel = getattr(kernels, name)
        monkeypatch.setattr(
            kernels, name, lambda *a, name=name, kernel=kernel, **sizes: taken.append(name) or kernel(*a, **sizes)
        )
    (q, k, v), view, _ = make_gathered(shared=2, copies=2, num_tokens=3, seed=0, dtype=dtype)
    q.requires_grad_(needs_gradients)
    masked = BACKENDS["sdpa"].attend(q, k, v, view)
    plain = BACKENDS["sdpa"].attend(q, k, v, None)
    slow = needs_gradients and dtype == torch.bfloat16
    assert taken == (["scored_gather", "scored_attention"] if slow else [])
    full = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=view.mask.float())
    torch.testing.assert_close(masked.float(), full, atol=0.03, rtol=0)
    assert masked.dtype == plain.dtype == dtype


def velocities(model, video, *, chunks, frames):
    """Velocity of every kind of pass."""
    per_chunk = {"frames_per_chunk": frames}
    first = video.chunk(0)
    stored = tuple(model.keys_values(video.latents[:, :, first], video.levels[:, first], video.prompts[:, 0]))
    spans = ((len(stored[0].position),),) * len(stored)
    recall = SimpleNamespace(chunks=(0,), kinds=("recent",), spans=spans, layers=stored)
    context = prepare_context(recall, model=model, index=1, **per_chunk)
    slots, visible = torch.arange(chunks).expand(2, -1), torch.ones(chunks, chunks).tril().bool().expand(2, -1, -1)
    keep = torch.arange(video.tokens).expand(2, chunks, -1) % 3 > 0
    gather = Gather(slots=slots, visible=visible, keep=keep)
    args = video.latents, video.levels
    return {
        "bidirectional": model(*args, video.prompts[:, 0]),
        "chunks": model(*args, video.prompts, **per_chunk),
        "context": model(*args, video.prompts[:, 0], context=context),
        "context and chunks": model(*args, video.prompts, context=context, **per_chunk),
        "gather": model.gathered(*args, video.prompts, gather, **per_chunk),
    }


@needs_flex
def test_a_model_gives_the_same_velocity_by_another_kernel(config, random_model, random_video, relative):
    model, video = random_model(config), random_video(config, chunks=3, frames=2)
    video.tokens = config.num_tokens(2, 4, 6)
    found = {}
    for name in ("sdpa", "flex"):
        model.attention = name
        with uncompiled(), torch.no_grad():
            found[name] = velocities(model, video, chunks=3, frames=2)
    for kind in PASSES:
        assert 0 < relative(found["flex"][kind], found["sdpa"][kind]) < 1e-5, kind


@needs_flex
def test_layers_that_see_alike_share_a_block_mask(config, random_model, random_video, monkeypatch):
    model, video, made = random_model(config), random_video(config, chunks=3, frames=2), []
    create = torch.nn.attention.flex_attention.create_block_mask
    monkeypatch.setattr(
        torch.nn.attention.flex_attention,
        "create_block_mask",
        lambda *args, **sizes: made.append(sizes["KV_LEN"]) or create(*args, **sizes),
    )
    model.attention = "flex"
    with uncompiled(), torch.no_grad():
        model(video.latents, video.levels, video.prompts, frames_per_chunk=2)
    assert made == [3 * config.num_tokens(2, 4, 6)]


def test_flex_skips_chunks_that_no_query_of_a_block_sees():
    *_, view, _ = make_pass("chunks", chunks=4, chunk_tokens=128)
    block_mask = view.block_masks[0]
    assert (block_mask.to_dense()[0, 0] > 0).tolist() == torch.ones(4, 4).tril().bool().tolist()


@needs_flex
def test_one_graph_holds_a_pass_by_flex(plain_errors, config, random_model, random_video):
    model = random_model(dataclasses.replace(config, num_layers=1))
    video = random_video(config, chunks=2, frames=2)
    args, options = (video.latents, video.levels, video.prompts), {"frames_per_chunk": 2}
    expected = model(*args, **options)
    model.attention = "flex"
    with uncompiled(), torch.no_grad():
        found = torch.compile(model, fullgraph=True, backend="eager")(*args, **options)
    torch.testing.assert_close(found, expected)


@needs_flex
def test_flex_refuses_gradients_on_the_cpu(config, random_model, random_video):
    model, video = random_model(config), random_video(config, chunks=2, frames=2)
    model.attention = "flex"
    with pytest.raises(ValueError, match=r"'flex' has no gradients on the CPU: run under torch.no_grad\(\)"):
        model(video.latents, video.levels, video.prompts, frames_per_chunk=2)


def test_flash_refuses_masks():
    q, k, v, view, _ = make_pass("gather")
    with pytest.raises(
        ValueError, match=r"'flash' takes no mask, which gathered chunks \(training\) need: take 'sdpa'"
    ):
        BACKENDS["flash"].attend(q, k, v, view)


@pytest.fixture
def stand_ins(monkeypatch):
    """The two functions that need a GPU, on the CPU: layouts `b n heads dh`, alignment as xformers asks for it."""

    def memory_efficient_attention(q, k, v, attn_bias=None, scale=None):
        assert all(y.shape[-1] % 8 == 0 and y.stride(-1) == 1 for y in (q, k, v))
        if attn_bias is not None:
            assert attn_bias.shape == (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
            assert all(stride % 8 == 0 for stride in attn_bias.stride()[:-1])
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if attn_bias is None else scores + attn_bias
        return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)

    def flash_attn_func(q, k, v):
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) * q.shape[-1] ** -0.5
        return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)

    for path, function in (
        ("xformers.ops", memory_efficient_attention),
        ("flash_attn.flash_attn_interface", flash_attn_func),
    ):
        module = ModuleType(path)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, path.partition(".")[0], ModuleType(path.partition(".")[0]))
        monkeypatch.setitem(sys.modules, path, module)


@pytest.mark.parametrize("name", ["xformers", "flash"])
@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("head_dim", [16, 20])
def test_what_needs_a_gpu_is_called_as_it_asks(stand_ins, softmax, relative, name, kind, head_dim):
    if name == "flash" and kind == "gather":
        pytest.skip("flash-attn takes no masks")
    q, k, v, view, seen = make_pass(kind, head_dim=head_dim)
    assert relative(BACKENDS[name].attend(q, k, v, view), softmax(q, k, v, seen)) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["flex", "xformers", "flash"])
def test_a_kernel_of_a_gpu_has_the_gradients_of_sdpa(plain_errors, relative, name):
    dtype, found = torch.bfloat16, []
    try:
        choose_attention(name, device=torch.device("cuda"), dtype=dtype)
    except ValueError as error:
        pytest.skip(str(error))
    for kernel in ("sdpa", name):
        q, k, v, view, _ = make_pass("context and chunks", head_dim=64, device="cuda", dtype=dtype)
        inputs = [y.requires_grad_() for y in (q, k, v)]
        BACKENDS[kernel].attend(*inputs, view).float().square().sum().backward()
        found.append([y.grad.float() for y in inputs])
    for other, expected in zip(found[1], found[0], strict=True):
        assert relative(other, expected) < 3e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("name", ["sdpa", "flex", "xformers", "flash"])
def test_a_kernel_of_a_gpu_equals_the_explicit_softmax(plain_errors, softmax, relative, name, kind, dtype):
    try:
        choose_attention(name, device=torch.device("cuda"), dtype=dtype)
    except ValueError as error:
        pytest.skip(str(error))
    if name == "flash" and kind == "gather":
        pytest.skip("flash-attn takes no masks")
    q, k, v, view, seen = make_pass(kind, chunk_tokens=50, num_past=77, head_dim=40, device="cuda", dtype=dtype)
    bound = 1e-4 if dtype == torch.float32 else 2e-2
    with torch.no_grad():
        found = BACKENDS[name].attend(q, k, v, view)
    assert found.dtype == dtype
    assert relative(found.double().cpu(), softmax(q, k, v, seen)) < bound
