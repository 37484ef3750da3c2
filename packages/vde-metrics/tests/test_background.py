import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import Background, FrameMetric, GivenMasks, measure


class PixelFlow:
    """A flow that is written in the frames themselves: red is to the right, green is down, 128 is no motion."""

    name = "pixel flow"

    def flow(self, frames):
        return (frames[:-1, ..., :2].float() - 128) / 16


def walk(tools, num_frames=24, *, size=(64, 96), background=None, seed=5):
    """A square of 20 pixels that walks 2 pixels a frame over a background, and where it is."""
    frames = torch.stack(
        [tools.texture(*size, seed=0) if background is None else background(t) for t in range(num_frames)]
    )
    masks = torch.zeros(num_frames, *size, dtype=torch.bool)
    square = tools.texture(20, 20, seed=seed)
    for t in range(num_frames):
        left = 4 + 2 * t
        frames[t, 20:40, left : left + 20] = square
        masks[t, 20:40, left : left + 20] = True
    return frames, masks


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31), st.floats(0, 1))
def test_staticness_equals_the_paper_written_as_loops(reference, t, h, w, seed, share):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (t, h, w, 3), dtype=torch.uint8, generator=generator)
    subject = torch.rand(t, h, w, generator=generator) < share
    tau = 0.5
    metric = Background(subject=GivenMasks(subject), flow=PixelFlow(), tolerance=tau / math.hypot(h, w))
    background = (~subject[:-1] & ~subject[1:]).tolist()
    expected = reference.background(PixelFlow().flow(frames).tolist(), background, tau + 1e-9)
    if expected is None:
        with pytest.raises(ValueError, match="background: none of the"):
            metric.score(frames)
    else:
        assert metric.score(frames) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("masked", [True, False], ids=["given masks", "estimate"])
def test_a_walking_subject_leaves_the_background_static(tools, masked):
    frames, masks = walk(tools, 8)
    score = Background(subject=GivenMasks(masks) if masked else None).score(frames)
    assert score > 0.95
    everything = Background(subject=GivenMasks(torch.zeros_like(masks))).score(frames)
    assert everything < score - 0.05


def test_a_boiling_background_scores_low(tools):
    frames, masks = walk(tools, 6, background=lambda t: tools.texture(64, 96, seed=t))
    assert Background(subject=GivenMasks(masks)).score(frames) < 0.2
    assert Background().score(frames) < 0.2


def test_the_metric_moves_with_a_swapped_background_only(tools):
    def swapped(t):
        return tools.texture(64, 96, seed=0 if t < 12 else 1)

    same, masks = walk(tools)
    other, _ = walk(tools, background=swapped)
    noise = torch.randint(-3, 4, same.shape, generator=torch.Generator().manual_seed(0))
    encoded = (same.int() + noise).clamp(0, 255).byte()
    reference, encoded, other = (
        measure(frames, metrics=[Background(subject=GivenMasks(masks))], num_chunks=4).vde_normalized["background"]
        for frames in (same, encoded, other)
    )
    assert reference < 0.01
    assert encoded < 0.01
    assert other > 0.05  # although the swap happens between two chunks


def test_a_pan_is_motion_unless_the_camera_is_compensated(tools):
    frames = tools.panning(6, 64, 96, shift=(0, 3))
    assert Background().score(frames) < 0.1
    assert Background(compensate_camera=True).score(frames) > 0.7


def test_chunks_without_background_have_no_score(tools):
    frames, masks = walk(tools, 12)
    masks[4:8] = True
    report = measure(frames, metrics=[Background(subject=GivenMasks(masks))], num_chunks=3)
    assert report.scores["background"][1] is None
    assert "background found nothing to measure: 1" in report.remarks[0]


def test_settings_and_names():
    metric = Background(tolerance=0.01)
    assert isinstance(metric, FrameMetric)
    assert (metric.name, metric.lead) == ("background", 0)
    for tolerance in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected a share of the diagonal"):
            Background(tolerance=tolerance)
