"""Which files of a tar are videos and captions."""

import io
import tarfile

import pytest

from bdiff_train.data.tars import read_tars


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_captions_of_every_kind_are_found_and_dot_files_left_out(tmp_path):
    whole, timed = "A swan.".encode("utf-16"), b"0:00 --> 0:03\nA hen\n"
    names = {"./1.mp4": b"", "./1.txt": whole, "3.mp4": b"", "3.srt": timed, "._1.mp4": b"", ".x/2.mp4": b""}
    write_tar(tmp_path / "a.tar", names)
    (tmp_path / "._a.tar").write_bytes(b"of another system")
    one, three = read_tars(tmp_path).entries
    assert [(one.video, one.chunks[0].caption), (three.video, three.chunks[0].caption)] == [
        ("a.tar/1.mp4", "A swan."),
        ("a.tar/3.mp4", "A hen"),
    ]
    assert (one.chunks[0].end, three.chunks[0].end) == (float("inf"), 3)


def test_wrong_captions_are_named_with_their_tar(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.mp4": b"", "1.txt": b"A swan [3s]"})
    with pytest.raises(ValueError, match=r"a\.tar/1\.txt: '\[3s\]' looks like a range of times"):
        read_tars(tmp_path)
