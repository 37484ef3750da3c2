import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forcing_losses import semantic_reference

BATCH, CHANNELS, HEIGHT, WIDTH = 3, 2, 2, 1


@st.composite
def pasts(draw, *, min_size=1):
    """Past chunks of any lengths, and similarities with many ties."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=min_size, max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    history = [
        torch.randn(BATCH, CHANNELS, t, HEIGHT, WIDTH, generator=generator, dtype=torch.float64) for t in lengths
    ]
    similarity = torch.randint(3, (BATCH, len(lengths)), generator=generator) / 2
    return history, similarity


def resampled_value(series, frame, num_frames):
    """Value of a piecewise linear curve through `series` at one of `num_frames` evenly spaced points."""
    last = len(series) - 1
    position = last / 2 if num_frames == 1 else frame * last / (num_frames - 1)
    left = min(math.floor(position + 1e-9), last)
    right = min(left + 1, last)
    return series[left] + (position - left) * (series[right] - series[left])


def reference_by_loops(history, similarity, top_l, num_frames):
    """x_cond from section 3.3: resample the top-l past chunks to the current length, then average."""
    result = torch.empty(BATCH, CHANNELS, num_frames, HEIGHT, WIDTH, dtype=torch.float64)
    for b in range(BATCH):
        ranking = sorted(range(len(history)), key=lambda i: (-similarity[b, i].item(), -i))[:top_l]
        for c, t, h, w in itertools.product(range(CHANNELS), range(num_frames), range(HEIGHT), range(WIDTH)):
            values = [resampled_value(history[i][b, c, :, h, w].tolist(), t, num_frames) for i in ranking]
            result[b, c, t, h, w] = sum(values) / len(values)
    return result


@given(past=pasts(), top_l=st.integers(1, 6), num_frames=st.integers(1, 7))
def test_reference_is_the_mean_of_the_resampled_top_l(past, top_l, num_frames):
    history, similarity = past
    actual = semantic_reference(history, similarity, top_l=top_l, num_frames=num_frames)
    torch.testing.assert_close(actual, reference_by_loops(history, similarity, top_l, num_frames))


@given(past=pasts(), num_frames=st.integers(1, 7))
def test_a_short_past_gives_the_mean_of_what_there_is(past, num_frames):
    history, similarity = past
    everything = semantic_reference(history, similarity, top_l=len(history), num_frames=num_frames)
    assert torch.equal(semantic_reference(history, similarity, top_l=99, num_frames=num_frames), everything)
    shuffled = semantic_reference(history, similarity.flip(1), top_l=99, num_frames=num_frames)
    torch.testing.assert_close(shuffled, everything)


def test_no_past_gives_none():
    assert semantic_reference([], torch.zeros(2, 0), top_l=2, num_frames=5) is None


def test_ties_go_to_the_newest_chunk():
    history = [torch.full((1, 1, 2, 1, 1), float(index)) for index in range(4)]
    similarity = torch.tensor([[0.9, 0.5, 0.9, 0.9]])
    assert semantic_reference(history, similarity, top_l=1, num_frames=2).unique().tolist() == [3]
    assert semantic_reference(history, similarity, top_l=2, num_frames=2).unique().tolist() == [2.5]


def test_each_video_has_its_own_top_l():
    history = [torch.full((2, 1, 1, 1, 1), float(index)) for index in range(3)]
    similarity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert semantic_reference(history, similarity, top_l=1, num_frames=1).flatten().tolist() == [0, 1]


def test_a_chunk_of_the_same_length_comes_back_unchanged():
    chunk = torch.randn(1, 2, 5, 3, 3)
    assert torch.equal(semantic_reference([chunk], torch.ones(1, 1), top_l=1, num_frames=5), chunk)


@given(length=st.integers(1, 9), num_frames=st.integers(2, 9), start=st.floats(-3, 3), slope=st.floats(-3, 3))
def test_resampling_keeps_a_steady_motion_steady_and_its_ends(length, num_frames, start, slope):
    ramp = start + slope * torch.arange(length, dtype=torch.float64)
    chunk = ramp.reshape(1, 1, length, 1, 1)
    result = semantic_reference([chunk], torch.ones(1, 1), top_l=1, num_frames=num_frames).flatten()
    assert result[0].item() == ramp[0].item()
    assert result[-1].item() == pytest.approx(ramp[-1].item(), abs=1e-12)
    torch.testing.assert_close(result.diff(), result.diff().mean().expand(num_frames - 1), rtol=0, atol=1e-12)


def test_chunks_that_are_not_chosen_leave_no_trace():
    history = [torch.full((1, 1, 2, 1, 1), math.nan), torch.ones(1, 1, 2, 1, 1)]
    result = semantic_reference(history, torch.tensor([[0.1, 0.9]]), top_l=1, num_frames=3)
    assert torch.equal(result, torch.ones(1, 1, 3, 1, 1))


def test_half_precision_is_averaged_in_float32():
    history = [torch.randn(2, 3, 4, 2, 2).bfloat16() for _ in range(3)]
    similarity = torch.rand(2, 3)
    result = semantic_reference(history, similarity, top_l=2, num_frames=5)
    wide = semantic_reference([chunk.float() for chunk in history], similarity, top_l=2, num_frames=5)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, wide.bfloat16())


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_l": 0}, "top_l is 0; expected at least 1"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"similarity": torch.zeros(1, 2)}, r"similarity has shape \(1, 2\) for 1 past chunks"),
        ({"similarity": torch.zeros(2)}, r"similarity has shape \(1, 2\) for 1 past chunks"),
        ({"similarity": torch.zeros(2, 1)}, "similarity a batch of 2"),
        (
            {"history": [torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 3, 2)], "similarity": torch.zeros(1, 2)},
            "may differ in their number of frames only",
        ),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"history": [torch.zeros(1, 1, 1, 2, 2)], "similarity": torch.zeros(1, 1), "top_l": 1, "num_frames": 1}
    arguments |= change
    with pytest.raises(ValueError, match=message):
        semantic_reference(arguments.pop("history"), arguments.pop("similarity"), **arguments)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("history", "similarity", "message"),
    [
        (torch.zeros(3, 2, 1, 1, 1, 1), torch.zeros(2, 3), r"one tensor \(3, 2, 1, 1, 1, 1\) and similarity \(2, 3\)"),
        (torch.zeros(1, 2, 1, 1, 1, 1), torch.zeros(2), r"without the batch axis in both"),
        ([torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1)], torch.zeros(1, 2), r"expected \[b c t h w\] of each"),
    ],
)
def test_pasts_of_a_wrong_shape_are_named(history, similarity, message):
    with pytest.raises(ValueError, match=message):
        semantic_reference(history, similarity, top_l=1, num_frames=1)


@given(past=pasts(), top_l=st.integers(1, 3), num_frames=st.integers(1, 4))
def test_one_row_of_similarities_serves_all_videos(past, top_l, num_frames):
    history, similarity = past
    expected = semantic_reference(history, similarity[:1].expand(BATCH, -1), top_l=top_l, num_frames=num_frames)
    for row in (similarity[0], similarity[0].tolist()):
        assert torch.equal(semantic_reference(history, row, top_l=top_l, num_frames=num_frames), expected)


@given(past=pasts(), top_l=st.integers(1, 3), num_frames=st.integers(1, 4))
def test_a_single_video_may_do_without_its_batch_axis(past, top_l, num_frames):
    history, similarity = past
    expected = semantic_reference(history, similarity, top_l=top_l, num_frames=num_frames)[1]
    single = [chunk[1] for chunk in history]
    for row in (similarity[1], similarity[1:2]):
        assert torch.equal(semantic_reference(single, row, top_l=top_l, num_frames=num_frames), expected)


def test_chunks_of_one_length_may_come_stacked():
    stacked, similarity = torch.randn(2, 3, 4, 5, 2, 2), torch.rand(2, 3)
    expected = semantic_reference(list(stacked.unbind(1)), similarity, top_l=2, num_frames=7)
    assert torch.equal(semantic_reference(stacked, similarity, top_l=2, num_frames=7), expected)
    assert torch.equal(semantic_reference(stacked[1], similarity[1], top_l=2, num_frames=7), expected[1])


@pytest.mark.parametrize("similarity", [[], torch.zeros(0), torch.zeros(1, 0)])
def test_no_past_gives_none_however_it_is_written(similarity):
    assert semantic_reference([], similarity, top_l=2, num_frames=5) is None
