import copy
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisesched import NoiseStream, shuffle_boundaries

SHAPE = (2, 3, 3)
seeds = st.integers(0, 2**64 - 1)
# What the first release drew.
GOLDEN_CHUNK = [-0.3196755, 0.6713576, 1.7192365, 1.6307645]
GOLDEN_STEP = [0.5165215, 1.0215454, -1.1025078, 1.6420929]
bases = st.sampled_from(["shared", "fresh"])


def stream(frames=8, **options):
    return NoiseStream(SHAPE, frames, **({"seed": 0} | options))


def frame_set(chunk):
    return {tuple(frame.flatten().tolist()) for frame in chunk}


@given(seed=seeds, base=bases, frames=st.integers(1, 10), num_chunks=st.integers(2, 5))
def test_a_stream_is_shuffle_boundaries_of_itself_unshuffled(seed, base, frames, num_chunks):
    noise = stream(frames, seed=seed, base=base)
    unshuffled = replace(noise, window=0)
    stack = torch.stack([unshuffled.chunk(index) for index in range(num_chunks)])
    expected = shuffle_boundaries(stack, min(4, frames // 2), generator=torch.Generator().manual_seed(seed))
    actual = torch.stack([noise.chunk(index) for index in range(num_chunks)])
    assert torch.equal(actual[:-1], expected[:-1])
    # The finite video ends at its last chunk, the stream does not: only the suffix there may differ.
    tail = frames - noise.window
    assert torch.equal(actual[-1, :tail], expected[-1, :tail])
    assert frame_set(actual[-1, tail:]) == frame_set(expected[-1, tail:])


@given(seed=seeds, base=bases, order=st.permutations(range(6)))
def test_chunks_and_steps_do_not_depend_on_history(seed, base, order):
    first, second = stream(seed=seed, base=base), stream(seed=seed, base=base)
    forwards = [(first.chunk(index), first.step(index, 2)) for index in range(6)]
    for index in order:
        assert torch.equal(second.step(index, 2), forwards[index][1])
        assert torch.equal(second.chunk(index), forwards[index][0])


def test_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = stream().chunk(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(stream().chunk(3), first)


def test_shared_base_gives_every_chunk_the_same_frames_in_another_order():
    chunks = [stream().chunk(index) for index in range(5)]
    assert all(frame_set(chunk) == frame_set(chunks[0]) for chunk in chunks)
    assert not any(torch.equal(chunk, chunks[0]) for chunk in chunks[1:])


def test_fresh_base_gives_every_chunk_frames_of_its_own():
    noise = stream(base="fresh")
    sets = [frame_set(noise.chunk(index)) for index in range(5)]
    assert len(set.union(*sets)) == 5 * 8


def test_frames_stay_in_their_windows_and_the_first_prefix_stays():
    noise, unshuffled = stream(10, window=3), stream(10, window=0)
    for index in range(30):
        chunk, base = noise.chunk(index), unshuffled.chunk(index)
        assert torch.equal(chunk[3:7], base[3:7])
        assert frame_set(chunk[:3]) == frame_set(base[:3])
        assert frame_set(chunk[7:]) == frame_set(base[7:])
    assert torch.equal(noise.chunk(0)[:3], unshuffled.chunk(0)[:3])


def test_every_suffix_is_shuffled_because_a_stream_has_no_last_chunk():
    noise, unshuffled = stream(16, window=8), stream(16, window=0)
    assert not any(torch.equal(noise.chunk(index)[8:], unshuffled.chunk(index)[8:]) for index in range(30))


@pytest.mark.parametrize("base", ["shared", "fresh"])
@pytest.mark.parametrize("first", [1, 3, 12])
def test_the_first_chunk_may_have_a_length_of_its_own(base, first):
    even, uneven = stream(8, base=base), stream(8, base=base, first_frames=first)
    assert [uneven.num_frames(index) for index in range(3)] == [first, 8, 8]
    assert uneven.chunk(0).shape[0] == uneven.step(0, 1).shape[0] == first
    assert all(torch.equal(uneven.chunk(index), even.chunk(index)) for index in range(1, 4))
    longer = stream(max(first, 8), base=base, window=0).chunk(0)  # a longer draw starts with a shorter one
    assert frame_set(uneven.chunk(0)) == frame_set(longer[:first])


def test_a_short_first_chunk_is_shuffled_within_itself():
    kept = [
        torch.equal(stream(seed=seed, first_frames=2).chunk(0), stream(seed=seed, window=0).chunk(0)[:2])
        for seed in range(20)
    ]
    assert 2 < sum(kept) < 18  # both orders of two frames occur


@pytest.mark.parametrize("base", ["shared", "fresh"])
def test_steps_draw_noise_of_their_own(base):
    noise = stream(base=base)
    sets = [frame_set(noise.chunk(1)), *(frame_set(noise.step(1, step)) for step in range(4))]
    assert len(set.union(*sets)) == 5 * 8


def test_steps_share_their_base_and_shuffle_like_chunks():
    noise = stream(10, window=3)
    assert frame_set(noise.step(4, 1)) == frame_set(noise.step(9, 1))
    assert torch.equal(noise.step(4, 1)[3:7], noise.step(9, 1)[3:7])
    orders = {tuple(noise.step(index, 1)[:, 0, 0, 0].tolist()) for index in range(20)}
    assert len(orders) > 10


def test_seeds_that_agree_in_their_low_32_bits_differ():
    assert frame_set(stream(seed=5).chunk(0)).isdisjoint(frame_set(stream(seed=5 + 2**32).chunk(0)))


@given(frames=st.integers(1, 12))
def test_the_default_window_is_four_or_half_a_chunk(frames):
    assert stream(frames).window == min(4, frames // 2)


def test_overlap_allows_the_papers_window_in_a_short_chunk():
    noise, unshuffled = stream(5, window=4, overlap=True), stream(5, window=0)
    assert frame_set(noise.chunk(2)) == frame_set(unshuffled.chunk(2))


def test_noise_is_standard_normal():
    chunk = NoiseStream((4, 32, 32), 9, seed=1).chunk(3)
    assert chunk.mean().abs() < 0.02
    assert (chunk.var() - 1).abs() < 0.03


def test_dtype_rounds_the_same_numbers():
    half = stream(dtype=torch.bfloat16).chunk(2)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, stream().chunk(2).bfloat16())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_holds_the_same_numbers():
    assert torch.equal(stream(device="cuda").chunk(2).cpu(), stream().chunk(2))


def test_a_seed_keeps_its_noise_from_version_to_version():
    noise = NoiseStream((1,), 4, seed=2025)
    torch.testing.assert_close(noise.chunk(7).flatten(), torch.tensor(GOLDEN_CHUNK), rtol=0, atol=1e-6)
    torch.testing.assert_close(noise.step(7, 1).flatten(), torch.tensor(GOLDEN_STEP), rtol=0, atol=1e-6)


def test_streams_compare_copy_and_pickle_by_value():
    noise = stream(base="fresh")
    assert pickle.loads(pickle.dumps(noise)) == copy.copy(noise) == noise
    assert noise != stream(base="shared")


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames_per_chunk is 0"),
        ({"first_frames": 0}, "first_frames is 0; a chunk has at least 1 frame"),
        ({"seed": -1}, "seed is -1; expected an integer from 0"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"base": "mixed"}, "'mixed'; choose one of shared, fresh"),
        ({"frames": 5, "window": 4}, "a chunk has 5 frames: .* overlap=True"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        stream(**options)


def test_wrong_addresses_are_named():
    with pytest.raises(ValueError, match="index is -1"):
        stream().chunk(-1)
    with pytest.raises(ValueError, match="step is -1"):
        stream().step(0, -1)
    with pytest.raises(ValueError, match=r"frame_shape is \(2, 0\)"):
        NoiseStream((2, 0), 4, seed=0)
