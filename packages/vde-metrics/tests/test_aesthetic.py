import pytest
import torch

from vde_metrics import Aesthetic, FrameMetric, LaionAesthetic, Subject, measure


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
