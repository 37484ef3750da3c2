"""Frames as a player shows them. Needs numpy and av alone, so that it runs where torch cannot be had."""

import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vde_metrics.video.containers import Decoding, opened
from vde_metrics.video.player import LONGEST, LONGEST_HELD, Clock, ShownFrame, at_rate, pixel_aspect, usual_duration

TICK = Fraction(1, 1000)


def corners(height=32, width=48):
    """A picture that no turn and no mirror leaves as it is."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2, 0] = 220
    picture[: height // 2, width // 2 :, 1] = 200
    picture[height // 2 :, : width // 2, 2] = 180
    return picture


def greys(count, size=16):
    """Frames whose grey tells their number."""
    return [np.full((size, size, 3), 4 * number, np.uint8) for number in range(count)]


def write(path, frames, *, fps=8, codec="ffv1", pix_fmt="bgr0", times=None, aspect=None, options=(), container=None):
    """Encode frames, evenly or at given milliseconds."""
    with av.open(str(path), "w", container_options=dict(container or ())) as out:
        stream = out.add_stream(codec, rate=fps, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        if times is not None:
            stream.codec_context.time_base = TICK
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[-1] == 4 else "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], TICK
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def turned(source, path, matrix):
    """An mp4 with another display matrix: a, b, c, d of its track header."""
    data = source.read_bytes()
    one = (1 << 16).to_bytes(4, "big")
    plain = one + bytes(12) + one + bytes(12) + (1 << 30).to_bytes(4, "big")
    at = data.index(plain, data.index(b"tkhd"))
    a, b, c, d = ((value << 16).to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data[:at] + a + b + bytes(4) + c + d + data[at + 20 :])
    return path


def seen(path, fps=8):
    """Pixels at a rate, and what is said of the file."""
    with opened(path) as (container, stream):
        decoding, clock = Decoding(container, stream), Clock(usual_duration(stream))
        frames = [ShownFrame(frame, pixel_aspect(stream)).rgb() for frame in at_rate(decoding, clock, Fraction(fps))]
        return frames, [problem for problem in (decoding.problem(), clock.problem()) if problem]


def numbers(path, fps=8):
    """Which of the `greys` are seen."""
    return [round(float(frame.mean()) / 4) for frame in seen(path, fps)[0]]


@pytest.fixture(scope="module")
def upright(tmp_path_factory):
    path = tmp_path_factory.mktemp("upright") / "upright.mp4"
    return write(path, [corners()] * 3, codec="libx264rgb", pix_fmt="rgb24", options={"crf": "0"})


TURNS = {
    (1, 0, 0, 1): lambda x: x,
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2),
    (0, -1, 1, 0): lambda x: np.rot90(x),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda x: x.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda x: np.rot90(x, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", TURNS, ids=str)
def test_a_picture_is_turned_and_mirrored_as_its_matrix_says(upright, tmp_path, matrix):
    frames, problems = seen(turned(upright, tmp_path / "turned.mp4", matrix))
    assert problems == []
    assert np.array_equal(frames[0], TURNS[matrix](corners()))


def test_the_angle_is_the_one_that_the_library_sees(upright, tmp_path):
    for matrix in ((0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)):
        with opened(turned(upright, tmp_path / "turned.mp4", matrix)) as (container, stream):
            (frame, *_) = Decoding(container, stream)
            wanted = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            assert np.array_equal(ShownFrame(frame).rgb(), wanted)


def test_scaling_is_of_the_picture_that_is_seen(upright, tmp_path):
    with opened(turned(upright, tmp_path / "turned.mp4", (0, 1, -1, 0))) as (container, stream):
        (frame, *_) = Decoding(container, stream)
    shown = ShownFrame(frame)
    assert (shown.height, shown.width) == (48, 32)
    assert shown.rgb(height=24, width=20, interpolation="AREA").shape == (24, 20, 3)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (None, (32, 48)),
        (Fraction(4, 3), (32, 64)),
        (Fraction(1, 2), (32, 24)),
        (Fraction(1, 1000), (32, 48)),
        (Fraction(1000), (32, 48)),
    ],
)
def test_pixels_become_square_unless_that_is_absurd(tmp_path, aspect, size):
    path = write(tmp_path / "wide.mp4", [corners()] * 2, codec="libx264", pix_fmt="yuv420p", aspect=aspect)
    assert seen(path)[0][0].shape == (*size, 3)


def test_a_turned_picture_is_stretched_before_it_is_turned(tmp_path):
    wide = write(
        tmp_path / "wide.mp4",
        [corners()] * 2,
        codec="libx264rgb",
        pix_fmt="rgb24",
        options={"crf": "0"},
        aspect=Fraction(2),
    )
    (frame, *_), _ = seen(turned(wide, tmp_path / "turned.mp4", (0, 1, -1, 0)))
    assert frame.shape == (96, 32, 3)


@pytest.mark.parametrize(
    ("fps", "count", "picked"),
    [
        (24, 60, [3 * n + 1 for n in range(20)]),
        (8, 20, list(range(20))),
        (4, 10, [n // 2 for n in range(20)]),
        (25, 62, [int((2 * n + 1) * 25 / 16) for n in range(20)]),
        (Fraction(30000, 1001), 60, [int((2 * n + 1) * 30000 / 1001 / 16) for n in range(16)]),
    ],
)
@pytest.mark.parametrize("name", ["v.mkv", "v.mp4", "v.ts", "v.avi"])
def test_a_frame_is_the_one_on_the_screen_in_the_middle_of_its_time(tmp_path, name, fps, count, picked):
    lossless = {"codec": "libx264", "pix_fmt": "yuv420p", "options": {"crf": "4", "g": "5", "bf": "2"}}
    if name == "v.avi":
        lossless["options"] = {"crf": "4", "bf": "0"}
    path = write(tmp_path / name, greys(count), fps=fps, **lossless)
    assert numbers(path) == picked


def test_times_that_vary_or_begin_late_are_heeded(tmp_path):
    for begin in (0, 90_000):
        times = [begin + 125 * eighths for eighths in (0, 1, 3, 4, 7)]
        assert numbers(write(tmp_path / "uneven.mkv", greys(5), times=times)) == [0, 1, 1, 2, 3, 3, 3, 4]


def test_files_without_time_stamps_play_evenly(tmp_path):
    path = write(tmp_path / "raw.h264", greys(20), fps=25, codec="libx264", pix_fmt="yuv420p", options={"crf": "4"})
    assert numbers(path, 25) == list(range(20))


def test_a_jump_of_years_is_no_pause_and_a_long_pause_is_one(tmp_path):
    path = write(tmp_path / "jump.mkv", greys(6), times=[0, 125, 250, 10**12, 10**12 + 125, 10**12 + 250])
    assert numbers(path) == [0, 1, 2, 3, 4, 5]
    assert seen(path)[1] == ["jumps of the time stamps, where a frame follows the one before at once: 1"]
    path = write(tmp_path / "pause.mkv", greys(2), times=[0, 60_000])
    assert numbers(path) == [0] * 480 + [1]


def frame_stub(stamp, duration=1):
    return SimpleNamespace(pts=stamp, time_base=Fraction(1, 8), duration=duration)


def played(stamps, fps=8):
    """What is seen of frames with these stamps, in eighths of a second."""
    stubs = [frame_stub(stamp) for stamp in stamps]
    clock = Clock(Fraction(1, 8))
    places = {id(stub): place for place, stub in enumerate(stubs)}
    return [places[id(stub)] for stub in at_rate(_Stubs(stubs), clock, Fraction(fps))], clock.problem()


class _Stubs(list):
    stream = None


@pytest.mark.parametrize(
    ("stamps", "picked", "said"),
    [
        ([None] * 4, [0, 1, 2, 3], None),
        ([-20, -19, -18], [0, 1, 2], None),
        ([0, None, 2, None, 4], [0, 1, 2, 3, 4], None),
        ([0, 1, 1, 2], [0, 2, 3], None),
        ([0, 2, 1, 3], [0, 0, 1, 3], "too late to be shown: 1"),
        ([0, 1, 8 * 10**9, 3, 4], [0, 1, 2, 3, 4], "at once: 2"),
        ([0, 1, 2, -(10**12), 1 - 10**12], [0, 1, 2, 3, 4], "at once: 1"),
        ([100, 101, 102, 0, 1, 2], [0, 1, 2, 3, 4, 5], "at once: 1"),
        ([2**62, 0, 1], [0, 1, 2], "at once: 1"),
        # a decoder that finds its way again gives frames out of order
        ([0, 1, 12, 13, 2, 14, 15], [0, *[1] * 11, 2, 3, 5, 6], "too late to be shown: 1"),
        # a clip of 30 frames twice: what cannot be told from late frames is lost
        ([*range(30), *range(30)], [*range(30), *range(46, 60)], "at once: 1"),
    ],
    ids=str,
)
def test_time_stamps_are_heeded_where_they_make_sense(stamps, picked, said):
    assert played(stamps)[0] == picked
    problem = played(stamps)[1]
    assert problem is None if said is None else said in problem


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 40), min_size=1, max_size=30))
def test_whatever_the_time_stamps_time_goes_on_and_pauses_are_bounded(stamps):
    clock, last = Clock(Fraction(1, 8)), Fraction(0)
    for stamp in stamps:
        times = clock.place(None if stamp is None else stamp * TICK, None)
        if times is not None:
            assert last <= times[0] <= last + LONGEST_HELD
            assert times[0] < times[1]
            last = times[0]


@pytest.mark.parametrize("duration", [0, -3, 10**15, None])
def test_a_senseless_duration_of_the_last_frame_is_left_out(duration):
    assert len(list(at_rate(_Stubs([frame_stub(0), frame_stub(1, duration)]), Clock(Fraction(1, 8)), Fraction(8)))) == 2


def test_more_than_a_day_is_refused():
    pauses = _Stubs([frame_stub(8 * LONGEST_HELD * number) for number in range(LONGEST // LONGEST_HELD + 2)])
    with pytest.raises(OverflowError, match="longer than 24 hours"):
        sum(1 for _ in at_rate(pauses, Clock(Fraction(1, 8)), Fraction(1, 60)))


@pytest.mark.parametrize(
    ("average", "guessed", "wanted"),
    [
        (Fraction(24), None, Fraction(1, 24)),
        (None, Fraction(30), Fraction(1, 30)),
        (None, None, Fraction(1, 25)),
        (Fraction(0), Fraction(90_000), Fraction(1, 25)),
        (Fraction(1, 10**6), Fraction(12), Fraction(1, 12)),
    ],
)
def test_rates_that_make_no_sense_are_not_believed(average, guessed, wanted):
    assert usual_duration(SimpleNamespace(average_rate=average, guessed_rate=guessed)) == wanted


def remuxed(source, path, damage):
    """The packets of a file, some of them zeroed."""
    with av.open(str(source)) as given_file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given_file.streams.video[0])
        for number, packet in enumerate(p for p in given_file.demux(video=0) if p.dts is not None):
            copy = av.Packet(bytes(packet.size) if number in damage else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
            out.mux(copy)
    return path


def test_the_last_good_frame_is_shown_where_the_file_is_damaged(tmp_path):
    whole = write(tmp_path / "whole.mov", greys(20), codec="png", pix_fmt="rgb24")
    damaged = remuxed(whole, tmp_path / "damaged.mov", {5, 6, 7})
    assert numbers(damaged) == [0, 1, 2, 3, 4, 4, 4, 4, *range(8, 20)]
    (problem,) = seen(damaged)[1]
    assert problem == "the header promises 20 frames, but only 17 can be decoded; the file is cut off or damaged"


def test_a_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    for name, options in (("cut.mkv", {}), ("cut.mp4", {"movflags": "faststart"})):
        whole = tmp_path / f"whole-{name}"
        write(whole, greys(40), codec="libx264", pix_fmt="yuv420p", options={"g": "4"}, container=options)
        data = whole.read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * 0.9)])
        found = numbers(tmp_path / name)
        assert 8 < len(found) < 40
        assert found == list(range(len(found)))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p", "gray"])
def test_ranges_and_depths_come_out_as_they_went_in(tmp_path, pix_fmt):
    whites = [np.full((17, 23, 3), value, np.uint8) for value in (0, 128, 255)]
    frames, _ = seen(write(tmp_path / "range.mkv", whites, codec="ffv1", pix_fmt=pix_fmt))
    assert [int(frame.astype(int).mean().round()) for frame in frames] == pytest.approx([0, 128, 255], abs=3)
    assert frames[0].shape == (17, 23, 3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuvj420p"), ("mjpeg", "yuvj420p"), ("libvpx-vp9", "yuv420p")]
)
def test_full_range_is_read_as_such(tmp_path, codec, pix_fmt):
    """Also where the pixel format does not say it."""
    path = tmp_path / "full.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = 64, 64, pix_fmt
        stream.codec_context.color_range = 2
        for value in (0, 128, 255):
            frame = av.VideoFrame(64, 64, "yuvj420p")
            for plane, grey in zip(frame.planes, (value, 128, 128), strict=True):
                plane.update(bytes([grey]) * plane.buffer_size)
            frame = frame if pix_fmt == "yuvj420p" else _renamed(frame)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert [round(float(frame.mean())) for frame in seen(path)[0]] == pytest.approx([0, 128, 255], abs=3)


def _renamed(frame):
    """The same bytes as yuv420p of the full range."""
    other = av.VideoFrame(frame.width, frame.height, "yuv420p")
    for plane, given_plane in zip(other.planes, frame.planes, strict=True):
        plane.update(bytes(given_plane))
    other.color_range = 2
    return other


def test_alpha_is_left_out(tmp_path):
    clear = np.concatenate([corners(), np.full((32, 48, 1), 60, np.uint8)], axis=-1)
    path = write(tmp_path / "glass.mov", [clear] * 2, codec="png", pix_fmt="rgba")
    assert np.array_equal(seen(path)[0][0], corners())


def test_the_module_needs_no_torch():
    """What is said above: sessions with another Python count on it."""
    without = "import sys; sys.modules['torch'] = None; import vde_metrics.video.containers, vde_metrics.video.player"
    subprocess.run([sys.executable, "-c", without], check=True)
