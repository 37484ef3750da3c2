import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import Clarity


def grey(picture):
    """A picture (h, w) as one RGB frame."""
    return picture.byte()[..., None].expand(-1, -1, 3).contiguous()


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7), st.integers(0, 2**31))
def test_clarity_equals_the_paper_written_as_loops(reference, t, h, w, seed):
    frames = noise(t, h, w, 3, seed=seed)
    assert Clarity().score(frames) == pytest.approx(reference.clarity(frames.tolist()), rel=1e-5)


def test_clarity_of_flat_frames_is_zero():
    # 100 and not 255: the sum of the luminance weights is 1 only up to rounding, which a flat picture cancels
    assert Clarity().score(torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)) == pytest.approx(0, abs=1e-6)


def test_clarity_of_a_checkerboard():
    # every neighbour differs by 255, so the Laplacian is +-4 * 255 in equal numbers
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 255
    assert Clarity().score(grey(board)[None]) == pytest.approx((4 * 255) ** 2, rel=1e-5)


def test_clarity_of_stripes():
    # mirrored borders continue stripes of period 2: the Laplacian is +-2 * 200
    stripes = (torch.arange(8) % 2 * 200).expand(6, 8)
    assert Clarity().score(grey(stripes)[None]) == pytest.approx(400**2, rel=1e-5)


def test_clarity_equals_opencv_up_to_rounding_of_the_luminance():
    cv2 = pytest.importorskip("cv2")
    frame = grey(noise(20, 30))
    theirs = cv2.Laplacian(frame[..., 0].numpy(), cv2.CV_64F).var()
    assert Clarity().score(frame[None]) == pytest.approx(theirs, rel=1e-5)


def test_blur_lowers_clarity(tools):
    sharp, soft = (tools.texture(40, 40, seed=1, smooth=s)[None] for s in (1, 3))
    assert Clarity().score(soft) < 0.1 * Clarity().score(sharp)


def test_clarity_needs_two_pixels_a_side():
    with pytest.raises(ValueError, match="1x9 has no Laplacian"):
        Clarity().score(noise(2, 1, 9, 3))
