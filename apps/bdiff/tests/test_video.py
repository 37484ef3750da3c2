import hashlib
import shutil
from contextlib import suppress

import av
import numpy as np
import pytest
import torch

from bdiff.output.video import VideoWriter, to_uint8

LENGTHS = (17, 20, 20)


def chunk(seed, length):
    """A moving gradient with some noise, so that every frame differs."""
    rows = torch.linspace(-1, 1, 16)[None, None, :, None].expand(3, length, 16, 16)
    time = torch.linspace(0, 1, length)[None, :, None, None]
    noise = torch.randn(3, length, 16, 16, generator=torch.Generator().manual_seed(seed))
    return to_uint8(torch.sin(4 * rows + 6 * time + seed) + 0.2 * noise, scale=4)


def write(path, seeds=(0, 1, 2)):
    with VideoWriter(path, fps=8, height=64, width=64) as video:
        for seed, length in zip(seeds, LENGTHS, strict=False):
            video.add(chunk(seed, length))
    return path


def decode(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_video_has_all_frames_at_its_rate(tmp_path):
    path = write(tmp_path / "v.mp4")
    frames = decode(path)
    assert len(frames) == sum(LENGTHS)
    given = np.concatenate([chunk(seed, length).numpy() for seed, length in enumerate(LENGTHS)])
    assert np.abs(np.stack(frames).astype(int) - given).mean() < 6
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 8
        assert container.duration / 1e6 == pytest.approx(sum(LENGTHS) / 8)


def test_every_chunk_is_one_closed_group_of_pictures(tmp_path):
    with av.open(str(write(tmp_path / "v.mp4"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 17, 37]
    assert all(packet.pts == packet.dts for packet in packets)


def test_bytes_are_the_same_every_time(tmp_path):
    digests = {hashlib.sha256(write(tmp_path / f"{run}.mp4").read_bytes()).hexdigest() for run in range(5)}
    assert len(digests) == 1


def test_a_chunk_does_not_depend_on_those_around_it(tmp_path):
    one, other = decode(write(tmp_path / "a.mp4")), decode(write(tmp_path / "b.mp4", seeds=(7, 1, 9)))
    assert all(np.array_equal(a, b) for a, b in zip(one[17:37], other[17:37], strict=True))
    assert not np.array_equal(one[0], other[0])


def test_a_video_cut_off_while_it_grows_still_plays(tmp_path):
    path, seen = tmp_path / "v.mp4", []
    with VideoWriter(path, fps=8, height=64, width=64) as video:
        for seed, length in enumerate(LENGTHS):
            video.add(chunk(seed, length))
            seen.append(len(decode(shutil.copy(path, tmp_path / "copy.mp4"))))
    assert seen == [16, 36, 56]
    whole, cut = decode(path), []
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "copy.mp4").read_bytes()[:-1000])
    with av.open(str(tmp_path / "copy.mp4")) as container, suppress(av.error.InvalidDataError):
        for frame in container.decode(video=0):
            cut.append(frame.to_ndarray(format="rgb24"))
    assert len(cut) >= 54
    assert all(np.array_equal(a, b) for a, b in zip(cut, whole, strict=False))


def test_an_error_leaves_a_video_of_what_was_there(tmp_path):
    def fail():
        with VideoWriter(tmp_path / "v.mp4", fps=8, height=64, width=64) as video:
            video.add(chunk(0, 17))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert len(decode(tmp_path / "v.mp4")) == 17
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_pixels_become_bytes_and_squares():
    frames = torch.tensor([-2.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2).expand(3, 1, 2, 2)
    assert to_uint8(frames)[0, ..., 0].tolist() == [[0, 0], [128, 255]]
    enlarged = to_uint8(frames, scale=3)
    assert enlarged.shape == (1, 6, 6, 3)
    assert enlarged[0, :3, 3:].unique().tolist() == [0]
    assert enlarged[0, 3:, 3:].unique().tolist() == [255]


def test_wrong_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"frames are 63x64; H\.264 needs even sides"):
        VideoWriter(tmp_path / "v.mp4", fps=8, height=63, width=64)
    with (
        VideoWriter(tmp_path / "v.mp4", fps=8, height=32, width=32) as video,
        pytest.raises(ValueError, match=r"frames are \(64, 64\); this video is \(32, 32\)"),
    ):
        video.add(chunk(0, 17))
