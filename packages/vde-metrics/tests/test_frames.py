import pytest
import torch

from vde_metrics import Clarity, Motion


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


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
