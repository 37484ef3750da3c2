"""Where keys and values are held: in memory, or on the device, in host memory and on disk."""

from kvbank.quantization import PackedLayer
from kvbank.stores.memory import MemoryStore, Store
from kvbank.stores.tensorfile import DamageError
from kvbank.stores.tiered import TieredStore

__all__ = ["DamageError", "MemoryStore", "PackedLayer", "Store", "TieredStore"]
