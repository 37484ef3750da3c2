"""How a bank is saved to a file, kept in a folder, and loaded again."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TypeVar

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

# Not typing.Self: the run-time checks of tests decorate methods one by one, where Self means nothing.
Bank = TypeVar("Bank", bound="Persistent")


class Persistent:
    """The parts of a `KVBank`, and how it is saved to a file, kept in a folder, and loaded again."""

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

    def open(
        self: Bank, folder: str | PathLike[str], *, fsync: Fsync = "chunk", device: torch.device | str = "cpu"
    ) -> Bank:
        """Keep this bank, still empty, in a folder, and return it: `bank = KVBank(policy=...).open(folder)`.

        A chunk is on disk when `write` returns, even if the process ends then. If the folder holds a bank already, this
        bank continues it; both must have the same settings (`load` continues a bank of any settings). Reads and notes
        reach the disk with the next chunk, or by `close`. A chunk that the policy frees is deleted from disk.

        Args:
            folder: Made if it is missing. One bank at a time may have it open; a `TieredStore` uses it as its disk.
            fsync: "chunk" waits for the disk at every chunk, so that chunks survive a power failure. "never" does not
                wait; chunks survive the end of the process. A bank that is continued keeps its own.
            device: Where keys and values of a bank that is continued are put.

        Raises:
            DamageError: If a file of the folder is not what was written.
            ValueError: If this bank is not empty, its store has a disk of its own, the folder is open already, or it
                holds a bank of other settings.
            OSError: With the name of the file, if it cannot be written.
        """
        if self.next_index or self._state.plans or self._folder is not None:
            raise ValueError(
                "this bank is not empty; only a new bank can be opened in a folder. KVBank.save writes this one"
            )
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
            raise ValueError(
                f"{path} holds a bank of another {', '.join(different)}; KVBank.load({str(path)!r}) continues it"
            )
        self._settings = settings
        self._continue(found, state, device=device)
        return self

    @classmethod
    def load(
        cls: type[Bank],
        path: str | PathLike[str],
        *,
        rotate: Rotate | None = None,
        store: Store | None = None,
        device: torch.device | str = "cpu",
        policy: Policy | None = None,
    ) -> Bank:
        """Load a bank that continues where the saved one stopped, with the same reads and writes from then on.

        Args:
            path: A file that `save` wrote, or the folder of a bank; a bank of a folder stays in that folder.
            rotate: As given to the saved bank. A bank that was saved with one and loaded without can read; it refuses
                to select salient tokens.
            store: Where to hold keys and values; `MemoryStore()` if None.
            device: Where keys and values are put.
            policy: As given to the saved bank; needed only if it is one of your own.

        Raises:
            DamageError: If a file is not what was written.
            ValueError: If the path holds no bank, the bank needs a policy, or the folder is open already.
            FileNotFoundError: If the path does not exist.
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
        bank._continue(folder, state, device=device)
        return bank

    def close(self) -> None:
        """Let another process open the bank's folder; writes and new reads are refused from then on."""
        if self._folder is not None:
            self._folder.close()

    @classmethod
    def _made(cls: type[Bank], settings: Settings, *, store: Store | None, rotate: Rotate | None) -> Bank:
        """An empty bank with the saved settings of another."""
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

    def _continue(self, folder: BankFolder, state: BankState, *, device: torch.device | str) -> None:
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
