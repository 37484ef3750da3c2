"""A bank in a folder: a journal of all changes, and a segment for each chunk that it holds.

A write has four steps, whose order makes it safe in a crash:

1. The chunk is written to a segment under a pending name, and forced to disk.
2. A record is appended to the journal, and forced to disk. From now on the chunk counts as written.
3. The segment gets its final name.
4. Segments that are no longer needed are deleted.

So a crash leaves at most one segment without a record in the journal, and it has a pending name. A segment with a final
name and without a record proves that the end of the journal was lost.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kvbank.disk.journal import Journal, JournalRecord
from kvbank.disk.records import chunk_entry, chunk_ids, chunk_record, read_entry, read_ids, read_record
from kvbank.policies.standard import Policy
from kvbank.quantization import StoredLayer
from kvbank.reading import ReadRecord
from kvbank.settings import Settings
from kvbank.state import BankState
from kvbank.stores.segments import Segment, force_folder, write_segment
from kvbank.stores.tensorfile import DamageError
from kvbank.writing import WrittenChunk

FORMAT = 1
Fsync = Literal["chunk", "never"]
_JOURNAL, _SEGMENTS = "journal", "segments"
_NAME = re.compile(r"(\d+)-(\d+)\.safetensors(\.pending)?")


class BankFolder:
    """Journal and segments of one bank; `create` and `open` make it.

    Args:
        path: The folder.
        journal: Its journal, new or read to the end.
        fsync: When to wait for the disk; see `KVBank.open`.
        segments: The segment of each chunk held.
    """

    def __init__(self, path: Path, journal: Journal, *, fsync: Fsync, segments: dict[int, Segment]) -> None:
        self.path = path
        self.segments = segments
        self._journal: Journal | None = journal
        self._fsync = fsync
        self._dead: list[Segment] = []

    @classmethod
    def create(cls, path: Path, settings: Settings, *, fsync: Fsync) -> "BankFolder":
        """Make a folder with an empty bank.

        Raises:
            OSError: If it cannot be written.
        """
        if fsync not in ("chunk", "never"):
            raise ValueError(f'fsync is {fsync!r}; expected "chunk" or "never"')
        header = {"op": "bank", "format": FORMAT, "fsync": fsync, **settings.as_json()}
        (path / _SEGMENTS).mkdir(parents=True, exist_ok=True)
        force_folder(path)
        return cls(path, Journal.create(path / _JOURNAL, header), fsync=fsync, segments={})

    @staticmethod
    def holds_bank(path: Path) -> bool:
        """Whether the folder holds a bank.

        Raises:
            DamageError: If there are segments without a journal.
        """
        if (path / _JOURNAL).exists():
            return True
        if any((path / _SEGMENTS).glob("*.safetensors")):
            raise DamageError(path / _JOURNAL, "it is missing")
        return False

    @classmethod
    def open(cls, path: Path, *, policy: Policy | None) -> tuple["BankFolder", Settings, BankState]:
        """Open a bank as it was after its last write, with the later reads and notes that reached the disk.

        Raises:
            DamageError: If the journal or a segment is not what was written.
            ValueError: If the bank is open already, its format is unknown, or the policy must be given and is not.
        """
        journal = Journal(path / _JOURNAL)
        try:
            records = journal.records()
            header = next(records).metadata
            if header.get("format") != FORMAT:
                raise ValueError(f"{path} has format {header.get('format')}; this version reads format {FORMAT}")
            settings = Settings.from_json(header, policy=policy)
            folder = cls(path, journal, fsync=header["fsync"], segments={})
            state = BankState(settings.index)
            for record in records:
                folder._replay(state, record)
            (path / _SEGMENTS).mkdir(exist_ok=True)  # an empty folder is easily lost in a copy
            folder._settle()
            journal.cut()
        except BaseException:
            journal.close()
            raise
        return folder, settings, state

    def write(self, chunk: WrittenChunk) -> None:
        """Write a chunk to disk; a chunk before the next one rewinds. If this raises, nothing has changed.

        Raises:
            OSError: With the name of the file, if the disk is full or cannot be written.
        """
        journal, force = self._open_journal, self._fsync == "chunk"
        name = f"{chunk.index:06d}-{journal.next_number:08d}.safetensors"
        pending = self.path / _SEGMENTS / f"{name}.pending"
        segment = write_segment(pending, chunk.layers, chunk.summaries, force=force)
        tensors = {"kept": chunk_ids(chunk.record), "embedding": chunk.embedding}
        entry = {"op": "write", "chunk": chunk.index, "segment": name, "checksum": segment.checksum}
        try:
            journal.append(
                {**entry, "frees": chunk.frees, "record": chunk_entry(chunk.record)},
                {name: tensor for name, tensor in tensors.items() if tensor is not None},
                force=force,
            )
        except OSError:
            pending.unlink(missing_ok=True)
            raise
        with suppress(OSError):  # the chunk counts as written; the next `open` renames the file
            segment = segment.moved(pending.with_name(name))
        self._hold(chunk.index, segment, chunk.frees)

    def load(self, state: BankState, *, device: torch.device | str) -> Iterator[tuple[int, tuple[StoredLayer, ...]]]:
        """The layers of each chunk held, as views of checked files; summaries are put into the state.

        Raises:
            DamageError: If a segment is missing, or not what was written.
        """
        for chunk, segment in self.segments.items():
            layers, summaries = segment.load()
            if summaries:
                state.summaries[chunk] = tuple(summary.to(device) for summary in summaries)
            yield chunk, layers

    def read(self, index: int, read: ReadRecord) -> None:
        """Record a read in the journal; it is forced to disk with the next chunk."""
        self._append({"op": "read", "read": read_entry(index, read)}, {"picked": read_ids(read)})

    def note(self, index: int, metadata: dict[str, Any]) -> None:
        """Record notes on a chunk in the journal; they are forced to disk with the next chunk."""
        self._append({"op": "note", "chunk": index, "metadata": metadata}, {})

    def sweep(self) -> None:
        """Delete the segments of chunks that are no longer held."""
        for segment in self._dead:
            with suppress(OSError):  # a file too many does no harm; the next `open` tries again
                segment.path.unlink(missing_ok=True)
        self._dead.clear()

    def close(self) -> None:
        """Force reads and notes to disk, and let another process open the bank."""
        if self._journal is not None:
            self._journal.force()
            self._journal.close()
            self._journal = None

    def _append(self, metadata: dict[str, Any], tensors: dict[str, Tensor | None]) -> None:
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        self._open_journal.append(metadata, present, force=False)

    def _hold(self, index: int, segment: Segment, frees: Sequence[int]) -> None:
        rewound = [chunk for chunk in self.segments if chunk >= index]
        self._dead += [self.segments.pop(chunk) for chunk in rewound]
        self.segments[index] = segment
        self._dead += [self.segments.pop(chunk) for chunk in frees]

    def _replay(self, state: BankState, record: JournalRecord) -> None:
        entry, tensors = record.metadata, record.tensors
        if entry["op"] == "note":
            state.note(entry["chunk"], entry["metadata"])
        elif entry["op"] == "read":
            state.reads[entry["read"]["index"]] = read_record(entry["read"], tensors.get("picked"))
        else:
            state.rewind(entry["chunk"])
            written = chunk_record(entry["record"], tensors.get("kept"))
            state.add(entry["chunk"], written, embedding=tensors.get("embedding"), summaries=())
            for chunk in entry["frees"]:
                state.free(chunk)
            path = self.path / _SEGMENTS / entry["segment"]
            self._hold(entry["chunk"], Segment(path=path, checksum=entry["checksum"]), entry["frees"])

    def _settle(self) -> None:
        """Make the segments agree with the journal: finish interrupted renames, and delete what is not needed."""
        found = {path: match for path in (self.path / _SEGMENTS).iterdir() if (match := _NAME.fullmatch(path.name))}
        journal = self._open_journal
        for path, match in found.items():
            if int(match[2]) >= journal.next_number and not match[3]:
                raise DamageError(journal.path, f"it ends before {path.name} was written")
        live = {segment.path for segment in self.segments.values()}
        for path, match in found.items():
            final = path.with_name(path.name.removesuffix(match[3] or ""))
            if final not in live:
                path.unlink()
            elif match[3]:
                path.replace(final)
        self._dead.clear()

    @property
    def _open_journal(self) -> Journal:
        """The journal.

        Raises:
            ValueError: If the folder is closed.
        """
        if self._journal is None:
            raise ValueError(f"the bank in {self.path} is closed; KVBank.load({str(self.path)!r}) opens it again")
        return self._journal
