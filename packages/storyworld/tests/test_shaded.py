"""Richness 2: camera, light, shadows and companions, and that what the truth says of them can be seen."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import storyworld
from storyworld import plan
from storyworld.layers import Canvas, stack
from storyworld.palettes import oklch, tones
from storyworld.shaded_characters import paste_shadow

SEEDS = st.integers(0, 10**7)


@pytest.fixture(scope="module")
def story():
    """Of a duck that comes back to places and meets others."""
    return storyworld.render(31, 12, richness=2)


def grown(mask):
    """Also what is thinner than a pixel: antennas, legs of the small."""
    return F.max_pool2d(mask.float()[:, None], 9, 1, 4)[:, 0] > 0


def middle(picture):
    """Column of the mean weight of pictures [t, h, w]."""
    return (picture.sum(1) * torch.arange(64.0)).sum(1) / picture.sum((1, 2))


def stays(truth):
    """Chunks of each stay."""
    starts = [0, *(chunk for chunk in range(1, len(truth.place)) if truth.arrives[chunk]), len(truth.place)]
    return [range(first, last) for first, last in pairwise(starts)]


@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_a_shorter_story_is_the_beginning_of_the_longer_one(seed):
    short, long = (storyworld.render(seed, count, richness=2) for count in (2, 4))
    assert long.captions[:2] == short.captions
    assert torch.equal(long.frames[:, :37], short.frames)
    for name in ("camera", "light", "position", "subject", "companion_mask"):
        assert torch.equal(getattr(long.truth, name)[:37], getattr(short.truth, name))
    assert long.truth.companion[:2] == short.truth.companion


def test_nothing_but_actors_and_their_shadows_is_before_the_background(story):
    truth = story.truth
    difference = story.frames.transpose(0, 1) - truth.background_at(range(story.frames.shape[1]))
    difference[grown(truth.subject | truth.companion_mask)[:, None].expand_as(difference)] = 0.0
    assert difference.max() < 1e-5  # a shadow takes light away
    ground = int(truth.position[:, 1].max()) + 4
    lowest = difference.abs().amax((1, 3))
    assert lowest[:, ground:].max() < 1e-5
    without = torch.tensor([who is None for who in truth.companion])[truth.chunk_of_frame]
    assert without.any()
    assert lowest[without][:, : ground - 8].max() < 1e-5


def test_regions_show_the_colours_they_are_named_after(story):
    truth = story.truth
    frames = range(0, story.frames.shape[1], 20)
    region, picture = truth.regions_at(frames), truth.background_at(frames).permute(0, 2, 3, 1)
    assert set(region.unique().tolist()) == {0, 1, 2, 255}
    for n, frame in enumerate(frames):
        place = int(truth.place[truth.chunk_of_frame[frame]])
        sky, ground = (truth.lit(colours[place], [frame])[0] for colours in (truth.sky, truth.ground))
        assert (picture[n, 0][region[n, 0] == 0] - sky).abs().max() < 0.02
        assert (picture[n, 63][region[n, 63] == 1] - ground).abs().max() < 0.02
        seen = picture[n][region[n] == 2]
        shades = [torch.from_numpy(tone) * 2 - 1 for c in truth.landmark[place] for tone in tones((c.numpy() + 1) / 2)]
        shades = torch.stack([truth.lit(tone, [frame])[0] for tone in shades])
        assert len(seen) > 60
        assert torch.cdist(seen, shades).min(1).values.max() < 0.5


def test_the_view_from_the_middle_at_noon_is_the_places_picture(story):
    truth = story.truth
    assert truth.backgrounds.shape == (len(truth.places), 3, 64, 64)
    nearest = int((truth.camera.abs() + 100 * (truth.place[truth.chunk_of_frame] != 0)).argmin())
    seen = (truth.background_at([nearest])[0] + 1) / truth.light[nearest][:, None, None] - 1
    assert (seen - truth.backgrounds[0]).abs().mean() < 0.02
    assert torch.equal(truth.background_at([]), torch.empty(0, 3, 64, 64))


def test_the_camera_never_jumps_during_a_stay_and_follows_the_protagonist(story):
    truth = story.truth
    for chunks in stays(truth):
        shown = (truth.chunk_of_frame >= chunks[0]) & (truth.chunk_of_frame <= chunks[-1])
        assert truth.camera[shown].diff().abs().max() < 1.0
    for chunk, direction in enumerate(truth.direction.tolist()):
        camera = truth.camera[truth.chunk_of_frame == chunk]
        assert (camera[-1] - camera[0]) * direction > 2.0 or direction == 0
        assert camera.diff().abs().max() > 0.0


def test_near_layers_shift_more_than_far_ones(story):
    for scene in story.truth.scenes:
        sky, far, ground, back, landmarks = (layer.rates for layer in scene.layers)
        assert sky.max() < far.min() < back.min() < ground.min() <= landmarks.min() < 1.0 < ground.max()
        assert (np.diff(ground) > 0).all()


@pytest.mark.parametrize("shift", [-5, 0, 7])
def test_a_layer_shifts_by_its_rate_and_keeps_its_edges(shift):
    canvas = Canvas(0, 64, rates=0.5)
    canvas.fill(np.hypot(canvas.x - 30.3, canvas.y - 20.0) - 6.0, np.ones(3, dtype=np.float32))
    still, moved = (stack((canvas.layer(),), np.array([camera])) for camera in (0.0, 2.0 * shift))
    assert np.array_equal(np.roll(still, -shift, axis=3), moved)
    half = torch.from_numpy(stack((canvas.layer(),), np.array([0.5]))[:, :, 0])
    assert middle(half) == pytest.approx(float(middle(torch.from_numpy(still[:, :, 0]))) - 0.25, abs=0.02)


def test_the_mask_is_where_the_protagonist_is_and_moves_as_told(story):
    truth = story.truth
    assert truth.visible.all()
    assert (middle(truth.subject.float()) - truth.position[:, 0]).abs().max() < 8
    lowest = (truth.subject.float().amax(2) * torch.arange(64.0)).amax(1)
    assert ((lowest - truth.position[:, 1]).abs() < 3).all()
    for chunk, direction in enumerate(truth.direction.tolist()):
        way = truth.position[truth.chunk_of_frame == chunk, 0]
        assert float(way[-1] - way[0]) * direction > 12 if direction else float((way[-1] - way[0]).abs()) < 3


def test_the_protagonist_wears_its_colours_and_stands_out():
    for seed in range(6):
        truth = (story := storyworld.render(seed, 1, richness=2)).truth
        assert truth.pattern in {"stripes", "spots", "patch"}
        inside = story.frames[:, truth.subject].T
        gain = truth.light[truth.subject.nonzero()[:, 0]]
        inside = (inside + 1) / gain - 1
        for colour in (truth.subject_colours[0], truth.subject_colours[1], truth.marking):
            assert ((inside - colour).norm(dim=1) < 0.3).float().mean() > 0.01
        for colours in (truth.sky, truth.ground, truth.landmark.flatten(0, 1)):
            assert (colours - truth.subject_colours[0]).norm(dim=1).min() > 0.45


def test_light_changes_slowly_and_moderately():
    light = torch.stack([storyworld.render(seed, 12, chunk_frames=16, richness=2).truth.light for seed in (1, 2)])
    assert light.min() > 0.75
    assert light.max() <= 1.0
    assert light.diff(dim=1).abs().max() < 0.005
    assert (light.amax(1) - light.amin(1)).max() > 0.05
    assert not torch.equal(light[0], light[1])


def test_whoever_is_met_is_named_and_seen_for_the_whole_stay():
    met = 0
    for seed in (31, 32):
        story = storyworld.render(seed, 10, richness=2)
        truth = story.truth
        homes = {}
        for chunks in stays(truth):
            assert len({truth.companion[chunk] for chunk in chunks}) == 1
        for chunk, who in enumerate(truth.companion):
            mask = truth.companion_mask[truth.chunk_of_frame == chunk]
            assert bool(mask.any()) == (who is not None)
            named = {species for species in storyworld.SPECIES if species in story.captions[chunk]}
            assert named == {truth.species, who} - {None}
            if who is not None:
                met += 1
                assert who != truth.species
                assert homes.setdefault(int(truth.place[chunk]), who) == who
                assert mask.flatten(1).sum(1).max() > 60
        assert not (truth.companion_mask & truth.subject).any()
    assert met > 4


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_companions_change_nothing_else_in_a_story(seed):
    alone, met = plan.plan_story(seed, 12), plan.plan_story(seed, 12, companions=True)
    assert len(set(met.inhabitants)) == len(met.places)
    for one, other in zip(alone.chunks, met.chunks, strict=True):
        assert other.caption.startswith(one.caption)
        assert (other.caption == one.caption) == (other.companion is None)
        assert (one.place, one.start, one.end, one.action) == (other.place, other.start, other.end, other.action)
        assert ("right" in other.caption, "left" in other.caption) == (one.direction == 1, one.direction == -1)


def test_a_shadow_darkens_softly_and_less_from_the_air():
    white = np.ones((2, 64, 3, 64), dtype=np.float32)
    paste_shadow(white, x=np.full(2, 32.0), row=55.0, lift=np.array([0.0, 9.0]), sun=1)
    assert white.max() == 1.0
    assert 0.4 < white[0].min() < white[1].min() < 0.9
    assert np.abs(np.diff(white[0, 55, 0])).max() < 0.15


def test_greys_are_grey_and_shade_is_darker_than_sun():
    assert np.ptp(oklch(0.7, 0.0, 1.0)) < 1e-3
    assert oklch(1.0, 0.0, 0.0) == pytest.approx(1.0, abs=1e-3)
    for hue in np.linspace(0.0, 6.0, 9):
        shade, sun = tones(oklch(0.65, 0.1, hue))
        assert shade.sum() < sun.sum()


@pytest.mark.parametrize("richness", [0, 1])
def test_poorer_worlds_have_one_light_a_still_camera_and_nobody_to_meet(richness):
    truth = storyworld.render(5, 3, richness=richness).truth
    assert (truth.camera == 0).all()
    assert (truth.light == 1).all()
    assert truth.companion == (None,) * 3
    assert not truth.companion_mask.any()
    assert truth.pattern == "plain"
    frames = [0, 20, 50]
    places = truth.place[truth.chunk_of_frame[frames]]
    assert torch.equal(truth.background_at(frames), truth.backgrounds[places])
    assert torch.equal(truth.regions_at(frames), truth.regions[places])
    assert torch.equal(truth.lit(truth.sky[0], frames), truth.sky[0].expand(3, 3))


def test_a_frame_that_is_not_there_is_named(story):
    with pytest.raises(ValueError, match=r"frame 999 was asked for; the story has frames 0 to 236"):
        story.truth.background_at([0, 999])
