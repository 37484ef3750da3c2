import cv2
import numpy as np
import pytest
import torch

from vde_metrics import DISFlow, Motion
from vde_metrics.models.flow import flow_lengths


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_the_length_of_a_flow_does_not_depend_on_where_it_lies():
    flow = torch.randn(3, 24, 37, 2, generator=torch.Generator().manual_seed(0))
    expected = flow_lengths(flow)
    torch.testing.assert_close(expected, torch.linalg.vector_norm(flow.double(), dim=-1).float(), rtol=3e-7, atol=0)
    for offset in range(16):
        memory = torch.zeros(flow.numel() + offset)
        memory[offset:] = flow.flatten()
        assert torch.equal(flow_lengths(memory[offset:].view(flow.shape)), expected)


@pytest.mark.parametrize(
    "size", [(12, 12), (12, 64), (20, 100), (31, 200), (12, 854), (100, 12), (48, 854), (40, 1000)]
)
def test_flow_survives_every_shape(tools, size):
    # OpenCV crashes the process on wide strips unless they are turned
    assert Motion().score(tools.panning(2, *size, shift=(0, 1))) == pytest.approx(1, rel=0.35)


@pytest.mark.parametrize("size", [(40, 60), (20, 100)])
def test_flow_points_where_the_texture_goes(tools, size):
    # the second size is searched lying on its side
    flow = DISFlow().flow(tools.panning(3, *size, shift=(1, 3)))
    assert flow.shape == (2, *size, 2)
    assert flow[..., 0].median() == pytest.approx(3, abs=0.4)
    assert flow[..., 1].median() == pytest.approx(1, abs=0.4)


def test_pictures_too_small_for_flow():
    with pytest.raises(ValueError, match="frames are 11x40; optical flow needs sides of at least 12"):
        Motion().score(noise(2, 11, 40, 3))


def test_smoothing_is_that_of_the_frames(tools):
    frames = tools.panning(4, 48, 64, shift=(1, 2))
    smoothed = [cv2.GaussianBlur(frame[..., 0].numpy(), (0, 0), 1.2) for frame in frames]
    beforehand = torch.from_numpy(np.stack(smoothed))[..., None].expand(-1, -1, -1, 3)
    flow = DISFlow(smoothing=1.2).flow(frames)
    assert torch.equal(flow, DISFlow(smoothing=0.0).flow(beforehand))
    assert not torch.equal(flow, DISFlow(smoothing=0.0).flow(frames))
