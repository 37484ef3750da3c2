"""How a bank is saved, lives in a folder, and goes on."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Self

import torch

from kvbank.disk.folder import BankFolder, Fsync
from kvbank.disk.snapshot import Snapshot, load_snapshot, save_snapshot
from kvbank.index.indexes import ExactIndex, Index
from kvbank.policies.context import check_policy
from kvbank.policies.standard import Policy
from kvbank.quantization import Quantization, StoredLayer
from kvbank.salience import SalienceOptions
from kvbank.settings import Settings
from kvbank.signature import Signature, layer_signature
from kvbank.state import BankState
from kvbank.stores.memory import MemoryStore, Store, moved_layer
from kvbank.stores.read_buffers import ReadBuffers
from kvbank.stores.tiered import TieredStore
from kvbank.writing import ChunkWriter, Rotate, missing_rotate


class Persistent:
    """What a `KVBank` is made of, and how it is saved, lives in a folder, and goes on."""

    def __init__(
        self,
        *,
        policy: Policy,
        index: Index | None = None,
        store: Store | None = None,
        rotate: Rotate | None = None,
        seed: int = 0,
        salience: SalienceOptions | None = None,
        quantization: Quantization | None = None,
        budget: int | None = None,
    ) -> None:
        if budget is not None and budget < 1:
            raise ValueError(f"budget is {budget}; expected at least 1 token for each layer, or None for no limit")
        check_policy(policy)
        self._settings = Settings(
            policy=policy,
            index=ExactIndex() if index is None else index,
            salience=SalienceOptions() if salience is None else salience,
            quantization=quantization,
            budget=budget,
            seed=seed,
            rotates=rotate is not None,
        )
        self._state = BankState(self._settings.index)
        self._store = MemoryStore() if store is None else store
        self._writer = ChunkWriter(settings=self._settings, rotate=rotate)
        self._signature: tuple[Signature, ...] = ()
        self._folder: BankFolder | None = None
        self._buffers = ReadBuffers()

    @property
    def policy(self) -> Policy:
        """Which chunks a chunk sees."""
        return self._settings.policy

    @property
    def chunks(self) -> tuple[int, ...]:
        """Ids of the chunks held, ascending."""
        return self._state.chunks

    @property
    def next_index(self) -> int:
        """The chunk to be written next, which is how many were written."""
        return self._state.next_index

    def save(self, path: str | PathLike[str]) -> None:
        """Write the whole bank, trace included, to one safetensors file; the file appears complete or not at all."""
        layers = {chunk: self._store.get(chunk, home=False) for chunk in self.chunks}
        save_snapshot(Path(path), Snapshot(settings=self._settings, state=self._state, layers=layers))

    def open(self, folder: str | PathLike[str], *, fsync: Fsync = "chunk", device: torch.device | str = "cpu") -> Self:
        """Have this bank, still empty, live in a folder, and return it: `bank = KVBank(policy=...).open(folder)`.

        A chunk is on disk when `write` returns, whatever happens to the process then. If the folder holds a bank, that
        one goes on, and must have been made alike (`load` goes on with any). Reads and notes are forced to disk with
        the next chunk, or by `close`. What the policy lets go is deleted from disk.

        Args:
            folder: Made if it is missing. One bank at a time may have it open; a `TieredStore` uses it as its disk.
            fsync: When the disk itself is waited for: at every "chunk", which so survives a power failure, or "never",
                which survives the end of the process. A bank that goes on keeps its own.
            device: Where keys and values of a bank that goes on are put.

        Raises:
            DamageError: If a file of the folder is not what was written.
            ValueError: If this bank is not empty, or its store has a disk of its own, or the folder is open already or
                holds a bank made in another way.
            OSError: With the name of the file, if it cannot be written.
        """
        if self.next_index or self._state.plans or self._folder is not None:
            raise ValueError("only a new bank can be put into a folder; KVBank.save writes one that is in use")
        if isinstance(self._store, TieredStore):
            self._store.check_lendable()
        path = Path(folder)
        if not BankFolder.holds_bank(path):
            self._folder = BankFolder.create(path, self._settings, fsync=fsync)
            self._hold((), device=device)
            return self
        found, settings, state = BankFolder.open(path, policy=self.policy)
        if different := self._settings.differences(settings):
            found.close()
            raise ValueError(f"{path} holds a bank of another {', '.join(different)}; KVBank.load goes on with it")
        self._settings = settings
        self._go_on(found, state, device=device)
        return self

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        rotate: Rotate | None = None,
        store: Store | None = None,
        device: torch.device | str = "cpu",
        policy: Policy | None = None,
    ) -> Self:
        """A bank that continues where the saved one stopped: the same reads, and the same writes from then on.

        Args:
            path: Written by `save`, or the folder of a bank that was opened in it, which goes on there.
            rotate: As given to the saved bank; without it such a bank reads, but refuses to select salient tokens.
            store: Where to hold what was saved; `MemoryStore()` if None.
            device: Where the saved keys and values go.
            policy: As given to the saved bank; needed only if it is one of your own.

        Raises:
            DamageError: If a file is not what was written.
            ValueError: If it is no bank, needs a policy, or is open already.
            FileNotFoundError: If there is nothing.
        """
        path = Path(path)
        if not path.is_dir():
            snapshot = load_snapshot(path, device=device, policy=policy)
            bank = cls._made(snapshot.settings, store=store, rotate=rotate)
            bank._state = snapshot.state
            bank._hold(snapshot.layers.items(), device=device)
            return bank
        if not BankFolder.holds_bank(path):
            raise ValueError(f"{path} holds no bank; KVBank(policy=...).open({str(path)!r}) makes one")
        folder, settings, state = BankFolder.open(path, policy=policy)
        bank = cls._made(settings, store=store, rotate=rotate)
        bank._go_on(folder, state, device=device)
        return bank

    def close(self) -> None:
        """Let another process open the bank's folder; nothing can be written any more, and nothing new be read."""
        if self._folder is not None:
            self._folder.close()

    @classmethod
    def _made(cls, settings: Settings, *, store: Store | None, rotate: Rotate | None) -> Self:
        """An empty bank with what was written down of another."""
        return cls(
            policy=settings.policy,
            index=settings.index,
            store=store,
            rotate=missing_rotate if rotate is None and settings.rotates else rotate,
            seed=settings.seed,
            salience=settings.salience,
            quantization=settings.quantization,
            budget=settings.budget,
        )

    def _go_on(self, folder: BankFolder, state: BankState, *, device: torch.device | str) -> None:
        self._folder, self._state = folder, state
        try:
            self._hold(folder.load(state, device=device), device=device)
        except BaseException:
            folder.close()
            raise

    def _hold(self, layers: Iterable[tuple[int, tuple[StoredLayer, ...]]], *, device: torch.device | str) -> None:
        if self._folder is not None and isinstance(self._store, TieredStore):
            sizes = {chunk: sum(layer.nbytes for layer in each) for chunk, each in layers}
            self._store.lend(self._folder.segments, held=sizes, home=device)
        else:
            for chunk, each in layers:
                self._store.put(chunk, tuple(moved_layer(layer, torch.device(device)) for layer in each))
        if self.chunks:
            self._signature = tuple(map(layer_signature, self._store.get(self.chunks[-1])))
