import numpy as np
import pytest

from vde_metrics import Background
from vde_metrics.metrics.camera import camera_flow, moving_subject


def test_the_camera_is_found_beside_a_subject():
    y, x = np.mgrid[:60, :80].astype(np.float32)
    pan_and_zoom = np.stack([2 + 0.02 * (x - 40), -1 + 0.02 * (y - 30)], axis=-1)
    flow = pan_and_zoom.copy()
    flow[20:40, 30:60] += 6
    assert np.abs(camera_flow(flow) - pan_and_zoom).max() < 0.05
    found = moving_subject(flow - pan_and_zoom, tolerance=0.5)
    assert found[20:40, 30:60].all()
    assert found.mean() < 0.2


@pytest.mark.parametrize("size", [(12, 854), (854, 12)])
def test_strips_have_a_camera(tools, size):
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    pan_and_zoom = np.stack([2 + 0.01 * x, -1 + 0.01 * y], axis=-1)
    assert (
        np.abs(camera_flow(pan_and_zoom)[size[0] // 2, size[1] // 2] - pan_and_zoom[size[0] // 2, size[1] // 2]).max()
        < 0.1
    )
    assert Background().score(tools.panning(3, *size, shift=(0, 0))) == 1


def test_no_subject_is_estimated_where_little_or_most_of_the_picture_moves():
    flow = np.zeros((60, 80, 2), dtype=np.float32)
    assert not moving_subject(flow, tolerance=0.5).any()
    flow[10, 10] = 5
    assert not moving_subject(flow, tolerance=0.5).any()
    flow[:, 20:] = 5
    assert not moving_subject(flow, tolerance=0.5).any()
