"""Films of a given length and size, made of a short clip, which is all that is held in memory."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

OPTIONS = {"crf": "18", "preset": "veryfast", "tune": "zerolatency"}
"""Of x264; the tune makes the encoder deterministic."""


def write_film(clip: Path, path: Path, *, seconds: float, height: int, fps: int) -> None:
    """A clip forth and back and forth again, as H.264 of a given length; an even width follows from the height.

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


def repeat_film(film: Path, path: Path, *, times: int) -> None:
    """The same film over and over: its packets are copied and moved in time, not encoded again."""
    import av

    with (
        film.open("rb") as given,
        av.open(given, "r") as source,
        path.open("wb") as file,
        av.open(file, "w", format="mp4") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        length = max(packet.dts + packet.duration for packet in packets)
        for number in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.is_keyframe, copy.time_base, copy.duration = packet.is_keyframe, packet.time_base, packet.duration
                copy.pts, copy.dts = packet.pts + number * length, packet.dts + number * length
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
