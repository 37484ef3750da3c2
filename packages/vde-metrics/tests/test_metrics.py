import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import Clarity, DISFlow, FrameBatch, FrameMetric, Motion
from vde_metrics.flow import flow_lengths


def grey(picture):
    """A picture (h, w) as one RGB frame."""
    return picture.byte()[..., None].expand(-1, -1, 3).contiguous()


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_the_length_of_a_flow_does_not_depend_on_where_it_lies():
    flow = torch.randn(3, 24, 37, 2, generator=torch.Generator().manual_seed(0))
    expected = flow_lengths(flow)
    torch.testing.assert_close(expected, torch.linalg.vector_norm(flow.double(), dim=-1).float(), rtol=3e-7, atol=0)
    for offset in range(16):
        memory = torch.zeros(flow.numel() + offset)
        memory[offset:] = flow.flatten()
        assert torch.equal(flow_lengths(memory[offset:].view(flow.shape)), expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7), st.integers(0, 2**31))
def test_clarity_equals_the_paper_written_as_loops(reference, t, h, w, seed):
    frames = noise(t, h, w, 3, seed=seed)
    assert Clarity().score(frames) == pytest.approx(reference.clarity(frames.tolist()), rel=1e-5)


def test_clarity_of_flat_frames_is_zero():
    # 100 and not 255: the sum of the luminance weights is 1 only up to rounding, which a flat picture cancels
    assert Clarity().score(torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)) == pytest.approx(0, abs=1e-6)


def test_clarity_of_a_checkerboard():
    # every neighbour differs by 255, so the Laplacian is +-4 * 255 in equal numbers
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 255
    assert Clarity().score(grey(board)[None]) == pytest.approx((4 * 255) ** 2, rel=1e-5)


def test_clarity_of_stripes():
    # mirrored borders continue stripes of period 2: the Laplacian is +-2 * 200
    stripes = (torch.arange(8) % 2 * 200).expand(6, 8)
    assert Clarity().score(grey(stripes)[None]) == pytest.approx(400**2, rel=1e-5)


def test_clarity_equals_opencv_up_to_rounding_of_the_luminance():
    cv2 = pytest.importorskip("cv2")
    frame = grey(noise(20, 30))
    theirs = cv2.Laplacian(frame[..., 0].numpy(), cv2.CV_64F).var()
    assert Clarity().score(frame[None]) == pytest.approx(theirs, rel=1e-5)


def test_blur_lowers_clarity(tools):
    sharp, soft = (tools.texture(40, 40, seed=1, smooth=s)[None] for s in (1, 3))
    assert Clarity().score(soft) < 0.1 * Clarity().score(sharp)


@pytest.mark.parametrize("metric", [Clarity(), Motion(), Motion(form="smoothness")], ids=lambda metric: metric.name)
def test_a_chunk_may_be_an_array_or_pixels_before_the_writer(metric):
    frames = noise(4, 16, 20, 3)
    expected = metric.score(frames)
    pixels = frames.permute(3, 0, 1, 2) / 127.5 - 1
    assert metric.score(frames.numpy()) == expected
    assert metric.score(pixels) == expected
    assert metric.score(pixels[None].double()) == expected


def test_frames_of_another_kind_are_refused(unchecked):
    frames = noise(4, 16, 20, 3)
    with pytest.raises(TypeError, match=r"frame 0 is torch\.float32; expected uint8 RGB"):
        Clarity().score(frames / 255)
    with pytest.raises(ValueError, match=r"frame 0 has shape \(4, 16, 20\); expected \(height, width, 3\)"):
        Clarity().score(frames.permute(3, 0, 1, 2))


def test_clarity_needs_two_pixels_a_side():
    with pytest.raises(ValueError, match="1x9 has no Laplacian"):
        Clarity().score(noise(2, 1, 9, 3))


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
@pytest.mark.parametrize("shift", [(0, 1), (2, 0), (3, 4)])
def test_energy_of_a_shifted_texture_is_the_length_of_the_shift(tools, preset, shift):
    frames = tools.panning(4, 64, 80, shift=shift)
    length = math.hypot(*shift)
    assert Motion(flow=DISFlow(preset=preset)).score(frames) == pytest.approx(length, rel=0.15)


def test_energy_does_not_depend_on_the_direction(tools):
    ahead, back = (Motion().score(tools.panning(3, 64, 64, shift=s)) for s in ((1, 2), (-1, -2)))
    assert ahead == pytest.approx(back, rel=0.1)


def test_a_still_picture_has_no_energy_and_full_smoothness(tools):
    frames = tools.texture(32, 32, seed=0).expand(4, -1, -1, -1)
    assert Motion().score(frames) == 0
    assert Motion(form="smoothness").score(frames) == 1


@pytest.mark.parametrize(
    "size", [(12, 12), (12, 64), (20, 100), (31, 200), (12, 854), (100, 12), (48, 854), (40, 1000)]
)
def test_flow_survives_every_shape(tools, size):
    # OpenCV crashes the process on wide strips unless they are turned
    assert Motion().score(tools.panning(2, *size, shift=(0, 1))) == pytest.approx(1, rel=0.35)


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_smoothness_equals_slow_loops(reference, t, h, w, seed):
    frames = noise(t, h, w, 3, seed=seed)
    assert Motion(form="smoothness").score(frames) == pytest.approx(reference.smoothness(frames.tolist()), rel=1e-5)


def test_linear_change_is_perfectly_smooth_and_flicker_is_not():
    rising = torch.stack([torch.full((4, 4, 3), 10 * t, dtype=torch.uint8) for t in range(5)])
    flicker = torch.stack([torch.full((4, 4, 3), 100 * (t % 2), dtype=torch.uint8) for t in range(5)])
    assert Motion(form="smoothness").score(rising) == pytest.approx(1, abs=1e-6)
    assert Motion(form="smoothness").score(flicker) == pytest.approx(1 - 100 / 255, abs=1e-6)


class PixelFlow:
    """A flow that is written in the frames themselves: red is to the right, green is down, 128 is no motion."""

    name = "pixel flow"

    def flow(self, frames):
        return (frames[:-1, ..., :2].float() - 128) / 16


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_energy_of_any_flow_equals_the_paper_written_as_loops(reference, t, h, w, seed):
    frames = noise(t, h, w, 3, seed=seed)
    flows = PixelFlow().flow(frames).tolist()
    assert Motion(flow=PixelFlow()).score(frames) == pytest.approx(reference.motion_energy(flows), rel=1e-5)


def test_the_motion_of_a_small_subject_is_seen_in_small_frames(tools):
    frames = tools.texture(64, 96, seed=0).repeat(3, 1, 1, 1)
    for t in range(3):
        frames[t, 20:40, 10 + 2 * t : 30 + 2 * t] = tools.texture(20, 20, seed=1)
    moved = 2.0 * 20 * 20 / (64 * 96)
    assert Motion().score(frames) == pytest.approx(moved, rel=0.2)
    assert Motion(flow=DISFlow(finest=2)).score(frames) != pytest.approx(moved, rel=0.2)


@pytest.mark.parametrize("size", [(40, 60), (20, 100)])
def test_flow_points_where_the_texture_goes(tools, size):
    # the second size is searched lying on its side
    flow = DISFlow().flow(tools.panning(3, *size, shift=(1, 3)))
    assert flow.shape == (2, *size, 2)
    assert flow[..., 0].median() == pytest.approx(3, abs=0.4)
    assert flow[..., 1].median() == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("metric", [Clarity(), Motion(), Motion(form="smoothness")], ids=lambda metric: metric.name)
@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_features_do_not_depend_on_how_frames_are_batched(tools, metric, cut):
    frames = torch.cat([tools.panning(4, 24, 24, shift=(i, 1), seed=i) for i in range(2)])
    whole = metric.features(FrameBatch(frames))
    first = metric.features(FrameBatch(frames[:cut]))
    second = metric.features(FrameBatch(frames[cut:], start=cut, before=frames[max(0, cut - 2) : cut]))
    assert torch.equal(torch.cat([first, second]).nan_to_num(-1), whole.nan_to_num(-1))
    assert whole.isnan()[:, 0].tolist() == [t < metric.lead for t in range(len(frames))]


@pytest.mark.parametrize("metric", [Clarity(), Motion(), Motion(form="smoothness")])
def test_a_scorer_forgets_the_chunk_it_closed(tools, metric):
    chunks = [tools.panning(4, 24, 24, shift=(i, 1), seed=i) for i in range(3)]
    scorer = metric.scorer()
    streamed = []
    for chunk in chunks:
        for row in metric.features(FrameBatch(chunk)):
            scorer.add(row[None])
        streamed.append(scorer.close_chunk())
    assert streamed == [metric.score(chunk) for chunk in chunks]
    assert scorer.close_chunk() is None


def test_metrics_share_the_flow_of_a_batch(tools):
    class Counting(PixelFlow):
        calls = 0

        def flow(self, frames):
            self.calls += 1
            return super().flow(frames)

    flow = Counting()
    batch = FrameBatch(tools.panning(4, 16, 16))
    assert torch.equal(batch.flow(flow), batch.flow(flow))
    Motion(flow=flow).features(batch)
    assert flow.calls == 1


def test_too_short_chunks():
    frames = noise(2, 16, 16, 3)
    with pytest.raises(ValueError, match="motion: a chunk has 1 frame but needs at least 2"):
        Motion().score(frames[:1])
    with pytest.raises(ValueError, match="motion_smoothness: a chunk has 2 frames but needs at least 3"):
        Motion(form="smoothness").score(frames)
    with pytest.raises(ValueError, match="clarity: a chunk has 0 frames but needs at least 1"):
        Clarity().score(frames[:0])


def test_pictures_too_small_for_flow():
    with pytest.raises(ValueError, match="frames are 11x40; optical flow needs sides of at least 12"):
        Motion().score(noise(2, 11, 40, 3))


def test_smoothing_is_that_of_the_frames(tools):
    frames = tools.panning(4, 48, 64, shift=(1, 2))
    smoothed = [cv2.GaussianBlur(frame[..., 0].numpy(), (0, 0), 1.2) for frame in frames]
    beforehand = torch.from_numpy(np.stack(smoothed))[..., None].expand(-1, -1, -1, 3)
    flow = DISFlow(smoothing=1.2).flow(frames)
    assert torch.equal(flow, DISFlow(smoothing=0.0).flow(beforehand))
    assert not torch.equal(flow, DISFlow(smoothing=0.0).flow(frames))


def test_wrong_settings(unchecked):
    with pytest.raises(ValueError, match="form is 'jerk'"):
        Motion(form="jerk")
    with pytest.raises(ValueError, match="preset is 'slow'"):
        DISFlow(preset="slow")
    with pytest.raises(ValueError, match="finest is 5; expected 0"):
        DISFlow(finest=5)
    with pytest.raises(ValueError, match=r"smoothing is -1\.0; expected a standard deviation"):
        DISFlow(smoothing=-1.0)
    assert len({DISFlow().name, DISFlow(finest=1).name, DISFlow(smoothing=2.0).name}) == 3
    with pytest.raises(ValueError, match="computes no optical flow"):
        Motion(form="smoothness", flow=DISFlow())


def test_built_in_metrics_stream_and_have_names_of_their_own():
    metrics = [Clarity(), Motion(), Motion(form="smoothness")]
    assert all(isinstance(metric, FrameMetric) for metric in metrics)
    assert [metric.name for metric in metrics] == ["clarity", "motion", "motion_smoothness"]
