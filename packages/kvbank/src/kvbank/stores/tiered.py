"""A store of three tiers: the device of the model, host memory, and disk."""

import errno
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from os import PathLike
from pathlib import Path

import torch

from kvbank.quantization import StoredLayer
from kvbank.stores.held_chunk import Eviction, HeldChunk, Tier
from kvbank.stores.memory import moved_layer
from kvbank.stores.segments import Segment, write_segment


class TieredStore:
    """Holds the newest chunks on the device of the model, older ones in host memory, and the rest on disk.

    When a chunk is put, the tiers are brought within their budgets: chunks move from the device to host memory, and
    from host memory to disk, in the order that `eviction` says. A chunk that was moved down stays there and is read
    from there. The recent chunks never leave the device, even if they exceed its budget. Packed chunks stay packed; a
    read unpacks only the tokens that it shows. Files are memory-mapped: a model on the CPU reads tokens straight from
    the file. `prefetch` copies chunks to the device on a thread of its own.

    Budgets bound the chunks held between reads. Copies made for a read, and the tensors that it returns, come on top.

    For a `KVBank` in a folder (`KVBank.open`, `KVBank.load`) the files of the folder are the disk tier, so nothing is
    written twice; loaded chunks start there. A bank in memory needs a `disk_folder` for chunks that exceed its
    host budget.

    Args:
        device_budget: Bytes on the device of the model; None: no limit.
        host_budget: Bytes in host memory, pinned for a model on a CUDA device; None: no limit. For a model on the CPU
            both tiers are the same memory, and the limit is their sum.
        disk_budget: Bytes in `disk_folder`; None: no limit. A chunk that exceeds it is refused. Only for a bank in
            memory: a bank in a folder keeps every chunk there.
        disk_folder: Where to put chunks that exceed the host budget, in a new folder that is removed with the store.
            It does not outlive the process; a bank in a folder does. Only for a bank in memory.
        num_recent: How many of the newest chunks never leave the device; as many as the policy always shows.
        eviction: "oldest": the chunk with the smallest number moves down first. "unread": the chunk whose last read is
            longest ago moves first, among equals the oldest.

    Raises:
        ValueError: If a budget is negative, or `eviction` is another word.
    """

    def __init__(
        self,
        *,
        device_budget: int | None = None,
        host_budget: int | None = None,
        disk_budget: int | None = None,
        disk_folder: str | PathLike[str] | None = None,
        num_recent: int = 2,
        eviction: Eviction = "oldest",
    ) -> None:
        for name, number in (("device", device_budget), ("host", host_budget), ("disk", disk_budget)):
            if number is not None and number < 0:
                raise ValueError(f"{name}_budget is {number}; expected a number of bytes, or None for no limit")
        if eviction not in ("oldest", "unread") or num_recent < 0:
            raise ValueError(
                f'eviction is {eviction!r} and num_recent {num_recent}; expected "oldest" or "unread", and at least 0'
            )
        self._budgets: dict[Tier, int | None] = {"device": device_budget, "host": host_budget, "disk": disk_budget}
        self._disk_folder = None if disk_folder is None else Path(disk_folder)
        self._num_recent = num_recent
        self._eviction = eviction
        self._held: dict[int, HeldChunk] = {}
        self._reads = 0
        self._lent: Mapping[int, Segment] | None = None
        self._own: Path | None = None
        self._numbers = itertools.count()
        self._thread: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[tuple[StoredLayer, ...]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and positions held, on all tiers."""
        return sum(self.tier_bytes.values())

    @property
    def tier_bytes(self) -> dict[Tier, int]:
        """Bytes held on each tier; a chunk counts where it is read from."""
        used: dict[Tier, int] = {"device": 0, "host": 0, "disk": 0}
        for held in self._held.values():
            used[held.tier] += held.nbytes
        return used

    def tier(self, chunk: int) -> Tier:
        """Where a chunk is read from.

        Raises:
            ValueError: If it is not held; this holds for all methods below.
        """
        return self._found(chunk).tier

    def put(self, chunk: int, layers: tuple[StoredLayer, ...], *, instead_of: Sequence[int] = ()) -> None:
        """Hold a chunk on its device instead of others, and bring the tiers within their budgets.

        If this raises, nothing has changed.

        Args:
            chunk: Its number; not held already, or one of `instead_of`.
            layers: As they are stored.
            instead_of: Held chunks that the new one replaces; the budgets no longer count them.

        Raises:
            ValueError: If it is held already, or host memory is full and there is no disk.
            OSError: If the disk, or its budget, is full.
            DamageError: If the file of a chunk that is among the newest again is not what was written.
        """
        gone = {each: self._found(each) for each in instead_of}
        if chunk in self._held and chunk not in gone:
            raise ValueError(f"chunk {chunk} is held already; remove it first")
        before = self._held.copy()
        places = [(held, held.tier, held.layers, held.segment) for held in before.values()]
        for each in gone:
            self._forget_coming(each)
            del self._held[each]
        new = HeldChunk(
            home=layers[0].key.device, nbytes=sum(layer.nbytes for layer in layers), tier="device", layers=layers
        )
        self._held[chunk] = new
        try:
            self._balance()
        except BaseException:
            self._delete(new)
            self._held = before
            for held, tier, kept, segment in places:
                if held.segment is not segment:
                    self._delete(held)
                held.tier, held.layers, held.segment = tier, kept, segment
            raise
        for held in gone.values():
            self._delete(held)

    def get(self, chunk: int, *, home: bool = True) -> tuple[StoredLayer, ...]:
        """The layers of a held chunk, on the device they came from or else where they are; not to be modified.

        Raises:
            DamageError: If its file is not what was written.
        """
        held = self._found(chunk)
        if not home:
            return held.read()
        self._reads += 1
        held.last_read = self._reads
        if chunk not in self._coming:
            return tuple(moved_layer(layer, held.home) for layer in held.read())
        layers = self._coming.pop(chunk).result()
        if held.home.type == "cuda":  # copied on another stream than it is used on
            for part in (part for layer in layers for part in layer.tensors().values()):
                part.record_stream(torch.cuda.current_stream(held.home))
        return layers

    def prefetch(self, chunks: Sequence[int]) -> None:
        """Start to copy these chunks to their device on a thread, and forget earlier copies of others."""
        wanted = {chunk: held for chunk in chunks if (held := self._found(chunk)).tier != "device"}
        for chunk in [chunk for chunk in self._coming if chunk not in wanted]:
            self._coming.pop(chunk).cancel()
        for chunk, held in wanted.items():
            if chunk not in self._coming:
                self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="kvbank-prefetch")
                self._coming[chunk] = self._thread.submit(self._bring, held)

    def remove(self, chunk: int) -> None:
        """Let go of a held chunk."""
        held = self._found(chunk)
        self._forget_coming(chunk)
        del self._held[chunk]
        self._delete(held)

    def check_lendable(self) -> None:
        """Refuse settings that would have no effect for a bank in a folder.

        Raises:
            ValueError: If the store has a disk of its own, or a budget for it.
        """
        if self._disk_folder is not None or self._budgets["disk"] is not None:
            raise ValueError(
                "disk_folder and disk_budget are for a bank in memory; one in a folder keeps every chunk there: "
                "leave them out"
            )

    def lend(
        self,
        segments: Mapping[int, Segment],
        *,
        held: Mapping[int, int] | None = None,
        home: torch.device | str = "cpu",
    ) -> None:
        """Use the segments of a bank's folder as the disk tier; the bank calls this itself.

        Args:
            segments: The segment of every chunk held; the bank adds that of a new chunk before it puts the chunk.
            held: Bytes of each chunk that is held from the start; the files of these were checked already.
            home: The device of these chunks.

        Raises:
            ValueError: If the store has a disk of its own, or a budget for it.
        """
        self.check_lendable()
        self._lent = segments
        for chunk, nbytes in (held or {}).items():
            self._held[chunk] = HeldChunk(
                home=torch.device(home), nbytes=nbytes, tier="disk", layers=None, segment=segments[chunk], checked=True
            )
        self._balance()

    def _forget_coming(self, chunk: int) -> None:
        future = self._coming.pop(chunk, None)
        if future is not None and not future.cancel():
            wait([future])

    def _delete(self, held: HeldChunk) -> None:
        """Delete the file of a chunk, if it is the store's own."""
        if self._own is not None and held.segment is not None:
            held.segment.path.unlink(missing_ok=True)

    def _found(self, chunk: int) -> HeldChunk:
        if chunk not in self._held:
            raise ValueError(f"chunk {chunk} is not held; the store has {sorted(self._held)}")
        return self._held[chunk]

    def _bring(self, held: HeldChunk) -> tuple[StoredLayer, ...]:
        """Copy a chunk to its device, on the thread; the copy may be used as soon as this returns."""
        if held.home.type != "cuda":
            return tuple(moved_layer(layer, held.home) for layer in held.read(ahead=True))
        stream = torch.cuda.Stream(held.home)
        with torch.cuda.stream(stream):
            layers = tuple(moved_layer(layer, held.home) for layer in held.read())
        stream.synchronize()
        return layers

    def _balance(self) -> None:
        recent = sorted(self._held)[len(self._held) - min(self._num_recent, len(self._held)) :]
        for chunk in recent:  # after a rewind they may have been lower
            held = self._held[chunk]
            if held.tier != "device":
                held.layers = self.get(chunk)
                held.tier = "device"
        self._lower("device", recent)
        self._lower("host", recent)

    def _lower(self, tier: Tier, recent: Sequence[int]) -> None:
        budget = self._budgets[tier]
        if budget is None:
            return
        order = [chunk for chunk in self._held if self._held[chunk].tier == tier and chunk not in recent]
        if self._eviction == "unread":
            order.sort(key=lambda chunk: (self._held[chunk].last_read, chunk))
        else:
            order.sort()
        used = self.tier_bytes[tier]
        for chunk in order:
            if used <= budget:
                return
            held = self._held[chunk]
            self._to_host(held) if tier == "device" else self._to_disk(chunk, held)
            used -= held.nbytes

    def _to_host(self, held: HeldChunk) -> None:
        if held.home.type != "cpu":
            pin = held.home.type == "cuda"
            held.layers = tuple(moved_layer(layer, torch.device("cpu"), pin=pin) for layer in held.read())
        held.tier = "host"

    def _to_disk(self, chunk: int, held: HeldChunk) -> None:
        if held.segment is None:
            held.segment = self._segment(chunk, held)
        held.layers, held.tier = None, "disk"

    def _segment(self, chunk: int, held: HeldChunk) -> Segment:
        if self._lent is not None:
            return self._lent[chunk]
        if self._disk_folder is None:
            raise ValueError(
                f"host_budget is {self._budgets['host']} bytes, and there is no disk for more; "
                "give TieredStore a disk_folder, or keep the bank in a folder by KVBank.open"
            )
        budget = self._budgets["disk"]
        if budget is not None and self.tier_bytes["disk"] + held.nbytes > budget:
            raise OSError(
                errno.ENOSPC,
                f"disk_budget is {budget} bytes, and chunk {chunk} exceeds it; raise it, or use None",
                self._disk_folder,
            )
        if self._own is None:
            self._disk_folder.mkdir(parents=True, exist_ok=True)
            self._own = Path(tempfile.mkdtemp(prefix="kvbank-", dir=self._disk_folder))
            weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
        # The file of a chunk that this one replaces may still be there.
        name = f"{chunk:06d}-{next(self._numbers)}.safetensors"
        return write_segment(self._own / name, held.read(), force=False)
