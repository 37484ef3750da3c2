"""A chunk in a store of three tiers."""

from dataclasses import dataclass
from typing import Literal

import torch

from kvbank.quantization import StoredLayer
from kvbank.stores.segments import Segment

Tier = Literal["device", "host", "disk"]
Eviction = Literal["oldest", "unread"]


@dataclass(slots=True, kw_only=True, eq=False)
class HeldChunk:
    """A chunk, wherever it is."""

    home: torch.device
    nbytes: int
    tier: Tier
    layers: tuple[StoredLayer, ...] | None
    segment: Segment | None = None
    checked: bool = False
    last_read: int = 0

    def read(self, *, ahead: bool = False) -> tuple[StoredLayer, ...]:
        """Its layers where they are; a file is checked when it is first read, and need not be again.

        Args:
            ahead: Have the system start to read the file at once.

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
