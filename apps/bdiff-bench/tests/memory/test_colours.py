"""Errors of colours stay where they are: in regions, and on the protagonist."""

import pytest
import torch

from bdiff_bench.memory.colours import (
    MARGIN,
    found_subject,
    palette,
    palette_distance,
    region_errors,
    region_masks,
    subject_errors,
)


def test_an_error_stays_in_its_region(story, frames_of):
    span = frames_of(story, 7)
    masks = region_masks(story.truth, span)
    for number in range(3):
        frames = story.frames[:, span].clone()
        frames[0] += 0.6 * masks[number]  # one channel of three
        errors = region_errors(frames, story.frames[:, span], masks)
        assert errors.tolist() == pytest.approx([0.1 if r == number else 0.0 for r in range(3)], abs=1e-5)


def test_regions_leave_the_protagonist_out(story, frames_of):
    """With two pixels around; whatever is painted there is no error."""
    span = frames_of(story, 0)
    masks, subject = region_masks(story.truth, span), story.truth.subject[span]
    assert MARGIN == 2
    near = torch.zeros_like(subject)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near |= torch.roll(subject, (dy, dx), (1, 2))  # it stays away from the picture's edges
    regions = story.truth.regions[story.truth.place[0]]
    for number in range(3):
        assert torch.equal(masks[number], (regions == number)[None] & ~near)


def test_a_region_without_pixels_has_no_error(story):
    masks = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    masks[0] = True
    errors = region_errors(torch.ones(3, 1, 64, 64), -torch.ones(3, 1, 64, 64), masks)
    assert errors[0] == 1.0
    assert errors[1:].isnan().all()


@pytest.mark.parametrize(("mirrored", "shift"), [(False, (0, 0)), (False, (-7, 5)), (True, (-3, -4))])
def test_the_protagonist_is_found_wherever_it_is(story, mirrored, shift, frames_of):
    span = frames_of(story, 1)
    true, subject = story.frames[:, span][:, 5::5], story.truth.subject[span][5::5]  # away from the edges
    drawn, where = (true.flip(-1), subject.flip(-1)) if mirrored else (true, subject)
    moved, mask = torch.roll(drawn, shift, (2, 3)), torch.roll(where, shift, (1, 2))
    frames = torch.where(mask, moved, torch.zeros_like(moved))
    assert subject_errors(frames, true, subject).max() < 1e-6
    assert torch.equal(found_subject(frames, true, subject), mask)
    reddish = torch.tensor([0.3, 0.0, 0.0])[:, None, None, None]
    painted = torch.where(mask, moved + reddish, torch.zeros_like(moved))
    assert subject_errors(painted, true, subject).tolist() == pytest.approx([0.05] * len(subject), abs=1e-3)


def test_a_protagonist_that_is_not_drawn_is_an_error(story, frames_of):
    span = frames_of(story, 1)
    true, subject = story.frames[:, span], story.truth.subject[span]
    empty = story.truth.background_at(range(span.start, span.stop)).transpose(0, 1)
    assert subject_errors(empty, true, subject).min() > 0.1
    assert subject_errors(true, true, torch.zeros_like(subject)).isnan().all()
    assert not found_subject(true, true, torch.zeros_like(subject)).any()


def test_a_palette_is_the_mean_colour_of_each_region():
    frames, masks = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0.0, -1.0, 1.0])
    masks[0, 0, 0] = True
    masks[1, 0, 1] = True
    colours = palette(frames, masks)
    torch.testing.assert_close(colours[:2], torch.tensor([[0.75, 0.0, 0.75], [0.5, 0.5, 0.5]]))
    assert colours[2].isnan().all()
    other = colours + torch.tensor([[0.3], [0.1], [0.0]])
    assert palette_distance(colours, other) == pytest.approx(0.2)
