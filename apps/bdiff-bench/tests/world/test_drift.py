"""Drift is what `vde_metrics` measures, chunk by chunk, wherever the protagonist is drawn."""

import pytest
import torch

import storyworld
from bdiff_bench.world.drift import DRIFTS, drift_errors
from vde_metrics import Clarity, vde


@pytest.fixture(scope="module")
def place():
    return storyworld.render(5, 4, take="place", first_chunk_frames=9, chunk_frames=12)


def errors(frames, story):
    pixels = frames.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)
    return drift_errors(pixels, frames, story)


def test_each_chunk_has_one_score_and_the_first_one_is_the_reference(place):
    found = errors(place.frames, place)
    assert tuple(found) == DRIFTS
    pixels = place.frames.add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
    scores = [Clarity().score(chunk.contiguous()) for chunk in pixels.split(list(place.chunk_frames))]
    assert found["clarity"] == pytest.approx(vde(scores, "linear", normalize=True), rel=1e-4)


def test_a_video_that_fades_drifts_more(place):
    faded = place.frames.clone()
    for chunk in range(1, 4):
        faded[:, place.truth.chunk_of_frame == chunk] *= 1 - 0.25 * chunk
    true, found = errors(place.frames, place), errors(faded, place)
    assert found["clarity"] > 0.3 > true["clarity"]
    assert found["subject"] > true["subject"]


def test_a_mirrored_video_drifts_as_the_true_one_does(place):
    """The protagonist is looked for, so what matters is how it looks and not where it is."""
    true, mirrored = errors(place.frames, place), errors(place.frames.flip(-1), place)
    assert mirrored["subject"] == pytest.approx(true["subject"], abs=0.01)


def test_an_infinite_error_is_none(place):
    """The first chunk stands still, and the others move: their change relative to 0 motion is infinite."""
    frozen = place.frames.clone()
    first = place.chunk_frames[0]
    frozen[:, :first] = frozen[:, :1]
    assert errors(frozen, place)["motion"] is None
