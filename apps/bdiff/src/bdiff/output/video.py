"""Writing a video chunk by chunk, so that whatever is written can be watched."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import av
from av.codec.context import Flags

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.codeccontext import VideoCodecContext
    from jaxtyping import Float, UInt8
    from torch import Tensor

# zerolatency turns off the look-ahead (and macroblock trees), whose AVX-512 code is not reproducible; without scene
# cuts and B-frames a chunk is exactly one closed group of pictures.
_X264 = {
    "crf": "16",
    "preset": "medium",
    "tune": "zerolatency",
    "x264-params": "keyint=infinite:scenecut=0:bframes=0:open-gop=0",
}


def to_uint8(frames: "Float[Tensor, '3 t h w']", *, scale: int = 1) -> "UInt8[Tensor, 't H W 3']":
    """Pixels in [-1, 1] to bytes; each becomes a square of `scale` x `scale`."""
    pixels = ((frames.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0)
    return pixels.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2).contiguous()


class _WrittenFile:
    """A file that an mp4 is written into, at once; the library sees no name, which it might take for an address."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("wb", buffering=0)
        self._failure: OSError | None = None
        self.seek, self.tell = self._file.seek, self._file.tell

    def write(self, data: bytes) -> int:
        """All of it, so that it is there if the process is killed."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._failure = OSError(error.errno, error.strerror, str(self._path))
            raise self._failure from None
        return len(data)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What kept the library from writing, where it says no more than that something did."""
        try:
            yield
        except av.error.FFmpegError:
            if self._failure is None:
                raise
            raise self._failure from None

    def container(self, options: dict[str, str]) -> "OutputContainer":
        """An mp4 in this file."""
        return av.open(self, "w", format="mp4", options=options, io_open=self._open_again)

    def _open_again(self, url: str, flags: int, options: dict[str, str]) -> IO[bytes]:
        """The file, to be read: an index is put before what has been written."""
        return self._path.open("rb")

    def __enter__(self) -> "_WrittenFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class VideoWriter:
    """Writes an H.264 mp4: every chunk is one closed group of pictures from an encoder of its own.

    So the bytes of a chunk depend on its frames alone. While it grows, the file is made of fragments and can be played
    up to the last frame but one; `close` turns it into an ordinary mp4 without touching the pictures.
    """

    def __init__(self, path: str | Path, *, fps: int, height: int, width: int) -> None:
        """Opens the file; frames must have the given size, which must be even."""
        if height % 2 or width % 2:
            raise ValueError(f"frames are {height}x{width}; H.264 needs even sides: crop them or scale by 2")
        self.path = Path(path)
        self.num_frames = 0
        self._fps, self._size = fps, (height, width)
        with ExitStack() as after_error:
            self._file = after_error.enter_context(_WrittenFile(self.path))
            movflags = "frag_every_frame+empty_moov+default_base_moof"
            self._container = self._file.container({"movflags": movflags, "flush_packets": "1"})
            # This stream's own encoder only writes the header; it is set up as those of the chunks are.
            self._stream = self._container.add_stream("libx264", rate=fps)
            self._set_up(self._stream.codec_context)
            self._container.start_encoding()
            after_error.pop_all()

    def add(self, frames: "UInt8[Tensor, 't h w 3']") -> tuple[bytes, ...]:
        """Appends the frames of one chunk; returns their packets, from which `add_packets` makes the same chunk."""
        if tuple(frames.shape[1:3]) != self._size:
            raise ValueError(f"frames are {tuple(frames.shape[1:3])}; this video is {self._size}")
        packets = self._encode(frames)
        self.add_packets(packets)
        return packets

    def add_packets(self, packets: Sequence[bytes]) -> None:
        """Appends a chunk that was encoded before, by a writer of the same size and rate."""
        for index, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream = self._stream
            packet.pts = packet.dts = self.num_frames + index
            packet.duration = 1
            packet.time_base = Fraction(1, self._fps)
            packet.is_keyframe = index == 0
            with self._file.failures():
                self._container.mux(packet)
        self.num_frames += len(packets)

    def close(self) -> None:
        """Finishes the file."""
        with self._file, self._file.failures():
            self._container.close()
        if not self.num_frames:
            return
        whole = self.path.with_name(f".{self.path.name}.whole")
        try:
            self._write_whole(whole)
            whole.replace(self.path)
        finally:
            whole.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write_whole(self, path: Path) -> None:
        """The same packets as an ordinary mp4."""
        with (
            self.path.open("rb") as file,
            av.open(file, "r", format="mp4") as parts,
            _WrittenFile(path) as written,
            written.failures(),
            written.container({"movflags": "faststart"}) as out,
        ):
            stream = out.add_stream_from_template(parts.streams.video[0])
            for packet in parts.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)

    def _set_up(self, encoder: "VideoCodecContext") -> None:
        encoder.height, encoder.width = self._size
        encoder.pix_fmt = "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, self._fps), Fraction(self._fps)
        encoder.thread_count = 1
        encoder.options = _X264
        encoder.flags |= Flags.global_header

    def _encode(self, frames: "Tensor") -> tuple[bytes, ...]:
        """One packet a frame: without B-frames and look-ahead they come out as they went in."""
        encoder = av.CodecContext.create("libx264", "w")
        self._set_up(encoder)
        packets = []
        for index, pixels in enumerate(frames.cpu().numpy()):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, encoder.time_base
            packets += encoder.encode(frame)
        return tuple(bytes(packet) for packet in (*packets, *encoder.encode(None)))
