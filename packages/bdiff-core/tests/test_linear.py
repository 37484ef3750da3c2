"""Linear layers are the same up to rounding, whichever library computes them."""

import pytest
import torch
import torch.nn.functional as F

from bdiff_core import linear
from bdiff_core.linear import GELULinear, Linear, prefers_onednn

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")

SHAPES = [(16,), (1, 16), (3, 5, 16), (2, 3, 4, 16), (0, 16), (2, 0, 16)]


@pytest.fixture(autouse=True)
def any_processor(monkeypatch):
    """OneDNN computes on every processor; it is only not preferred on every one."""
    monkeypatch.setattr(linear, "_HAS_AVX512", True)


def layer_and_input(kind, shape=(3, 5, 16)):
    torch.manual_seed(0)
    return kind(16, 24), torch.randn(shape)


def expected(layer, x):
    y = F.linear(x, layer.weight, layer.bias)
    return F.gelu(y, approximate="tanh") if isinstance(layer, GELULinear) else y


@pytest.mark.parametrize("kind", [Linear, GELULinear])
@pytest.mark.parametrize("shape", SHAPES)
def test_onednn_computes_the_same(kind, shape):
    layer, x = layer_and_input(kind, shape)
    with torch.no_grad():
        assert prefers_onednn(x, layer.weight)
        torch.testing.assert_close(layer(x), expected(layer, x))


@pytest.mark.parametrize("kind", [Linear, GELULinear])
def test_onednn_computes_the_same_of_tensors_that_are_not_contiguous(kind):
    layer, x = layer_and_input(kind, (16, 5, 3))
    layer.weight.data = layer.weight.data.t().contiguous().t()
    with torch.no_grad():
        for view in (x.transpose(0, 2), x.permute(1, 2, 0), x[:, :1, 0].t().expand(7, -1)):
            torch.testing.assert_close(layer(view), expected(layer, view))


@pytest.mark.parametrize("kind", [Linear, GELULinear])
def test_gradients_are_those_of_torch(kind):
    layer, x = layer_and_input(kind)
    x.requires_grad_()
    found = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.bias))
    wanted = torch.autograd.grad(expected(layer, x).square().sum(), (x, layer.weight, layer.bias))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    layer.requires_grad_(False)
    assert layer(x).requires_grad
    assert not prefers_onednn(x, layer.weight)
    assert prefers_onednn(x.detach(), layer.weight)


@pytest.mark.parametrize("kind", [Linear, GELULinear])
def test_torchs_own_switch_turns_onednn_off(kind, monkeypatch):
    layer, x = layer_and_input(kind)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with torch.no_grad():
        assert not prefers_onednn(x, layer.weight)
        assert torch.equal(layer(x), expected(layer, x))


@pytest.mark.parametrize("kind", [Linear, GELULinear])
def test_other_precisions_are_left_to_torch(kind):
    layer, x = layer_and_input(kind)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        double = layer.double()(x.double())
    torch.testing.assert_close(double, expected(layer, x.double()))
