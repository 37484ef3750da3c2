"""Laws of the picture's size: it changes the drawing, and nothing that is drawn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import storyworld
from storyworld.layers import Canvas, Extent, stack

KINDS = [("story", 0), ("story", 1), ("story", 2), ("place", 2), ("walk", 2)]
SAME = (
    "place", "direction", "arrives", "chunk_of_frame", "position", "visible", "subject_colours", "sky", "ground",
    "landmark", "camera", "light", "companion_colours", "view",
)  # fmt: skip


def rendered(take, richness, seed, size, num_chunks=2):
    return storyworld.render(
        seed, num_chunks, take=take, richness=richness, size=size, first_chunk_frames=4, chunk_frames=5
    )


def averaged(pictures, size=64):
    """Pictures [n, c, h, w] averaged down."""
    return F.avg_pool2d(pictures.float(), pictures.shape[-1] // size)


@pytest.mark.parametrize(("take", "richness"), KINDS)
def test_a_large_video_averaged_down_is_the_small_one(take, richness):
    errors = []
    for seed in range(6):
        small, large = (rendered(take, richness, seed, size).frames.transpose(0, 1) for size in (64, 256))
        errors.append((averaged(large) - small).abs().mean().item() / 2)
    assert np.mean(errors) < 0.002
    assert max(errors) < 0.003


@pytest.mark.parametrize("size", [128, 192, 512])
def test_other_multiples_of_64_average_down_too(size):
    small, large = (rendered("walk", 2, 3, size, num_chunks=1).frames.transpose(0, 1) for size in (64, size))
    assert (averaged(large) - small).abs().mean() / 2 < 0.002


@pytest.mark.parametrize("size", [32, 96, 100, 256])
@pytest.mark.parametrize(("take", "richness"), KINDS)
def test_the_truth_is_the_same_at_every_size(take, richness, size):
    small, other = (rendered(take, richness, 5, size) for size in (64, size))
    assert other.frames.shape == (3, 9, size, size)
    assert other.captions == small.captions
    assert other.truth.species == small.truth.species
    assert other.truth.actions == small.truth.actions
    for name in SAME:
        assert torch.equal(getattr(small.truth, name), getattr(other.truth, name)), name


@pytest.mark.parametrize(("take", "richness"), KINDS)
def test_masks_regions_and_backgrounds_have_the_size_of_the_picture(take, richness):
    small, large = (rendered(take, richness, 8, size).truth for size in (64, 256))
    frames = [0, 3, 8]
    for one, other in (
        (small.subject[frames], large.subject[frames]),
        (small.companion_mask[frames], large.companion_mask[frames]),
        (small.regions_at(frames) == 0, large.regions_at(frames) == 0),
        (small.regions_at(frames) == 1, large.regions_at(frames) == 1),
        (small.regions == 2, large.regions == 2),
    ):
        share = averaged(other[:, None])[:, 0]
        assert one.shape[-1] == 64
        assert other.shape[-1] == 256
        assert (share[one] > 0.2).float().mean() > 0.99 if one.any() else True
        assert (share - one.float()).abs().mean() < 0.06
    background = averaged(large.background_at(frames)) - small.background_at(frames)
    assert background.abs().mean() / 2 < 0.003
    assert large.backgrounds.shape == (len(large.places), 3, 256, 256)


def test_a_large_picture_has_sharper_edges():
    """One pixel of a large picture changes as much as one of a small one, which is four times as wide."""
    small, large = (rendered("place", 2, 1, size, num_chunks=1).frames[:, 0] for size in (64, 256))
    steepest = [picture.diff(dim=-1).abs().amax() for picture in (small, large)]
    assert steepest[1] > 0.9 * steepest[0]


@pytest.mark.parametrize(("size", "phases"), [(64, 8), (128, 4), (256, 2), (512, 1), (1024, 1), (96, 8), (32, 8)])
def test_layers_are_painted_once_for_every_step_of_a_pixel(size, phases):
    extent = Extent(size=size)
    assert extent.phases == phases
    canvas = Canvas(0, 64, rates=1.0, extent=extent)
    canvas.fill(np.abs(canvas.x - 30.0) - 2.0, np.ones(3, dtype=np.float32))
    shown = stack((canvas.layer(),), np.array([0.0, 3.0, 3.5]))[:, size // 2, 0]
    middle = (shown * (np.arange(size) + 0.5)).sum(1) / shown.sum(1) * 64 / size
    assert middle == pytest.approx([30.0, 27.0, 26.5], abs=0.01)


@pytest.mark.parametrize("size", [31, 0, -64, 1025])
def test_a_size_out_of_range_is_named(size):
    with pytest.raises(ValueError, match=f"^size is {size}; expected 32 to 1024 pixels$"):
        storyworld.render(1, 1, size=size)
