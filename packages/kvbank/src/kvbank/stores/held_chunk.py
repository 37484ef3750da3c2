"""One chunk in a `TieredStore`."""

from dataclasses import dataclass
from typing import Literal

import torch

from kvbank.quantization import StoredLayer
from kvbank.stores.segments import Segment

Tier = Literal["device", "host", "disk"]
Eviction = Literal["oldest", "unread"]


@dataclass(slots=True, kw_only=True, eq=False)
class HeldChunk:
    """One chunk in a `TieredStore`, on any tier."""

    home: torch.device
    """The device it came from, where reads want it."""
    nbytes: int
    """Bytes of its layers."""
    tier: Tier
    """Where it is read from."""
    layers: tuple[StoredLayer, ...] | None
    """Its layers; None on the disk tier."""
    segment: Segment | None = None
    """Its file, if it has one."""
    checked: bool = False
    """Whether the file was compared with its checksum already."""
    last_read: int = 0
    """Number of the read that used it last; 0 if none did."""

    def read(self, *, ahead: bool = False) -> tuple[StoredLayer, ...]:
        """Its layers where they are; the first read of a file compares it with its checksum.

        Args:
            ahead: Ask the system to start reading the whole file at once.

        Raises:
            DamageError: If its file is not what was written.
        """
        layers = self.layers  # read once: the thread asks too, and meanwhile a chunk may be moved to the disk
        if layers is not None:
            return layers
        assert self.segment is not None  # what has no layers has a file
        layers, _ = self.segment.load(check=not self.checked, ahead=ahead)
        self.checked = True
        return layers
