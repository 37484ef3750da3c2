"""Richness 2: camera, light, shadows and companions, and that what the truth says of them can be seen."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

import storyworld
from storyworld.palettes import tones


@pytest.fixture(scope="module")
def story():
    """A duck comes back to places and meets companions."""
    return storyworld.render(31, 12, richness=2)


def grown(mask):
    """Also what is thinner than a pixel: antennas, legs of small characters."""
    return F.max_pool2d(mask.float()[:, None], 9, 1, 4)[:, 0] > 0


def middle(picture):
    """Column of the mean weight of pictures [t, h, w]."""
    return (picture.sum(1) * torch.arange(64.0)).sum(1) / picture.sum((1, 2))


def stays(truth):
    """Chunks of each stay."""
    starts = [0, *(chunk for chunk in range(1, len(truth.place)) if truth.arrives[chunk]), len(truth.place)]
    return [range(first, last) for first, last in pairwise(starts)]


def test_nothing_but_characters_and_their_shadows_is_before_the_background(story):
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


def test_a_companion_has_its_shadow_at_its_feet(story):
    truth = story.truth
    taken = (truth.background_at(range(story.frames.shape[1])) - story.frames.transpose(0, 1)).mean(1)
    covered = F.max_pool2d((truth.subject | truth.companion_mask).float()[:, None], 3, 1, 1)[:, 0] > 0
    taken[covered] = 0.0
    columns, seen = torch.arange(64.0), 0
    for frame in truth.companion_mask.any((1, 2)).nonzero()[::10, 0].tolist():
        mask = truth.companion_mask[frame]
        at = float(middle(mask[None].float()))
        if abs(float(truth.position[frame, 0]) - at) < 26 or not 8 < at < 56:
            continue  # the shadows of both may touch
        seen += 1
        near = taken[frame] * ((columns - at).abs() < 14)
        feet = truth.scenes[truth.place[truth.chunk_of_frame[frame]]].inhabitant.y
        rows = (near.sum(1) * torch.arange(64.0)).sum() / near.sum()
        assert near.max() > 0.03
        assert float(rows) == pytest.approx(feet - 0.5, abs=1.5)
        assert near[int(feet) + 5 :].max() < 1e-5
    assert seen > 3


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


def test_the_mask_is_where_the_protagonist_is_and_moves_as_planned(story):
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


def test_a_companion_is_named_and_seen_for_the_whole_stay():
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
