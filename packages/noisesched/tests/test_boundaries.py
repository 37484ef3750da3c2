import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisesched import shuffle_boundaries


@st.composite
def stacks(draw, *, overlap=False):
    """Chunks of frames whose values are their own addresses, and a window that fits."""
    chunks, frames = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    window = draw(st.integers(0, frames if overlap else frames // 2))
    noise = torch.arange(float(chunks * frames)).reshape(chunks, frames, 1, 1).repeat(1, 1, 2, 3)
    return noise, window, draw(st.integers(0, 2**63))


def shuffled(noise, window, seed, **options):
    return shuffle_boundaries(noise, window, generator=torch.Generator().manual_seed(seed), **options)


@given(stacks(overlap=True))
def test_every_chunk_keeps_its_own_frames(stack):
    noise, window, seed = stack
    result = shuffled(noise, window, seed, overlap=True)
    assert torch.equal(result.sort(dim=1).values, noise)


@given(stacks())
def test_frames_move_within_the_windows_only(stack):
    noise, window, seed = stack
    frames = noise.shape[1]
    result = shuffled(noise, window, seed)
    assert torch.equal(result[:, window : frames - window], noise[:, window : frames - window])
    assert torch.equal(result[:, :window].sort(dim=1).values, noise[:, :window])
    assert torch.equal(result[:, frames - window :].sort(dim=1).values, noise[:, frames - window :])


@given(stacks())
def test_first_prefix_and_last_suffix_stay(stack):
    noise, window, seed = stack
    frames = noise.shape[1]
    result = shuffled(noise, window, seed)
    assert torch.equal(result[0, :window], noise[0, :window])
    assert torch.equal(result[-1, frames - window :], noise[-1, frames - window :])


@given(stacks(overlap=True))
def test_a_window_below_two_changes_nothing(stack):
    noise, _, seed = stack
    for window in (0, 1):
        assert torch.equal(shuffled(noise, window, seed, overlap=True), noise)


@given(stack=stacks(), more=st.integers(1, 4))
def test_permutations_do_not_depend_on_later_chunks(stack, more):
    noise, window, seed = stack
    longer = torch.cat([noise, torch.zeros(more, *noise.shape[1:])])
    assert torch.equal(shuffled(longer, window, seed)[: len(noise) - 1], shuffled(noise, window, seed)[:-1])


def test_every_inner_boundary_side_is_permuted_on_its_own():
    noise = torch.arange(12.0).repeat(40, 1)
    orders = shuffled(noise, 6, 5)
    prefixes = {tuple(order) for order in orders[1:, :6].tolist()}
    suffixes = {tuple(order) for order in (orders[:-1, 6:] - 6).tolist()}
    assert len(prefixes) > 35
    assert len(suffixes) > 35
    assert (orders[1:-1, :6] != orders[1:-1, 6:] - 6).any(dim=1).sum() > 35


def test_all_permutations_of_a_window_occur():
    noise = torch.arange(6.0).repeat(300, 1)
    orders = shuffled(noise, 3, 1)[1:-1]
    assert len({tuple(order) for order in orders[:, :3].tolist()}) == 6
    assert len({tuple(order) for order in orders[:, 3:].tolist()}) == 6


def test_overlap_shuffles_the_suffix_first_and_then_the_prefix():
    # One frame more than the window: a frame of the suffix reaches position 0 only if the prefix is shuffled after it.
    noise = torch.arange(5.0).repeat(300, 1)
    orders = shuffled(noise, 4, 2, overlap=True)[1:-1]
    assert (orders[:, 0] == 4).any()
    assert (orders[:, 4] != 0).all()


def test_the_same_generator_state_gives_the_same_result_and_one_draw_is_taken():
    noise = torch.arange(24.0).reshape(3, 8)
    generator, twin = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first = shuffle_boundaries(noise, 4, generator=generator)
    second = shuffle_boundaries(noise, 4, generator=generator)
    assert torch.equal(first, shuffle_boundaries(noise, 4, generator=twin))
    assert not torch.equal(first, second)
    more_chunks = torch.arange(48.0).reshape(6, 8)
    shuffle_boundaries(more_chunks, 4, generator=twin)
    assert torch.equal(generator.get_state(), twin.get_state())


def test_the_input_is_left_alone():
    noise = torch.arange(32.0).reshape(4, 8)
    shuffled(noise, 4, 0)
    assert torch.equal(noise, torch.arange(32.0).reshape(4, 8))


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("window", "options", "message"),
    [
        (4, {}, "a chunk has 5 frames: .* at most 2, or overlap=True"),
        (6, {"overlap": True}, "window is 6; expected 0 to 5"),
        (-1, {}, "window is -1; expected 0 to 5"),
    ],
)
def test_windows_that_do_not_fit_are_named(window, options, message):
    with pytest.raises(ValueError, match=message):
        shuffled(torch.zeros(2, 5, 1), window, 0, **options)
