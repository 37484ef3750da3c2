"""Videos of a given length and size, made of a short clip; only the clip is held in memory."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

OPTIONS = {"crf": "18", "preset": "veryfast", "tune": "zerolatency"}
"""Options of x264; the tune makes the encoder deterministic."""


def write_video(clip: Path, path: Path, *, seconds: float, height: int, fps: int) -> None:
    """Write a clip that plays forwards and backwards in turns, as H.264 of a given length.

    The width follows from the height and is even.

    Raises:
        ValueError: if the clip cannot be decoded or has no frame.
    """
    import av

    frames = _shrunk(clip, height)
    turned = cycle(chain(frames, frames[-2:0:-1]))
    with path.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=OPTIONS)
        stream.height, stream.width, stream.pix_fmt = frames[0].height, frames[0].width, "yuv420p"
        for number, frame in enumerate(islice(turned, round(seconds * fps))):
            frame.pts, frame.time_base = number, Fraction(1, fps)
            frame.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_story(path: Path) -> None:
    """Write the first chunk of a story of the synthetic world as H.264."""
    import av

    import storyworld

    frames = storyworld.render(0, 2).frames[:, :17].add(1).mul(127.5).byte().permute(1, 2, 3, 0).contiguous()
    with path.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=storyworld.FPS, options=OPTIONS)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def repeat_video(video: Path, path: Path, *, times: int) -> None:
    """Write a video that shows another one several times: packets are copied and moved in time, not encoded again."""
    import av

    with (
        video.open("rb") as given,
        av.open(given, "r") as source,
        path.open("wb") as file,
        av.open(file, "w", format="mp4") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [
            (packet, packet.pts, packet.dts, packet.duration)
            for packet in source.demux(video=0)
            if packet.pts is not None and packet.dts is not None and packet.duration is not None
        ]
        length = max(dts + duration for _, _, dts, duration in packets)
        for number in range(times):
            for packet, pts, dts, duration in packets:
                copy = av.Packet(bytes(packet))
                copy.is_keyframe, copy.time_base, copy.duration = packet.is_keyframe, packet.time_base, duration
                copy.pts, copy.dts = pts + number * length, dts + number * length
                copy.stream = stream
                target.mux(copy)


def _shrunk(clip: Path, height: int) -> list[Any]:
    import av

    try:
        with clip.open("rb") as file, av.open(file, "r") as container:
            frames = list(_sized(container.decode(video=0), height))
    except av.error.FFmpegError as error:
        raise ValueError(f"{clip}: cannot be decoded as video ({error.strerror})") from error
    if not frames:
        raise ValueError(f"{clip}: has no frames")
    return frames


def _sized(frames: Any, height: int) -> Iterator[Any]:
    for frame in frames:
        width = 2 * round(frame.width * height / frame.height / 2)
        yield frame.reformat(width=width, height=height, format="yuv420p")
