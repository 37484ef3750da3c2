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
    """Number of the record, from 0."""
    metadata: dict[str, Any]
    """JSON metadata of the record."""
    tensors: dict[str, Tensor]
    """Tensors of the record."""


class Journal:
    """A file to which records are appended; one process at a time may have it open.

    Args:
        path: Path of an existing journal.

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
        """Make a journal with one record, forced to disk; after a crash it is complete or not there."""
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

        A crash may leave an incomplete record at the end: the beginning of a record, or zero bytes. It stays until
        `cut` or `append`. Anything else that does not fit is damage.

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
                raise DamageError(self.path, f"in place of {where} stands {magic!r} {number}")
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
            raise DamageError(self.path, "it has no complete record; a journal always has one")

    def append(self, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], *, force: bool) -> None:
        """Append a record, or leave the journal as it was.

        Args:
            metadata: Anything that JSON can hold.
            tensors: Small tensors by name; the whole record is assembled in memory.
            force: Whether to wait until the record is on the disk.

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
        """Remove an incomplete record at the end, if there is one."""
        if os.fstat(self._descriptor).st_size > self._end:
            os.ftruncate(self._descriptor, self._end)

    def force(self) -> None:
        """Wait until all records are on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file, so that another process may open it."""
        self._closing()

    def _write(self, data: bytes) -> None:
        """Write all of `data`; before an error a full disk writes a part."""
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
    """Whether the bytes are the beginning of the frame of this record, or all zero."""
    begin = _FRAME.pack(_MAGIC, number, 0)[:12]
    return not any(frame) or frame[:12] == begin[: len(frame)]
