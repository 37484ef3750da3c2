import re
from itertools import pairwise

import pytest
import torch

from vde_metrics import Aesthetic, FrameMetric, LaionAesthetic, Predictor, Subject, measure


class Pixels:
    """Embeds a picture as its four corner greys."""

    name = "pixels"
    dim = 4

    def encode(self, pictures):
        return torch.stack([picture[[0, 0, -1, -1], [0, -1, 0, -1], 0].float() for picture in pictures])


class Redness:
    name = "redness"

    def predict(self, frames):
        return frames[..., 0].float().mean((1, 2)) / 25.5


def test_the_score_is_the_mean_over_the_frames(tools):
    frames = tools.panning(20, 12, 12)
    frames[10:, ..., 0] //= 2
    metric = Aesthetic(predictor=Redness())
    assert isinstance(metric, FrameMetric)
    report = measure(frames, metrics=[metric], num_chunks=4)
    expected = [sum(Redness().predict(frames[a : a + 5]).tolist()) / 5 for a in range(0, 20, 5)]
    assert report.scores["aesthetic"] == pytest.approx(expected, rel=1e-6)
    assert report.vde_normalized["aesthetic"] == pytest.approx(0.25, rel=0.05)  # the later half lost half
    assert report.metrics[0].models == {"predictor": "redness"}


def test_predictors_that_give_something_else_are_refused(tools):
    class Column(Redness):
        def predict(self, frames):
            return super().predict(frames)[:, None]

    with pytest.raises(ValueError, match=r"redness gave scores of shape \(6, 1\) for 6 frames; expected \(6,\)"):
        Aesthetic(predictor=Column()).score(tools.panning(6, 12, 12))


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
        ({"0.weight": torch.ones(1, 4)}, "0.weight is not of a linear layer with a bias; expected linear layers"),
        ({"0.weight": torch.ones(4), "0.bias": torch.ones(1)}, "0.weight is not of a linear layer with a bias"),
        ({"state_dict": {"0.weight": torch.ones(1, 4)}}, "holds something else than tensors by their names"),
        ([torch.ones(1, 4)], "holds something else than tensors by their names"),
    ],
)
def test_weights_of_something_else_are_named(tools, tmp_path, state, said):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth: {re.escape(said)}"):
        LaionAesthetic(tmp_path / "other.pth", encoder=Pixels()).predict(tools.panning(2, 12, 12))


def test_metrics_that_look_through_one_encoder_share_its_embeddings(tools, tmp_path):
    class Colours:
        name, dim, calls = "colours", 3, 0

        def encode(self, pictures):
            Colours.calls += 1
            return torch.stack([picture.float().mean((0, 1)) for picture in pictures])

    torch.save({"0.weight": torch.ones(1, 3), "0.bias": torch.zeros(1)}, tmp_path / "head.pth")
    encoder, frames = Colours(), tools.panning(12, 16, 16)
    metrics = [Subject(encoder=encoder), Aesthetic(predictor=LaionAesthetic(tmp_path / "head.pth", encoder=encoder))]
    together = measure(frames, metrics=metrics, num_chunks=3, batch_frames=4).scores
    assert Colours.calls == 3
    apart = [measure(frames, metrics=[metric], num_chunks=3, batch_frames=4).scores for metric in metrics]
    assert together == {name: scores for one in apart for name, scores in one.items()}
