"""What a run keeps of itself, chunk by chunk, so that it can be left at any moment and gone on with.

``RUN/state`` holds ``script.json`` (what is to be made), and for each finished chunk ``chunks/000017.safetensors``: its
latents, its encoded pictures, its entry in the record and, now and then, what the decoder carries on. The last chunk's
decoder state is in ``decoder.safetensors``. All of it is written under another name, forced to disk, then renamed, so a
chunk is there as a whole or not at all. ``memory/`` is the `KVBank`; it may be missing or behind, for it can be made
anew from the latents. ``given/`` holds the latents of a given video, until they are chunks.
``lock`` is held by the process at work.
"""

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from bdiff.files import RunStateError, flatten, load_checked, save_checked, to_json, unflatten, write_whole
from bdiff.run.spec import RunSpec
from bdiff.run.stored import Kept, StoredChunk, StoredLatents

VIDEO = "video.mp4"
"""Name of the video in a run's folder."""
FORMAT = 1
_LOCK = "lock"
_DECODER_EVERY = 16
"""Chunks that keep the decoder's state: a re-roll decodes at most so many chunks again."""
_BLOCK = 16_384
"""Pictures fill blocks of so many bytes. Each new length of a tensor that is written costs the process 4 kB for good
(ctypes keeps a type for it), which in an hour of chunks would be more than all else that stays."""


class RunState:
    """The state of one run.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / "state"
        self.memory = self.folder / "memory"
        """Folder of the `KVBank`."""
        self.record = run / "run.json"
        """Written last when the run ends."""
        self._chunks = self.folder / "chunks"
        self._given = self.folder / "given"

    @contextmanager
    def held(self) -> Iterator[None]:
        """While nobody else works on the run.

        Raises:
            RunStateError: If another process does.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunStateError(f"another process is at work on {self.run}; wait for it, or stop it") from None
            yield

    def begin(self, spec: RunSpec, *, fresh: bool = False, given: Mapping[int, Tensor] | None = None) -> Kept:
        """Make the folder ready for a run, and keep of what it holds what can be gone on with.

        Args:
            spec: What is now to be made.
            fresh: Keep nothing.
            given: Latents of chunks that show a picture or a video; those of a video are kept, to be read once.

        Raises:
            RunStateError: If a chunk is damaged.
        """
        if fresh:
            self._clear()
        elif spec.sampling.mode != "cached" and self.num_chunks < len(spec.chunks):  # no memory: in one go
            self._forget_chunks()
        given, done = given or {}, self.num_chunks
        self.check_chunks(done)  # before anything of an earlier end is touched
        self._chunks.mkdir(parents=True, exist_ok=True)
        self._sweep()
        for written in (self.record, self.run / "drift.json", self.run / "drift.html"):  # by an earlier end
            written.unlink(missing_ok=True)
        write_whole(self.folder / "script.json", to_json({"format": FORMAT, **spec.to_json()}) + "\n")
        if given and self.lacks_given(spec):
            self._keep_given(given[index] for index in range(spec.num_given))
        decoded, carried = self.decoder_state(done) if done < len(spec.chunks) else (0, None)
        return Kept(
            num_chunks=done,
            latents=StoredLatents(self._chunks, done),
            given=(self._given_latents(spec.num_given) if spec.num_given else None) or given,
            decoded=decoded,
            decoder_state=carried,
        )

    def spec(self) -> RunSpec:
        """What the run is to make.

        Raises:
            RunStateError: If there is no such run, or it was written by another version.
        """
        file = self.folder / "script.json"
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise RunStateError(f"{file} was written by another version of bdiff; make the video anew")
            return RunSpec.from_json(values)
        except RunStateError:
            raise
        except (FileNotFoundError, NotADirectoryError):
            raise RunStateError(f"{self.run} holds no run to go on with; bdiff sample --out makes one") from None
        except OSError as error:
            raise RunStateError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            raise RunStateError(f"{file} is damaged, or of another version of bdiff; make the video anew") from None

    def is_finished(self, spec: RunSpec) -> bool:
        """Whether all chunks are there and the record is written; the memory is deleted then."""
        return self.num_chunks == len(spec.chunks) and self.record.exists() and not self.memory.exists()

    @property
    def num_chunks(self) -> int:
        """Finished chunks from the first on."""
        count = 0
        while self._file(count).exists():
            count += 1
        return count

    def add(self, chunk: StoredChunk, *, decoder_state: Any) -> None:
        """Keep a finished chunk; when this returns it is on disk."""
        tensors = {
            "latents": chunk.latents.cpu().contiguous(),
            "packets": _padded(b"".join(chunk.packets)),
            "lengths": torch.tensor([len(packet) for packet in chunk.packets]),
            "thumbnail": chunk.thumbnail.contiguous(),
        }
        carried, shape = flatten(decoder_state)
        kept = {f"decoder.{n}": t for n, t in enumerate(carried)} if (chunk.index + 1) % _DECODER_EVERY == 0 else {}
        note = {"entry": chunk.entry, "decoder": shape if kept else None}
        last = {str(n): tensor for n, tensor in enumerate(carried)}
        save_checked(self.folder / "decoder.safetensors", last, {"after": chunk.index, "decoder": shape})
        save_checked(self._file(chunk.index), tensors | kept, note)

    def chunk(self, index: int) -> StoredChunk:
        """A finished chunk.

        Raises:
            RunStateError: If its file is damaged.
        """
        tensors, note = load_checked(self._file(index))
        data, packets, start = tensors["packets"].numpy().tobytes(), [], 0
        for length in tensors["lengths"].tolist():
            packets.append(data[start : start + length])
            start += length
        return StoredChunk(
            index=index,
            latents=tensors["latents"],
            packets=tuple(packets),
            thumbnail=tensors["thumbnail"],
            entry=note["entry"],
        )

    def check_chunks(self, num_chunks: int) -> None:
        """Read the first ``num_chunks`` chunks once; a RunStateError names one that is damaged."""
        for index in range(num_chunks):
            self.chunk(index)

    def chunks(self) -> Iterator[StoredChunk]:
        """All finished chunks, one at a time."""
        for index in range(self.num_chunks):
            yield self.chunk(index)

    def decoder_state(self, num_chunks: int) -> tuple[int, Any]:
        """The latest decoder state kept of the first ``num_chunks`` chunks: after how many, and the state."""
        last = self.folder / "decoder.safetensors"
        if last.exists():
            with suppress(RunStateError):  # a damaged one is made again
                tensors, note = load_checked(last)
                if note["after"] == num_chunks - 1:
                    return num_chunks, unflatten(note["decoder"], [tensors[str(n)] for n in range(len(tensors))])
        for count in range(num_chunks // _DECODER_EVERY * _DECODER_EVERY, 0, -_DECODER_EVERY):
            tensors, note = load_checked(self._file(count - 1))
            if note["decoder"] is not None:
                carried = [tensors[f"decoder.{n}"] for n in range(sum(key.startswith("decoder.") for key in tensors))]
                return count, unflatten(note["decoder"], carried)
        return 0, None

    def branch(self, run: Path, num_chunks: int) -> "RunState":
        """A run in another folder that begins with the first chunks of this one."""
        self.check_chunks(num_chunks)
        other = RunState(run)
        other._chunks.mkdir(parents=True, exist_ok=True)
        for index in range(num_chunks):
            partial = other._chunks / f".{self._file(index).name}.tmp"
            shutil.copyfile(self._file(index), partial)
            partial.replace(other._file(index))
        if self._given.exists():
            shutil.copytree(self._given, other._given)
        return other

    def forget_memory(self) -> None:
        """Delete the memory, which can be made anew."""
        if self.memory.exists():
            shutil.rmtree(self.memory)

    def _keep_given(self, chunks: Iterable[Tensor]) -> None:
        """Keep the latents of chunks that are given, so that what they were read from is no longer needed."""
        self._given.mkdir(parents=True, exist_ok=True)
        for index, latents in enumerate(chunks):
            save_checked(self._given / self._file(index).name, {"latents": latents.cpu().contiguous()}, {})

    def _given_latents(self, num_chunks: int) -> StoredLatents | None:
        """The latents of given chunks, if all are kept."""
        whole = all((self._given / self._file(index).name).exists() for index in range(num_chunks))
        return StoredLatents(self._given, num_chunks) if whole else None

    def lacks_given(self, spec: RunSpec) -> bool:
        """Whether a given video must still be read."""
        number = spec.num_given
        done = self.num_chunks >= (number if spec.sampling.mode == "cached" else len(spec.chunks))
        return number > 0 and not done and self._given_latents(number) is None

    def finish(self, spec: RunSpec) -> None:
        """Delete what only a run that is not finished needs."""
        self.forget_memory()
        if spec.sampling.mode == "cached":  # else all of it may have to be made anew, beginning with what was given
            shutil.rmtree(self._given, ignore_errors=True)

    def _forget_chunks(self) -> None:
        """Delete the finished chunks and the bank, to make all of them anew."""
        self.forget_memory()
        shutil.rmtree(self._chunks, ignore_errors=True)

    def discard(self) -> None:
        """Delete the state and the video of a run that has made nothing."""
        shutil.rmtree(self.folder)
        (self.run / VIDEO).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Delete all of it."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def _sweep(self) -> None:
        """Delete what a crash left half-written."""
        for folder in (self.run, self.folder, self._chunks, self._given):
            for pattern in (".*.tmp", ".*.whole"):
                for leftover in folder.glob(pattern):
                    leftover.unlink(missing_ok=True)

    def _file(self, index: int) -> Path:
        return self._chunks / f"{index:06d}.safetensors"


def _padded(data: bytes) -> UInt8[Tensor, " n"]:
    """The bytes, and zeros up to a whole number of blocks."""
    return torch.frombuffer(bytearray(data.ljust(-(-len(data) // _BLOCK) * _BLOCK, b"\0")), dtype=torch.uint8)
