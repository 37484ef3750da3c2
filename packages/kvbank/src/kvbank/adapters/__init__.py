"""A bank inside loops of other projects: Self-Forcing's pipeline and chunk-causal transformers of diffusers.

Example:
    >>> rope = WanRope(128)
    >>> bank = KVBank(policy=SemanticSparse(top_l=2, num_recent=2, coverage=0.98), rotate=rope)
    >>> cache = RecallCache(bank, rope=rope, grid=(30, 52))
    >>> cache.begin(index, embedding=embedding)  # before a chunk
    >>> cache.update(key, value, layer, query=query)  # in every layer, at every step
    >>> key, value = cache.get(layer)  # the recalled past, then the chunk itself
"""

from kvbank.adapters.placed_bank import Positions
from kvbank.adapters.recall_cache import RecallCache
from kvbank.adapters.rope import WanRope
from kvbank.adapters.self_forcing import SelfForcingMemory

__all__ = ["Positions", "RecallCache", "SelfForcingMemory", "WanRope"]
