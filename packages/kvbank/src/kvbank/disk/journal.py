"""An append-only file of numbered records, each a self-checking tensor file in a frame."""

import fcntl
import io
import os
import struct
import weakref
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from kvbank.stores.segments import force_folder, named_error
from kvbank.stores.tensorfile import DamageError, map_file, read_tensors, write_tensors

_MAGIC = b"KVJ1"
_FRAME = struct.Struct("<4sQQ")  # magic, number of the record, bytes of its tensor file
_CHECK = struct.Struct("<I")  # CRC-32 of the frame
_HEAD = _FRAME.size + _CHECK.size


class JournalRecord(NamedTuple):
    """One record as it was appended."""

    number: int
    """Counts from 0."""
    metadata: dict[str, Any]
    """Its JSON."""
    tensors: dict[str, Tensor]
    """Its tensors."""


class Journal:
    """Appends records to a file that one process at a time may hold.

    Args:
        path: Of an existing journal.

    Raises:
        ValueError: If another process, or this one, has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_number = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._closing = weakref.finalize(self, os.close, self._descriptor)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._closing()
            raise ValueError(f"{path} is open in a bank already; close that one first") from error
        self._end = 0

    @classmethod
    def create(cls, path: Path, metadata: Mapping[str, Any]) -> "Journal":
        """A new journal with one record, which appears complete or not at all, and is forced to disk."""
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_framed(0, metadata, {}))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            force_folder(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise named_error(error, path) from error
        journal = cls(path)
        for _ in journal.records():
            pass
        return journal

    def records(self) -> Iterator[JournalRecord]:
        """All records in order, once; then the journal is ready to append.

        What a crash left of one more record stays until `cut` or `append`. The file grows from the front, so that is
        the beginning of a record, or bytes that never got beyond zero; whatever else does not fit is damage.

        Raises:
            DamageError: If a record is not what was appended.
        """
        data = map_file(self.path)
        while self._end < len(data):
            where = f"record {self.next_number}, at byte {self._end},"
            frame = data[self._end : self._end + _HEAD]
            if len(frame) < _HEAD:
                if not _begins_alike(frame, self.next_number):
                    raise DamageError(self.path, f"{where} has no frame")
                break
            magic, number, length = _FRAME.unpack_from(frame)
            if _CHECK.unpack_from(frame, _FRAME.size)[0] != zlib.crc32(frame[: _FRAME.size]):
                if not any(data[self._end :]):
                    break
                raise DamageError(self.path, f"the frame of {where} has another checksum than was written")
            if (magic, number) != (_MAGIC, self.next_number):
                raise DamageError(self.path, f"where {where} should be is {magic!r} {number}")
            content = bytearray(data[self._end + _HEAD : self._end + _HEAD + length])
            if len(content) < length:
                break
            try:
                metadata, tensors = read_tensors(content, self.path)
            except DamageError as error:
                raise DamageError(self.path, f"{where} is not what was written") from error
            self._end += _HEAD + length
            self.next_number += 1
            yield JournalRecord(number, metadata, tensors)
        if self._end == 0:
            raise DamageError(self.path, "it has no complete record, and is never made without one")

    def append(self, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], *, force: bool) -> None:
        """Append a record, or leave the journal as it was.

        Args:
            metadata: Anything JSON.
            tensors: By name; small ones, as the record is put together in memory.
            force: Whether it is to be on the disk itself before this returns.

        Raises:
            OSError: With the name of the file, if the disk is full or cannot be written.
        """
        framed = _framed(self.next_number, metadata, tensors)
        try:
            self.cut()
            self._write(framed)
            if force:
                os.fsync(self._descriptor)
        except OSError as error:
            raise named_error(error, self.path) from error
        self._end += len(framed)
        self.next_number += 1

    def cut(self) -> None:
        """Drop what stands behind the last complete record, if anything does."""
        if os.fstat(self._descriptor).st_size > self._end:
            os.ftruncate(self._descriptor, self._end)

    def force(self) -> None:
        """Bring to the disk itself what was appended without force."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let another process have it."""
        self._closing()

    def _write(self, data: bytes) -> None:
        """Until all is written; a full disk takes a part first."""
        with memoryview(data) as rest:
            done = 0
            while done < len(rest):
                done += os.pwrite(self._descriptor, rest[done:], self._end + done)


def _framed(number: int, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    content = io.BytesIO()
    write_tensors(content, tensors, metadata)
    frame = _FRAME.pack(_MAGIC, number, len(content.getbuffer()))
    return frame + _CHECK.pack(zlib.crc32(frame)) + content.getvalue()


def _begins_alike(frame: bytes, number: int) -> bool:
    """Whether this is how the frame of a record begins, or zero."""
    begin = _FRAME.pack(_MAGIC, number, 0)[:12]
    return not any(frame) or frame[:12] == begin[: len(frame)]
