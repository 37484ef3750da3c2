"""Opening video files and decoding the stream that a player shows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens the bytes of a video. The file object must be seekable."""

MISSING_TOLERANCE = 2
"""How many frames fewer than the header says are not reported as damage."""


@contextmanager
def opened(path: Path, opener: Opener | None = None) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a video and choose the stream that a player shows.

    Args:
        path: The file. Messages name it. It is opened unless there is an ``opener``.
        opener: Opens the bytes of a video that is not a file of its own.

    Yields:
        The container and the stream.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it cannot be read.
        ValueError: If it is not a video, or if decoding fails inside the ``with`` block.
    """
    import av

    with (opener or _file(path))() as file:
        try:
            with _container(file) as container:
                yield container, _shown_stream(container, path)
        except av.error.FFmpegError as error:
            reason = error.strerror or str(error)
            raise ValueError(f"{path}: cannot be decoded as video ({reason})") from error


class _Bytes:
    """A file object without a name.

    FFmpeg would read some file names as addresses or patterns, and names need not be UTF-8.
    """

    def __init__(self, file: Any) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _container(file: Any) -> "InputContainer":
    import av

    options: dict[str, Any] = {
        "container_options": {"protocol_whitelist": "none"},  # a play list must not open other files or addresses
        "buffer_size": 1 << 18,
    }
    try:
        container: InputContainer = av.open(_Bytes(file), "r", **options)
    except UnicodeDecodeError:  # metadata that is not UTF-8 is an error before PyAV 19, without this option
        file.seek(0)
        container = av.open(_Bytes(file), "r", metadata_errors="replace", **options)
    return container


def _file(path: Path) -> Opener:
    """An opener of the file; raises an error that says why the file cannot be read."""
    try:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        if path.is_dir():
            raise ValueError(f"{path}: a folder, not a file; expected a video file")
        if not path.is_file():
            raise ValueError(f"{path}: not a file; expected a video file")
        path.open("rb").close()
    except OSError as error:
        if error.errno is None:  # raised above
            raise
        raise type(error)(f"{path}: cannot be read ({error.strerror})") from None
    return lambda: path.open("rb")


def _shown_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """The first video stream that is not an attached picture, such as a cover or a thumbnail."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails
    found = [stream for stream in container.streams.video if not stream.disposition & still]
    if not container.streams:
        raise ValueError(f"{path}: cannot be decoded as video (it is cut off or empty)")
    if not found:
        only = "an attached picture" if container.streams.video else container.format.long_name or "other data"
        raise ValueError(f"{path}: has no video stream, only {only}")
    if found[0].codec_context is None:
        raise ValueError(f"{path}: cannot be decoded as video (unknown codec)")
    return found[0]


class Decoding:
    """The frames of a stream in order; packets that cannot be decoded are left out and counted.

    The thread type of the decoder stays at its default. With ``thread_type`` AUTO, damage would cost as many frames as
    there are threads, so the result would depend on the machine.
    """

    def __init__(self, container: "InputContainer", stream: "VideoStream") -> None:
        self.stream = stream
        self._container = container
        self.num_damaged = 0
        self._announced = stream.frames  # read now: from PyAV 19 on it cannot be read after the container is closed
        self._count = self._hidden = 0
        self._begun = False

    def __iter__(self) -> "Iterator[VideoFrame]":
        for packet in self.packets():
            self._hidden += packet.is_discard
            for frame in self._decoded(packet):
                self._count += 1
                yield frame

    def problem(self) -> str | None:
        """What is missing from the file, in words; None if nothing is. Call it after all frames have been read."""
        promised = self._announced - self._hidden
        if not self._count or not (self.num_damaged or self._count < promised - MISSING_TOLERANCE):
            return None
        more = promised > self._count
        found = f"the header promises {promised} frames, but only {self._count}" if more else f"{self._count} frames"
        return f"{found} can be decoded; the file is cut off or damaged"

    def packets(self) -> "Iterator[Packet]":
        """All packets, up to the first place where the container itself is damaged."""
        import av

        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, IndexError) as error:  # IndexError: a damaged file, before PyAV 19
                self.num_damaged += 1
                if self._begun or isinstance(error, IndexError):
                    return
                raise
            self._begun = True
            yield packet

    def _decoded(self, packet: "Packet") -> "list[VideoFrame]":
        import av

        try:
            return packet.decode()
        except av.error.FFmpegError:
            self.num_damaged += 1
            return []
