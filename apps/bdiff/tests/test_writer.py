"""Videos are written under any name, with any PyAV. Needs numpy and av alone, as `bdiff.output.video` does."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from bdiff.output.video import VideoWriter


class Frames:
    """Pixels, as far as the writer asks a tensor for them."""

    def __init__(self, pixels):
        self.pixels, self.shape = pixels, pixels.shape

    def cpu(self):
        return self

    def numpy(self):
        return self.pixels


def chunks():
    rows = np.arange(32, dtype=np.uint8)[None, :, None, None] * 4
    times = np.arange(20, dtype=np.uint8)[:, None, None, None] * 5
    return [Frames(np.broadcast_to(rows + times + seed, (20, 32, 32, 3)).copy()) for seed in range(3)]


def write(path):
    with VideoWriter(path, fps=8, height=32, width=32) as video:
        for chunk in chunks():
            video.add(chunk)
    return path


def test_a_film_has_its_frames_whatever_the_version(tmp_path):
    path = write(tmp_path / "film.mp4")
    with path.open("rb") as file, av.open(file, "r") as container:
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 8
    given = np.concatenate([chunk.pixels for chunk in chunks()])
    assert np.abs(np.stack(found).astype(int) - given).mean() < 4
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    assert {hashlib.sha256(write(path).read_bytes()).hexdigest() for _ in range(3)} == {
        hashlib.sha256(write(tmp_path / "other.mp4").read_bytes()).hexdigest()
    }


@pytest.mark.parametrize(
    "folder", ["a:b", "http:x", "12:30", "%03d", "[x]", "-o", "日本", os.fsdecode(b"\xff\xfe")], ids=ascii
)
def test_the_folder_may_have_any_name(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir()
    expected = write(tmp_path / "plain.mp4").read_bytes()
    for path in (Path(folder) / "video.mp4", tmp_path / folder / "pipe:1.mp4"):
        assert write(path).read_bytes() == expected
    assert sorted(os.listdir(folder)) == ["pipe:1.mp4", "video.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_named_with_the_file(tmp_path):
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*full\.mp4'"):
        VideoWriter(tmp_path / "full.mp4", fps=8, height=32, width=32)


def test_the_module_needs_no_torch():
    """What is said above: sessions with another Python count on it."""
    without = "import sys; sys.modules['torch'] = None; import bdiff.output.video"
    subprocess.run([sys.executable, "-c", without], check=True)
