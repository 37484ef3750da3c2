"""Files are read whatever they are called. Needs numpy and av alone."""

import io
import os
import shutil
import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vde_metrics.video.containers import Decoding, opened
from vde_metrics.video.player import Clock, ShownFrame, at_rate, pixel_aspect, usual_duration

NAMES = [
    "12:30:00.mp4", "a:b", "http:__x", "pipe:1.mp4", "pipe:0", "concat:a|b.mp4", "file:x.mp4", "data:,x.mp4",
    "async:cache:x.mp4", "subfile,,start,0,end,9,,:x.mp4", "%03d.mp4", "%d.png", "-x.mp4", "-", "~x.mp4", "[a].mp4",
    "*.mp4", " x .mp4", "x\n.mp4", "x.txt", "no suffix", ".hidden.mp4", "日本.mp4", "'\".mp4", "x" * 251 + ".mp4",
    os.fsdecode(b"\xff\xfe.mp4"), os.fsdecode(b"caf\xe9.mp4"),
]  # fmt: skip


def encode(path, count=6, *, metadata=None, covers=0, second=False, codec="libx264", form="mp4", **options):
    """A video of greys, with covers and a second stream if they are asked for."""
    with open(path, "wb") as file, av.open(file, "w", format=form, container_options=options) as out:
        out.metadata.update(metadata or {})
        streams = [out.add_stream(codec, rate=8)] + ([out.add_stream("libx264", rate=8)] if second else [])
        for number, stream in enumerate(streams):
            stream.height = stream.width = 32 + 16 * number
            stream.pix_fmt = "gray" if codec == "gif" else "yuv420p"
        pictures = [out.add_stream("mjpeg", rate=1) for _ in range(covers)]
        for picture in pictures:
            picture.height, picture.width, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic.value
        for picture in pictures:
            out.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 250, np.uint8), format="rgb24")))
            out.mux(picture.encode(None))
        for value in range(count):
            for stream in streams:
                grey = np.full((stream.height, stream.width, 3), 20 * value, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def sound(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def greys(path, opener=None):
    with opened(path, opener) as (container, stream):
        return [round(float(ShownFrame(frame).rgb().mean()) / 20) for frame in Decoding(container, stream)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_that_is_there_is_read(clip, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    for path in (Path(name), tmp_path / name):
        assert greys(path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("form", ["mp4", "matroska", "webm", "mov", "avi", "mpegts", "flv", "gif"])
def test_the_format_is_told_by_what_is_in_the_file(tmp_path, form):
    codec = {"webm": "libvpx", "gif": "gif"}.get(form, "libx264")
    assert greys(encode(tmp_path / "x", codec=codec, form=form)) == [0, 1, 2, 3, 4, 5]


def test_the_index_may_be_at_the_end_or_the_beginning(tmp_path):
    for name, options in (("end", {}), ("fragments", {"movflags": "frag_keyframe+empty_moov"})):
        assert greys(encode(tmp_path / name, **options)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_covers_are_no_video_and_of_two_videos_the_first_is_read(tmp_path, form):
    path = encode(tmp_path / "two", second=True, covers=1, form=form)
    with opened(path) as (container, stream):
        assert len(container.streams.video) == 3
        assert {(frame.width, frame.height) for frame in Decoding(container, stream)} == {(32, 32)}


def test_a_cover_before_the_video_is_no_video(clip, monkeypatch):
    """No muxer at hand writes a cover first, but other programs do."""
    cover = SimpleNamespace(disposition=av.stream.Disposition.attached_pic | av.stream.Disposition.default)
    real, given_streams = av.open, []

    @contextmanager
    def opened_with_cover(*arguments, **options):
        with real(*arguments, **options) as container:
            given_streams.append([cover, *container.streams.video])
            yield _Proxy(container, streams=_Proxy(container.streams, video=given_streams[0]))

    monkeypatch.setattr(av, "open", opened_with_cover)
    with opened(clip) as (_, stream):
        assert stream is given_streams[0][1]


def test_what_is_no_video_is_said_in_one_line(clip, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "words.txt").write_text("words\n" * 99)
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:50])
    os.mkfifo(tmp_path / "pipe")
    sound(tmp_path / "sound.wav")
    for name, message in {
        "none.mp4": "no such file",
        "folder": "a folder, not a file; expected a video file",
        "pipe": "not a file; expected a video file",
        "empty.mp4": "cannot be decoded as video",
        "words.txt": "cannot be decoded as video",
        "cut.mp4": "cannot be decoded as video",
        "sound.wav": "has no video stream, only WAV",
        "x" * 300 + ".mp4": r"cannot be read \(File name too long\)",
        "x.mp4/y": "no such file|Not a directory",
        "x\0.mp4": "no such file",
    }.items():
        with pytest.raises((ValueError, OSError), match=message) as raised, opened(tmp_path / name):
            pass
        assert str(raised.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_named(clip, tmp_path):
    path = shutil.copy(clip, tmp_path / "locked.mp4")
    path.chmod(0)
    with pytest.raises(PermissionError, match=r"locked\.mp4: cannot be read \(Permission denied\)"), opened(path):
        pass


def test_play_lists_do_not_reach_for_other_files(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "clip.mp4")
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        "list.txt": "ffconcat version 1.0\nfile clip.mp4\n",
        "http.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"cannot be decoded|has no video"):
            greys(tmp_path / name)


@pytest.mark.parametrize("error", [IndexError("list index out of range"), av.error.InvalidDataError(1, "damaged")])
def test_a_container_that_cannot_be_read_on_is_read_as_far_as_it_goes(clip, error):
    """A damaged file may seem to gain a stream, at which PyAV before 19 fails with an IndexError."""

    def demux(stream):
        yield from [packet for packet in container.demux(stream) if packet.dts is not None][:4]
        raise error

    with opened(clip) as (container, stream):
        decoding = Decoding(SimpleNamespace(demux=demux), stream)
        assert len(list(decoding)) in (1, 2, 3, 4)
        assert decoding.num_damaged == 1
        assert "cut off or damaged" in decoding.problem()


def test_metadata_need_not_be_utf8(tmp_path):
    path = encode(tmp_path / "latin.mp4", metadata={"title": "caf#"})
    path.write_bytes(path.read_bytes().replace(b"caf#", b"caf\xe9"))
    assert greys(path) == [0, 1, 2, 3, 4, 5]


def test_what_is_no_file_of_its_own_is_read_through_its_opener(clip, tmp_path):
    @contextmanager
    def opener():
        yield io.BytesIO(clip.read_bytes())

    assert greys(tmp_path / "shard.tar" / "clip.mp4", opener) == [0, 1, 2, 3, 4, 5]


class _Proxy:
    """An object with some attributes replaced."""

    def __init__(self, real, **changed):
        self.__dict__.update(changed, _real=real)

    def __getattr__(self, name):
        return getattr(self._real, name)


class _Rational:
    """As PyAV 19 has it, or less: a numerator and a denominator, and no arithmetic with a Fraction."""

    def __init__(self, value):
        self.numerator, self.denominator = value.numerator, value.denominator

    def __bool__(self):
        return bool(self.numerator)

    def __float__(self):
        return self.numerator / self.denominator


def _bare(value):
    return _Rational(value) if value is not None and hasattr(value, "denominator") else value


class _Stream(_Proxy):
    def __getattr__(self, name):
        if not self._container.is_open:
            raise AssertionError("Container is not open")
        value = getattr(self._real, name)
        return _bare(value) if name.endswith(("_rate", "_base", "_ratio")) else value


class _Packet(_Proxy):
    def decode(self):
        return [_Proxy(frame, time_base=_bare(frame.time_base)) for frame in self._real.decode()]


class _Container(_Proxy):
    """A container of PyAV 19, as far as the reader may count on it."""

    def __enter__(self):
        self._real.__enter__()
        streams = self._real.streams
        self.__dict__["is_open"] = True
        video = [_Stream(stream, _container=self) for stream in streams.video]
        self.__dict__["streams"] = _Proxy(streams, video=video)
        return self

    def __exit__(self, *error):
        self.__dict__["is_open"] = False
        return self._real.__exit__(*error)

    def demux(self, stream):
        return (_Packet(packet) for packet in self._real.demux(stream._real))


OPTIONS_OF_19 = {"format", "options", "container_options", "buffer_size", "timeout", "io_open", "hwaccel"}


def test_the_reader_gets_along_without_what_pyav_19_dropped(clip, monkeypatch):
    """Without `metadata_errors` and `metadata_encoding`, with rationals that are no Fractions, silent once closed."""
    real = av.open

    def stripped(file, mode="r", **options):
        if unknown := options.keys() - OPTIONS_OF_19:
            raise TypeError(f"open() got an unexpected keyword argument {unknown.pop()!r}")
        return _Container(real(file, mode, **options))

    monkeypatch.setattr(av, "open", stripped)
    assert greys(clip) == [0, 1, 2, 3, 4, 5]
    with opened(clip) as (container, stream):
        assert (pixel_aspect(stream), usual_duration(stream)) == (1, Fraction(1, 8))
        shown = at_rate(Decoding(container, stream), Clock(usual_duration(stream)), Fraction(16))
        assert sum(1 for _ in shown) == 12
    if "vde_metrics.video.file" in sys.modules or "torch" in sys.modules:
        from vde_metrics import VideoFile

        video = VideoFile.probe(clip)
        assert (video.fps, video.count_packets(), video.count_frames(), len(list(video.frames()))) == (8, 6, 6, 6)
        assert sum(1 for _ in video.shown(16)) == 12
