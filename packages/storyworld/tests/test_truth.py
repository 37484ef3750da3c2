"""What the truth says of a frame is what the frame shows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import storyworld
from storyworld.truth import signed


@pytest.fixture(scope="module", params=[0, 1, 2])
def story(request):
    return storyworld.render(31, 4, richness=request.param)


def grown(mask):
    """Also what is thinner than a pixel: antennas, legs of small characters."""
    return F.max_pool2d(mask.float()[:, None], 9, 1, 4)[:, 0] > 0


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


@pytest.mark.parametrize(("frames", "wrong"), [([0, 999], 999), ([77], 77), ([3, -1], -1)])
def test_a_frame_that_is_not_there_is_named(story, frames, wrong):
    for ask in (story.truth.background_at, story.truth.regions_at, lambda f: story.truth.lit(torch.zeros(3), f)):
        with pytest.raises(ValueError, match=rf"^frame {wrong} was asked for; the story has frames 0 to 76$"):
            ask(frames)


def test_frames_are_given_in_the_order_asked_for(story):
    truth = story.truth
    asked = [60, 3, 20, 3, 76]
    for ask in (truth.background_at, truth.regions_at, lambda frames: truth.lit(truth.sky[0], frames)):
        together = ask(asked)
        assert len(together) == len(asked)
        for got, frame in zip(together, asked, strict=True):
            assert torch.equal(got, ask([frame])[0])
        assert torch.equal(together, ask(torch.tensor(asked)))
        assert len(ask([])) == 0


def test_where_there_is_no_character_the_frame_shows_the_background(story):
    truth = story.truth
    difference = (story.frames.transpose(0, 1) - truth.background_at(range(77))).abs().amax(1)
    characters = grown(truth.subject | truth.companion_mask)
    assert difference[:, :30][~characters[:, :30]].max() < 1e-5  # above the shadows
    inside = difference[truth.subject]
    assert (inside > 0.1).float().mean() > 0.9


def test_regions_are_those_of_the_background(story):
    truth = story.truth
    frames = range(0, 77, 19)
    region, picture = truth.regions_at(frames), truth.background_at(frames).permute(0, 2, 3, 1)
    for n, frame in enumerate(frames):
        place = int(truth.place[truth.chunk_of_frame[frame]])
        for which, colours, row in ((0, truth.sky, 0), (1, truth.ground, 63)):
            shown = picture[n, row][region[n, row] == which]
            assert len(shown) > 20
            assert (shown - truth.lit(colours[place], [frame])).abs().max() < 0.05


def test_the_mask_shows_the_colours_of_the_protagonist(story):
    truth = story.truth
    colours = torch.cat([truth.subject_colours, truth.marking[None]])
    noon = (story.frames.permute(1, 2, 3, 0) + 1) / truth.light[:, None, None] - 1
    inside = torch.cdist(noon[truth.subject], colours).min(1).values
    around = torch.cdist(noon[~grown(truth.subject)], truth.subject_colours[:1]).min(1).values
    assert inside.quantile(0.6) < (0.3 if truth.scenes else 0.05)
    assert around.min() > 0.5  # nothing else has the colour of its body


def test_places_look_the_same_at_both_ends_of_a_return():
    for richness in (0, 1):
        truth = storyworld.render(3, 12, richness=richness).truth
        back = next(c for c in range(2, 12) if truth.arrives[c] and int(truth.place[c]) in truth.place[: c - 1])
        first = int((truth.place == truth.place[back]).nonzero()[0])
        pair = [int((truth.chunk_of_frame == chunk).nonzero()[0]) for chunk in (first, back)]
        before, after = truth.background_at(pair)
        assert torch.equal(before, after)


def test_a_place_seen_again_from_the_same_spot_looks_the_same_but_for_the_daylight():
    truth = storyworld.render(31, 12, richness=2).truth
    place = truth.place[truth.chunk_of_frame]
    frames = torch.arange(len(place))
    closest, pair = 9.0, None
    for a in frames.tolist():
        later = frames[(place == place[a]) & (truth.chunk_of_frame > truth.chunk_of_frame[a] + 3)]
        if len(later) and float((truth.camera[later] - truth.camera[a]).abs().min()) < closest:
            gap = (truth.camera[later] - truth.camera[a]).abs()
            closest, pair = float(gap.min()), [a, int(later[gap.argmin()])]
    assert closest < 0.02
    one, other = (truth.background_at(pair) + 1) / truth.light[pair][:, :, None, None]
    assert (one - other).abs().mean() < 0.01
    assert not torch.equal(truth.light[pair[0]], truth.light[pair[1]])


def test_light_scales_what_is_shown_and_keeps_black_black(story):
    truth, frames = story.truth, range(77)
    white, black = torch.ones(3), -torch.ones(3)
    assert torch.allclose(truth.lit(white, frames), 2 * truth.light - 1)
    assert (truth.lit(black, frames) == -1).all()
    grey = torch.tensor([0.3, -0.2, 0.1])
    assert (truth.lit(grey, frames) <= grey + 1e-6).all()


def test_signed_colours_run_from_minus_one_to_one():
    values = np.array([[0.0, 0.5, 1.0]])
    assert signed(values).tolist() == [[-1.0, 0.0, 1.0]]
    assert signed(values.T[:, ::-1]).dtype == torch.float32
