import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vde_metrics import Clarity, measure
from vde_metrics.chunks import Chunking, released_boundaries


class Brightness:
    name = "brightness"

    def score(self, frames):
        return frames.float().mean().item()


class EveryThird:
    """Looks at every third frame of a chunk, from its first one on."""

    name = "every third"
    protocol = "released"
    interval = 3

    def score(self, frames):
        return frames[::3].float().mean().item()


def flat(values):
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 12, 12, 3)


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 100), st.integers(1, 5))
def test_chunks_are_those_of_the_script(num_chunks, extra, interval):
    """The script thins the frames, drops what does not fill all chunks, and splits the rest evenly."""
    num_frames = (num_chunks - 1) * interval + 1 + extra
    kept = list(range(num_frames))[::interval]
    length = len(kept) // num_chunks
    expected = [kept[i * length : (i + 1) * length] for i in range(num_chunks)]
    boundaries = released_boundaries(num_frames, num_chunks, interval=interval)
    for chunk, start, end in zip(expected, boundaries, boundaries[1:], strict=False):
        assert list(range(num_frames))[start:end:interval] == chunk


def test_frames_that_are_too_many_are_left_out():
    report = measure(flat(range(29)), metrics=[Brightness()], protocol="released", thumbnails=True)
    assert report.chunk_frames == tuple(range(0, 21, 2))
    assert report.scores["brightness"] == tuple(2 * i + 0.5 for i in range(10))
    assert report.protocol == "released"
    assert len(report.thumbnails) == 10


def test_a_metric_that_thins_has_chunks_of_its_own():
    report = measure(flat(range(100)), metrics=[Brightness(), EveryThird()], protocol="released", num_chunks=5)
    assert report.chunk_frames == (0, 20, 40, 60, 80, 100)
    thinned = list(range(0, 100, 3))
    assert report.scores["every third"] == tuple(sum(thinned[6 * i : 6 * i + 6]) / 6 for i in range(5))


def test_too_few_frames_and_mixed_protocols_are_refused():
    with pytest.raises(ValueError, match="9 frames are too few for 10 chunks"):
        measure(flat(range(9)), metrics=[Brightness()], protocol="released")
    with pytest.raises(ValueError, match="clarity is defined by the protocol paper, but protocol is 'released'"):
        measure(flat(range(30)), metrics=[Clarity()], protocol="released")
    with pytest.raises(ValueError, match="every third is defined by the protocol released"):
        measure(flat(range(30)), metrics=[EveryThird()])
    with pytest.raises(ValueError, match=r"give those of vde_metrics\.vbench"):
        measure(flat(range(30)), protocol="released")
    with pytest.raises(ValueError, match="chunk_seconds was given, but the released protocol"):
        Chunking(num_chunks=None, chunk_seconds=2.0, chunk_frames=None, protocol="released")
