"""Richness 0 and 1: a still camera before unchanging places, with the protagonist where the plan says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from storyworld.plain import draw_plain
from storyworld.plan import plan_story


@pytest.fixture(scope="module")
def story():
    return storyworld.render(3, 12)


def standing_at(*columns):
    """A plan of the same story in which the protagonist stands at these columns, one for each chunk."""
    plan = plan_story(3, len(columns))
    chunks = tuple(
        replace(chunk, place=0, action="stand", direction=0, start=column, end=column)
        for chunk, column in zip(plan.chunks, columns, strict=True)
    )
    return replace(plan, chunks=chunks)


def test_a_place_looks_the_same_on_every_visit(story):
    truth = story.truth
    for chunk, place in enumerate(truth.place.tolist()):
        shown = truth.chunk_of_frame == chunk
        difference = (story.frames[:, shown] - truth.backgrounds[place][:, None]).abs().amax(0)
        grown = torch.nn.functional.max_pool2d(truth.subject[shown].float()[:, None], 3, 1, 1)[:, 0] > 0
        assert difference[~grown].max() < 1e-5


def test_the_mask_is_where_the_protagonist_is(story):
    truth = story.truth
    at = truth.subject.float()
    rows, columns = torch.arange(64.0), torch.arange(64.0)
    centre = (at.sum(1) * columns).sum(1) / at.sum((1, 2))
    assert (centre - truth.position[:, 0]).abs().max() < 8
    lowest = (at.amax(2) * rows).amax(1)
    assert ((lowest - truth.position[:, 1]).abs() < 3).all()
    assert truth.visible.all()


def test_flat_worlds_have_two_colours_and_a_horizon():
    story = storyworld.render(4, 1, richness=0)
    background = story.truth.backgrounds[0]
    assert torch.equal(background[:, 0, 0], background[:, 20, 40])
    assert torch.equal(background[:, 63, 0], background[:, 50, 40])
    assert set(story.truth.regions[0].unique().tolist()) <= {0, 1, 255}


def test_a_flat_protagonist_has_one_colour_and_eyes():
    for seed in range(6):
        truth = storyworld.render(seed, 1, first_chunk_frames=4, richness=0).truth
        assert torch.equal(truth.subject_colours[0], truth.subject_colours[1])
        richer = storyworld.render(seed, 1, first_chunk_frames=4, richness=1).truth
        assert torch.equal(richer.subject_colours[0], truth.subject_colours[0])
        assert (richer.subject_colours[0] - richer.subject_colours[1]).norm() >= 0.69
        for one in (truth, richer):
            assert torch.equal(one.marking, one.subject_colours[0])
            assert (one.companion_colours == -1).all()


def test_regions_have_the_colours_they_are_named_after():
    story = storyworld.render(8, 1)
    truth = story.truth
    sky, ground = truth.backgrounds[0][:, 0], truth.backgrounds[0][:, 63]
    assert (truth.regions[0][0] == 0).any()
    assert (sky.T[truth.regions[0][0] == 0] - truth.sky[0]).abs().max() < 0.05
    assert (ground.T - truth.ground[0]).abs().max() < 0.05


def test_the_protagonist_differs_from_every_place():
    for seed in range(10):
        truth = storyworld.render(seed, 1).truth
        body = truth.subject_colours[0]
        for colours in (truth.sky, truth.ground):
            assert (colours - body).norm(dim=1).min() > 0.5


@pytest.mark.parametrize("richness", [0, 1])
def test_whole_steps_move_the_mask_as_it_is(richness):
    frames, truth = draw_plain(3, standing_at(24.25, 31.25), [4, 4], richness=richness)
    first, second = truth["subject"][0], truth["subject"][4]
    assert torch.equal(first.roll(7, dims=1), second)
    assert torch.equal(frames[:, 0], frames[:, 3])
    assert not torch.equal(frames[:, 0], frames[:, 4])


def test_half_steps_move_the_mask_by_half_a_pixel():
    _, truth = draw_plain(3, standing_at(24.25, 24.75, 25.25), [4] * 3, richness=1)
    masks = truth["subject"][[0, 4, 8]].float()
    columns = (masks.sum(1) * torch.arange(64.0)).sum(1) / masks.sum((1, 2))
    assert torch.allclose(columns.diff(), torch.tensor([0.5, 0.5]), atol=0.3)


def test_what_leaves_the_picture_is_cut_off():
    frames, truth = draw_plain(3, standing_at(32.0, 0.0, 64.0, -16.0), [4] * 4, richness=1)
    whole, left, right, gone = (truth["subject"][frame].float() for frame in (0, 4, 8, 12))
    assert not gone.any()
    assert torch.equal(left, torch.cat([whole[:, 32:], torch.zeros(64, 32)], 1))
    assert torch.equal(right, torch.cat([torch.zeros(64, 32), whole[:, :32]], 1))
    assert torch.equal(frames[:, 12], truth["backgrounds"][0])


@settings(max_examples=10, deadline=None)
@given(st.floats(12.0, 52.0), st.integers(0, 50))
def test_the_mask_holds_the_pixels_that_are_at_least_half_covered(column, seed):
    plan = standing_at(column)
    frames, truth = draw_plain(seed, plan, [4], richness=0)
    background = truth["backgrounds"][0]
    towards = truth["subject_colours"][0][:, None, None] - background
    changed = frames[:, 0] - background
    share = (changed * towards).sum(0) / towards.square().sum(0)
    eyes = (changed - share * towards).norm(dim=0) > 0.01
    clear = ((share - 0.5).abs() > 0.01) & ~eyes
    assert torch.equal((share > 0.5)[clear], truth["subject"][0][clear])
    assert clear.float().mean() > 0.98
    assert np.isclose(float(truth["position"][0, 0]), column, atol=1e-4)
