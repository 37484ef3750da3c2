import math
import warnings
import weakref
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import (
    Background,
    Clarity,
    DriftReport,
    FrameMetric,
    Motion,
    chunk_boundaries,
    html_page,
    measure,
    vde,
)
from vde_metrics.features.scoring import MeanScorer
from vde_metrics.video.file import VideoFile


class Brightness:
    """A metric as a user writes it: a name and a score of whole chunks."""

    name = "brightness"

    def score(self, frames):
        return frames.float().mean().item()


@dataclass(frozen=True)
class SignedBrightness:
    """A metric in two steps as a user writes it."""

    sign: int
    name = "signed brightness"
    lead = 0

    def score(self, frames):
        return self.sign * frames.float().mean().item()

    def features(self, batch):
        return self.sign * batch.frames.float().mean((1, 2, 3))[:, None]

    def scorer(self):
        return MeanScorer()


def flat(values, *, size=(12, 12)):
    """Grey frames, one per value."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, *size, 3)


@given(st.integers(2, 50), st.integers(0, 400))
def test_chunks_cover_the_video_and_differ_by_one_frame_at_most(num_chunks, extra):
    num_frames = num_chunks + extra
    boundaries = chunk_boundaries(num_frames, num_chunks)
    lengths = np.diff(boundaries)
    assert boundaries == [round(i * num_frames / num_chunks) for i in range(num_chunks + 1)]
    assert (boundaries[0], boundaries[-1], len(lengths)) == (0, num_frames, num_chunks)
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1


def test_streaming_equals_scoring_each_chunk_whole(tools):
    frames = torch.cat([tools.panning(9, 24, 36, shift=(0, i + 1), seed=i) for i in range(3)])
    metrics = [Clarity(), Motion(), Motion(form="smoothness"), Brightness()]
    report = measure(frames, metrics=metrics, num_chunks=4)
    chunks = [frames[a:b] for a, b in zip(report.chunk_frames, report.chunk_frames[1:], strict=False)]
    for metric in metrics:
        assert report.scores[metric.name] == tuple(metric.score(chunk) for chunk in chunks)


def test_generated_pixels_are_measured_as_the_frames_a_writer_makes_of_them(tools):
    frames = tools.panning(12, 16, 16)
    pixels = frames.permute(3, 0, 1, 2) / 127.5 - 1
    expected = measure(frames, metrics=[Clarity(), Brightness()], num_chunks=3)
    for video in (pixels, pixels[None]):
        report = measure(video, metrics=(metric for metric in (Clarity(), Brightness())), num_chunks=3)
        assert report.scores == expected.scores
        assert report.chunk_frames == expected.chunk_frames


@pytest.mark.parametrize("weights", ["linear", "log"])
def test_errors_are_those_of_the_scores(tools, weights):
    report = measure(tools.panning(20, 16, 16), num_chunks=5, weights=weights)
    assert report.weights == weights
    for name, scores in report.scores.items():
        assert len(scores) == 5
        assert report.vde[name] == vde(scores, weights)
        assert report.vde_normalized[name] == vde(scores, weights, normalize=True)


def test_a_file_is_measured_as_its_decoded_frames(clip):
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    from_file, from_frames = measure(clip), measure(iter(frames), num_frames=24, fps=8.0, name="clip.mp4")
    assert from_file.metrics == from_frames.metrics
    assert (from_file.video, from_file.fps, from_file.num_frames) == ("clip.mp4", 8.0, 24)
    assert (from_file.height, from_file.width) == (32, 48)
    assert from_file.source["codec"] == "mpeg4"
    assert from_frames.source == {}
    assert measure(str(clip)).metrics == from_file.metrics


def test_given_boundaries_replace_equal_chunks(clip):
    report = measure(clip, metrics=[Brightness()], chunk_frames=[0, 4, 14, 24])
    assert report.chunk_frames == (0, 4, 14, 24)
    frames = torch.stack(list(VideoFile.probe(clip).frames()))
    assert report.scores["brightness"] == tuple(Brightness().score(frames[a:b]) for a, b in ((0, 4), (4, 14), (14, 24)))


def test_a_longer_video_takes_no_more_memory():
    """Frames must be dropped as they come: count those alive while streaming."""
    alive, most = 0, 0

    def released():
        nonlocal alive
        alive -= 1

    def frames():
        nonlocal alive, most
        for t in range(120):
            frame = torch.full((12, 12, 3), t, dtype=torch.uint8)
            alive += 1
            weakref.finalize(frame, released)
            most = max(most, alive)
            yield frame

    metrics = [Clarity(), Motion(), Motion(form="smoothness"), Background()]
    measure(frames(), num_frames=120, num_chunks=3, metrics=metrics, batch_frames=4)
    assert most <= 5  # a batch and the frame after it


def test_blurring_video_drifts_in_clarity(tools):
    frames = torch.stack([tools.texture(24, 24, seed=0, smooth=1 + t / 20) for t in range(40)])
    clarity = measure(frames, metrics=[Clarity()]).metrics[0]
    assert clarity.slope < 0
    assert clarity.worst_chunk == 9
    assert 0 < clarity.vde_normalized < 1


def test_a_frozen_video_scores_zero_and_the_report_says_so(tools):
    report = measure(tools.texture(16, 16, seed=0).expand(20, -1, -1, -1))
    assert report.vde == {"clarity": 0, "motion": 0}
    assert report.is_frozen
    assert report.still_pairs == (1.0,) * 10
    for text in (report.to_json(), report.to_markdown(), html_page([report])):
        assert "video is frozen" in text


def test_a_video_that_freezes_names_the_chunks(tools):
    frames = tools.panning(20, 16, 16)
    frames[12:] = frames[12]
    report = measure(frames, num_chunks=5)
    assert not report.is_frozen
    assert report.frozen_chunks == (3, 4)
    assert "3, 4" in report.remarks[0]
    assert measure(tools.panning(20, 16, 16)).remarks == ()


def test_an_infinite_error_warns_with_the_metric_name(tools):
    frames = tools.panning(12, 16, 16)
    frames[:4] = frames[0]
    with pytest.warns(RuntimeWarning, match="motion: the first chunk scores 0"):
        report = measure(frames, num_chunks=3, metrics=[Motion()])
    assert report.vde["motion"] == math.inf


def test_numpy_views_are_frames_too():
    frames = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    frozen = frames.copy()
    frozen.flags.writeable = False
    backwards = frames[..., ::-1].copy()[..., ::-1]
    expected = measure(torch.from_numpy(frames), num_chunks=2).metrics
    assert measure(frozen, num_chunks=2).metrics == measure(backwards, num_chunks=2).metrics == expected


def test_measuring_leaves_the_frames_as_they_are(tools):
    frames = tools.panning(8, 16, 16)
    before = frames.clone()
    measure(frames, num_chunks=2)
    assert torch.equal(frames, before)


def test_too_few_frames():
    with pytest.raises(ValueError, match=r"7 frames are too few for 10 chunks.*num_chunks=7 or fewer"):
        measure(flat(range(7)))
    with pytest.raises(ValueError, match="needs 2 frames or more"):
        measure(flat(range(1)), num_chunks=2)
    for count in (0, 1):
        with pytest.raises(ValueError, match=f"num_chunks is {count}; drift needs at least 2"):
            measure(flat(range(30)), num_chunks=count)


def test_chunks_too_short_for_a_metric_are_refused_before_decoding():
    def frames():
        pytest.fail("decoded")
        yield

    with pytest.raises(ValueError, match="motion: chunk 0 has 1 frame but needs at least 2"):
        measure(frames(), num_frames=12)
    with pytest.raises(ValueError, match="motion_smoothness: chunk 1 has 2 frames"):
        measure(frames(), num_frames=12, metrics=[Motion(form="smoothness")], chunk_frames=[0, 6, 8, 12])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_scores_in_any_chunks_give_the_error_of_the_paper(reference, data):
    """Random scores a frame; N need not divide the frames, and chunks may hold a single one."""
    values = data.draw(st.lists(st.integers(0, 255), min_size=2, max_size=40))
    num_chunks = data.draw(st.integers(2, len(values)))
    kind = data.draw(st.sampled_from(["linear", "log"]))
    sign = data.draw(st.sampled_from([1, -1]))
    bounds = [round(i * len(values) / num_chunks) for i in range(num_chunks + 1)]
    means = [sum(sign * v for v in values[a:b]) / (b - a) for a, b in pairwise(bounds)]
    if kind == "log" and num_chunks == 2:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = measure(
            flat(values, size=(2, 2)),
            metrics=[SignedBrightness(sign=sign)],
            num_chunks=num_chunks,
            weights=kind,
            batch_frames=data.draw(st.integers(1, 9)),
        )
    found = report.metrics[0]
    assert found.scores == pytest.approx(means, rel=1e-6)
    if means[0] != 0:
        assert found.vde == pytest.approx(reference.vde(means, kind), rel=1e-5, abs=1e-9)
    else:
        assert found.vde == (0 if not any(means) else math.inf)
        assert len(caught) == (2 if any(means) else 0)
    assert len(report.still_pairs) == num_chunks


@pytest.mark.parametrize(
    ("frames", "seconds", "expected"),
    [
        (24, 1.0, [0, 8, 16, 24]),
        (27, 1.0, [0, 8, 16, 27]),
        (28, 1.0, [0, 8, 16, 24, 28]),
        (30, 1.3, [0, 10, 21, 30]),
    ],
)
def test_chunks_of_so_many_seconds(frames, seconds, expected):
    report = measure(flat(range(frames)), metrics=[Brightness()], chunk_seconds=seconds, fps=8.0)
    assert list(report.chunk_frames) == expected


def test_seconds_that_make_no_chunks():
    with pytest.raises(ValueError, match="needs the frame rate, which is unknown; give fps"):
        measure(flat(range(30)), chunk_seconds=1.0)
    with pytest.raises(ValueError, match=r"lasts 3\.75 seconds, less than 2 chunks of 3"):
        measure(flat(range(30)), chunk_seconds=3.0, fps=8.0)
    with pytest.raises(ValueError, match=r"at 8 fps a chunk needs at least 0\.125"):
        measure(flat(range(30)), chunk_seconds=0.1, fps=8.0)
    with pytest.raises(ValueError, match="log weights of 2 chunks"):
        measure(flat(range(30)), chunk_seconds=2.0, fps=8.0, weights="log")
    with pytest.raises(ValueError, match="num_chunks and chunk_seconds were given; give one"):
        measure(flat(range(30)), chunk_seconds=2.0, num_chunks=3, fps=8.0)


def test_frozen_chunks_of_one_frame():
    frozen = measure(flat([7] * 6), metrics=[Brightness()], num_chunks=6)
    assert frozen.is_frozen
    assert frozen.still_pairs == (None, *[1.0] * 5)
    moving = measure(flat(range(10, 70, 10)), metrics=[Brightness()], num_chunks=6)
    assert moving.frozen_chunks == ()
    assert "| -" in moving.to_markdown()


def test_batches_do_not_change_the_figures(tools):
    frames = torch.cat([tools.panning(9, 24, 36, shift=(0, i + 1), seed=i) for i in range(3)])
    metrics = [Clarity(), Motion(), Motion(form="smoothness"), Background(tolerance=0.05), Brightness()]
    expected = measure(frames, metrics=metrics, num_chunks=4, batch_frames=27).metrics
    for size in (1, 2, 5):
        assert measure(frames, metrics=metrics, num_chunks=4, batch_frames=size).metrics == expected
    with pytest.raises(ValueError, match="batch_frames is 0"):
        measure(frames, batch_frames=0)


def test_the_error_of_a_metric_ends_the_measurement(tools):
    class Fussy:
        name = "fussy"

        def score(self, frames):
            raise ValueError("no such frames")

    told = []
    with pytest.raises(ValueError, match="no such frames"):
        measure(
            tools.panning(24, 16, 16),
            metrics=[Clarity(), Fussy()],
            num_chunks=3,
            batch_frames=4,
            on_frames=lambda done, total: told.append(done),
        )
    assert told == [4]


def test_wrong_lengths():
    with pytest.raises(ValueError, match="length of a generator is unknown; give num_frames"):
        measure(frame for frame in flat(range(30)))
    with pytest.raises(ValueError, match="30 frames, fewer than the 31 announced"):
        measure(iter(flat(range(30))), num_frames=31)
    with pytest.raises(ValueError, match="more frames than the 29 announced"):
        measure(iter(flat(range(30))), num_frames=29)
    with pytest.raises(ValueError, match="a file has its own"):
        measure("clip.mp4", num_frames=3)


@pytest.mark.parametrize("boundaries", [[], [0, 30], [17, 20, 20], [2, 10, 30]])
def test_lengths_instead_of_boundaries_are_refused(boundaries):
    with pytest.raises(ValueError, match="expected boundaries: 0, the first frame"):
        measure(flat(range(30)), chunk_frames=boundaries)


def test_wrong_boundaries():
    with pytest.raises(ValueError, match="chunk 1 goes from 10 to 10"):
        measure(flat(range(30)), chunk_frames=[0, 10, 10, 30])
    with pytest.raises(ValueError, match="num_chunks and chunk_frames were given; give one"):
        measure(flat(range(30)), chunk_frames=[0, 10, 30], num_chunks=4)
    with pytest.raises(ValueError, match="more frames than the 20"):
        measure(flat(range(30)), metrics=[Brightness()], chunk_frames=[0, 10, 20])


def test_wrong_frames():
    with pytest.raises(TypeError, match=r"frame 0 is torch\.float32; expected uint8 RGB.*127\.5"):
        measure(flat(range(30)).float())
    with pytest.raises(ValueError, match=r"frame 0 has shape \(3, 12, 12\); expected \(height, width, 3\)"):
        measure(flat(range(30)).permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"frame 1 has shape \(12, 13, 3\); the frames before it have \(12, 12, 3\)"):
        measure([flat([1])[0], *flat([1] * 29, size=(12, 13))])
    with pytest.raises(TypeError, match="frame 0 is a list"):
        measure([[1, 2, 3]] * 30)


def test_wrong_metrics_and_weights():
    frames = flat(range(30))
    with pytest.raises(ValueError, match="metrics is empty"):
        measure(frames, metrics=[])
    with pytest.raises(ValueError, match="same name"):
        measure(frames, metrics=[Clarity(), Clarity()])
    with pytest.raises(ValueError, match="log weights of 2 chunks are all 0"):
        measure(frames, num_chunks=2, weights="log")


def test_wrong_types(unchecked):
    frames = flat(range(30))
    with pytest.raises(TypeError, match="video is a int"):
        measure(3)
    for metric in (Clarity, "clarity"):
        with pytest.raises(TypeError, match="is not a metric"):
            measure(frames, metrics=[metric])
    with pytest.raises(ValueError, match="weights is 'flat'"):
        measure(frames, weights="flat")


def test_unreadable_files(tmp_path, clip):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4: no such file"):
        measure(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="not a file"):
        measure(tmp_path)
    for name, content in {
        "empty.mp4": b"",
        "noise.mp4": b"no video at all" * 100,
        "cut.mp4": clip.read_bytes()[:2000],
        "notes.txt": b"words words words\n" * 200,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            measure(tmp_path / name)


def test_a_file_without_pictures(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound\.mp4: has no video stream"):
        measure(path)


def test_features_of_the_wrong_length_are_refused():
    class Short(SignedBrightness):
        def features(self, batch):
            return super().features(batch)[1:]

    assert isinstance(Short(1), FrameMetric)
    with pytest.raises(ValueError, match="signed brightness: features gave 7 rows for 8 frames"):
        measure(flat(range(30)), metrics=[Short(1)])


def test_the_report_is_a_report(clip):
    report = measure(clip, num_chunks=4)
    assert isinstance(report, DriftReport)
    assert report.protocol == "paper"
    assert {"vde-metrics", "torch", "av"} <= report.versions.keys()
    assert report.metrics[0].settings == "Clarity()"
    assert report.metrics[1].settings == "Motion(form='energy', flow=DIS fast smoothed 1.2)"
    assert report.metrics[1].models == {"flow": "DIS fast smoothed 1.2"}
