import re
from itertools import pairwise

import pytest
import torch

from vde_metrics import LaionAesthetic, Predictor


class Pixels:
    """Embeds a picture as its four corner greys."""

    name = "pixels"
    dim = 4

    def encode(self, pictures):
        return torch.stack([picture[[0, 0, -1, -1], [0, -1, 0, -1], 0].float() for picture in pictures])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_layers_of_both_published_shapes(tools, tmp_path, suffix):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    # the improved predictor: linear layers at 0, 2, 4 ... 10 with dropout between them, and nothing else
    widths = (4, 6, 5, 3, 3, 2, 1)
    state = {}
    for i, (a, b) in enumerate(pairwise(widths)):
        state[f"layers.{2 * i}.weight"] = torch.randn(b, a, generator=generator)
        state[f"layers.{2 * i}.bias"] = torch.randn(b, generator=generator)
    path = tmp_path / f"layers{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    predictor = LaionAesthetic(path, encoder=Pixels())
    assert isinstance(predictor, Predictor)
    frames = tools.panning(3, 12, 12)
    for frame, found in zip(frames, predictor.predict(frames), strict=True):
        x = [frame[y, z, 0].item() for y, z in ((0, 0), (0, -1), (-1, 0), (-1, -1))]
        length = sum(v * v for v in x) ** 0.5
        x = [v / length for v in x]
        for i in range(6):
            weight, bias = state[f"layers.{2 * i}.weight"].tolist(), state[f"layers.{2 * i}.bias"].tolist()
            x = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        assert found.item() == pytest.approx(x[0], rel=1e-4, abs=1e-5)


def test_missing_and_unfitting_layers(tools, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such file; put sa_0_4_vit_l_14_linear\.pth"):
        LaionAesthetic(tmp_path / "none.pth", encoder=Pixels())
    torch.save(torch.nn.Linear(768, 1).state_dict(), tmp_path / "large.pth")
    with pytest.raises(ValueError, match=r"shapes \[\(1, 768\)\] do not lead from the 4 numbers of pixels"):
        LaionAesthetic(tmp_path / "large.pth", encoder=Pixels()).predict(tools.panning(2, 12, 12))


@pytest.mark.parametrize("name", ["layers.pth", "layers.safetensors"])
@pytest.mark.parametrize("content", [b"", b"a text\n", b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_holds_no_weights_is_named(tools, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    said = "damaged, or not plain weights; expected linear layers, as in sa_0_4_vit_l_14_linear"
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: {said}"):
        LaionAesthetic(tmp_path / name, encoder=Pixels()).predict(tools.panning(2, 12, 12))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            {"0.weight": torch.ones(1, 4)},
            "0.weight does not belong to a linear layer with a bias; expected linear",
        ),
        (
            {"0.weight": torch.ones(4), "0.bias": torch.ones(1)},
            "0.weight does not belong to a linear layer with a bias",
        ),
        ({"state_dict": {"0.weight": torch.ones(1, 4)}}, "holds something other than named tensors"),
        ([torch.ones(1, 4)], "holds something other than named tensors"),
    ],
)
def test_weights_of_something_else_are_named(tools, tmp_path, state, said):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth: {re.escape(said)}"):
        LaionAesthetic(tmp_path / "other.pth", encoder=Pixels()).predict(tools.panning(2, 12, 12))
