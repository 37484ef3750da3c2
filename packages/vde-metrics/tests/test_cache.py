import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vde_metrics import Background, Clarity, GivenMasks, Motion, Subject, measure
from vde_metrics.features.scoring import MeanScorer
from vde_metrics.video.file import VideoFile


class Colours:
    name = "colours"
    dim = 3
    calls = 0

    def encode(self, pictures):
        Colours.calls += 1
        return torch.stack([picture.float().mean((0, 1)) - 100 for picture in pictures])


@pytest.fixture
def decodes(monkeypatch):
    """How often a file was decoded."""
    seen = []
    for method in ("frames", "count_frames"):
        original = getattr(VideoFile, method)
        monkeypatch.setattr(VideoFile, method, lambda self, f=original, m=method: (seen.append(m), f(self))[1])
    return seen


def metrics(encoder=None):
    return [Clarity(), Motion(), Background(), Subject(encoder=encoder or Colours())]


def test_the_second_measurement_decodes_nothing_and_finds_the_same(clip, tmp_path, decodes):
    first = measure(clip, metrics=metrics(), cache=tmp_path)
    assert decodes == ["frames"]
    assert measure(clip, metrics=metrics(), cache=tmp_path) == first == measure(clip, metrics=metrics())
    assert len(decodes) == 2  # that of the last one, which has no cache


def test_other_chunks_and_weights_come_from_the_same_features(clip, tmp_path, decodes):
    measure(clip, metrics=metrics(), cache=tmp_path)
    del decodes[:]
    for options in ({"num_chunks": 5}, {"weights": "log"}, {"chunk_frames": [0, 3, 11, 24]}, {"chunk_seconds": 0.7}):
        cached = measure(clip, metrics=metrics(), cache=tmp_path, **options)
        assert decodes == []
        assert cached == measure(clip, metrics=metrics(), **options)
        del decodes[:]


def test_the_content_counts_and_not_the_name(clip, tmp_path, decodes, tools):
    copy = shutil.copy(clip, tmp_path / "copy.mp4")
    measure(clip, metrics=metrics(), cache=tmp_path / "cache")
    del decodes[:]
    assert measure(copy, metrics=metrics(), cache=tmp_path / "cache").video == "copy.mp4"
    assert decodes == []
    tools.write_video(tmp_path / "copy.mp4", tools.panning(24, 32, 48, seed=9).numpy())
    assert measure(copy, metrics=metrics(), cache=tmp_path / "cache") == measure(copy, metrics=metrics())
    assert decodes != []


def test_only_what_is_missing_is_computed(clip, tmp_path):
    measure(clip, metrics=metrics(), cache=tmp_path)
    Colours.calls = 0
    report = measure(clip, metrics=[*metrics(), Motion(form="smoothness")], num_chunks=4, cache=tmp_path)
    assert Colours.calls == 0
    assert list(report.scores) == ["clarity", "motion", "background", "subject", "motion_smoothness"]


def test_every_setting_model_and_mask_counts(clip, tmp_path):
    class Inverse(Colours):
        name = "inverse"

    masks = torch.zeros(24, 32, 48, dtype=torch.bool)
    masks[:, 4:20, 4:20] = True
    variants = [
        Background(),
        Background(tolerance=0.01),
        Background(subject=GivenMasks(masks)),
        Background(subject=GivenMasks(~masks)),
        Subject(encoder=Colours()),
        Subject(encoder=Inverse()),
        Subject(encoder=Colours(), crops=GivenMasks(masks)),
        Subject(encoder=Colours(), crops=GivenMasks(masks), margin=0.3),
    ]
    for metric in variants:
        measure(clip, metrics=[metric], cache=tmp_path)
    kept = [path for path in tmp_path.rglob("*.npy") if "stillness" not in path.name]
    assert len(kept) == len(variants)


def test_metrics_whose_settings_are_unknown_are_not_kept(clip, tmp_path):
    class Mystery:
        name = "mystery"
        lead = 0

        def score(self, frames):
            return 1.0

        def features(self, batch):
            return torch.ones(len(batch), 1)

        def scorer(self):
            return MeanScorer()

    @dataclass(frozen=True)
    class Whole:
        name = "whole"

        def score(self, frames):
            return frames.float().mean().item()

    report = measure(clip, metrics=[Mystery(), Whole()], cache=tmp_path)
    assert measure(clip, metrics=[Mystery(), Whole()], cache=tmp_path) == report
    assert [path.name.split("-")[0] for path in tmp_path.rglob("*.npy")] == ["stillness"]


def test_what_breaks_off_leaves_nothing(clip, tmp_path):
    class Failing(Colours):
        name = "failing"

        def encode(self, pictures):
            if Colours.calls >= 1:
                raise RuntimeError("out of memory")
            return super().encode(pictures)

    Colours.calls = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(clip, metrics=metrics(Failing()), cache=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_file_is_named(clip, tmp_path):
    measure(clip, metrics=[Clarity()], cache=tmp_path)
    (path,) = tmp_path.rglob("clarity-*.npy")
    np.save(path, np.zeros((3, 1), dtype=np.float32))
    with pytest.raises(ValueError, match=r"clarity-.*\.npy: holds float32 of shape \(3, 1\); expected 24 rows"):
        measure(clip, metrics=[Clarity()], cache=tmp_path)


def test_wrong_uses(clip, tmp_path, tools):
    with pytest.raises(ValueError, match="cache keeps the features of files"):
        measure(tools.panning(20, 16, 16), cache=tmp_path)
    measure(clip, metrics=[Clarity()], cache=tmp_path)
    with pytest.raises(ValueError, match="the video has 24 frames, more frames than the 20 announced"):
        measure(clip, metrics=[Clarity()], cache=tmp_path, chunk_frames=[0, 10, 20])
