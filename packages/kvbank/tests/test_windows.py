"""Windows and sinks by latent frames, against a list of all frames of the video."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvbank import KVBank, LayerKV, Rolling, Sink
from kvbank.policies import FramePolicy

TOKENS = 3  # of a frame
lengths = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 7)).map(
    lambda sizes: [sizes[0], *[sizes[1]] * sizes[2]]
)


def chunk_of(index, frames, *, start):
    """A chunk whose every value is 100 times its number, plus the number of the frame in it."""
    time = torch.arange(frames).repeat_interleave(TOKENS)
    value = (100.0 * index + time).view(1, 1, -1, 1).expand(1, 2, -1, 4)
    place = torch.zeros(len(time), dtype=torch.int64)
    position = torch.stack([time + start, place, torch.arange(TOKENS).repeat(frames)], dim=1)
    return [LayerKV(key=value, value=value, position=position)] * 2


def bank_with(policy, frames, *, absolute):
    bank = KVBank(policy=policy)
    for index, length in enumerate(frames):
        bank.read(index, embedding=None)
        bank.write(index, chunk_of(index, length, start=sum(frames[:index]) if absolute else 0), embedding=None)
    return bank


def frames_read(bank, index):
    """Which frames of which chunks a read shows: (chunk, frame) in order."""
    recall = bank.read(index, embedding=None)
    if not recall.layers:
        return []
    values = recall.layers[-1].value[0, 0, :, 0]
    assert all(torch.equal(layer.value[0, 0, :, 0], values) for layer in recall.layers)
    shown = values.view(-1, TOKENS)
    assert (shown == shown[:, :1]).all()  # whole frames
    return [divmod(int(value), 100) for value in shown[:, 0]]


@pytest.mark.parametrize("absolute", [False, True], ids=["stored from 0", "stored absolute"])
@given(frames=lengths, window=st.integers(1, 12), data=st.data())
def test_a_window_of_frames_is_the_end_of_the_list_of_all_frames(absolute, frames, window, data):
    least = data.draw(st.integers(1, min(frames[1:], default=1)))
    bank = bank_with(Rolling(frames=window, frames_per_chunk=least), frames, absolute=absolute)
    every = [(chunk, frame) for chunk, length in enumerate(frames) for frame in range(length)]
    assert frames_read(bank, len(frames)) == every[-window:]


@pytest.mark.parametrize("absolute", [False, True], ids=["stored from 0", "stored absolute"])
@given(frames=lengths, sink=st.integers(0, 8), window=st.integers(0, 9), data=st.data())
def test_a_sink_of_frames_is_the_start_of_the_list_and_its_end(absolute, frames, sink, window, data):
    least = data.draw(st.integers(1, min(frames[1:], default=1)))
    policy = Sink(frames=sink, window_frames=window, frames_per_chunk=least)
    bank = bank_with(policy, frames, absolute=absolute)
    every = [(chunk, frame) for chunk, length in enumerate(frames) for frame in range(length)]
    seen = {*every[:sink], *(every[-window:] if window else [])}
    assert frames_read(bank, len(frames)) == sorted(seen)


@given(frames=st.integers(1, 4), chunks=st.integers(1, 4), sink=st.integers(0, 3), count=st.integers(0, 8))
def test_whole_chunks_by_frames_are_the_policies_by_chunks(frames, chunks, sink, count):
    sizes = [frames] * count
    for by_frames, by_chunks in (
        (Rolling(frames=chunks * frames), Rolling(chunks)),
        (Sink(frames=sink * frames, window_frames=chunks * frames), Sink(sink, chunks)),
    ):
        banks = [bank_with(policy, sizes, absolute=False) for policy in (by_frames, by_chunks)]
        assert frames_read(banks[0], count) == frames_read(banks[1], count)


@given(frames=lengths, window=st.integers(1, 12))
def test_what_is_freed_is_never_missed_and_a_known_length_frees_sooner(frames, window):
    least = min(frames[1:], default=1)
    loose, tight = (
        bank_with(Rolling(frames=window, frames_per_chunk=given_least), frames, absolute=False)
        for given_least in (1, least)
    )
    assert set(tight.chunks) <= set(loose.chunks)
    assert len(tight.chunks) <= -(-window // least)
    assert frames_read(tight, len(frames)) == frames_read(loose, len(frames))


def test_a_read_of_what_was_freed_is_refused_and_not_shortened():
    bank = bank_with(Rolling(frames=4, frames_per_chunk=2), [2] * 6, absolute=False)
    assert bank.chunks == (4, 5)
    with pytest.raises(ValueError, match=r"chunk 5 sees chunks \[3\], which were freed"):
        bank.read(5, embedding=None)


def test_a_prefetch_of_the_chunk_after_the_next_needs_no_lengths():
    bank = bank_with(Rolling(frames=4, frames_per_chunk=2), [2] * 3, absolute=False)
    bank.prefetch(4, embedding=None)


def test_a_bank_of_frames_is_saved_and_loaded(tmp_path):
    policy = Sink(frames=1, window_frames=5, frames_per_chunk=2)
    bank = bank_with(policy, [1, 2, 2, 2], absolute=False)
    bank.save(tmp_path / "bank")
    again = KVBank.load(tmp_path / "bank")
    assert again.policy == policy
    assert frames_read(again, 4) == frames_read(bank, 4) == [(0, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_the_frames_of_the_published_window():
    """LongLive: 12 frames with the sink of 3 and the reader's own 3 leave 6."""
    bank = bank_with(Sink(frames=3, window_frames=6, frames_per_chunk=3), [3] * 8, absolute=True)
    assert [chunk for chunk, _ in frames_read(bank, 8)] == [0, 0, 0, 6, 6, 6, 7, 7, 7]


def test_windows_say_how_they_were_made():
    assert repr(Rolling(4)) == "Rolling(num_chunks=4)"
    assert repr(Rolling(frames=9)) == "Rolling(frames=9)"
    assert repr(Sink(0, 2)) == "Sink(num_sink=0, num_recent=2)"
    assert repr(Sink(frames=3, window_frames=6, frames_per_chunk=3)) == (
        "Sink(frames=3, window_frames=6, frames_per_chunk=3)"
    )
    assert isinstance(Rolling(4), FramePolicy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rolling(), "num_chunks is None and frames is None; give one of them"),
        (lambda: Rolling(3, frames=9), "num_chunks is 3 and frames is 9; give one of them"),
        (lambda: Rolling(frames=0), "frames is 0; expected at least 1"),
        (lambda: Rolling(frames=9, frames_per_chunk=0), "frames_per_chunk is 0; expected at least 1"),
        (lambda: Sink(1, window_frames=6), "mixes chunks and frames; give num_sink and num_recent, or frames and"),
        (lambda: Sink(frames=3), "num_recent is None and window_frames is None; give one of them"),
    ],
)
def test_counts_are_of_chunks_or_of_frames(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_chunk_shorter_than_said_is_named():
    with pytest.raises(ValueError, match="chunk 2 has 1 latent frames; frames_per_chunk says at least 2"):
        bank_with(Rolling(frames=4, frames_per_chunk=2), [2, 2, 1, 2], absolute=False)
