"""A sparse semantic key/value memory for chunk-by-chunk video transformers.

Example:
    >>> bank = KVBank(policy=SemanticSparse(top_l=2, num_recent=2, coverage=0.98), rotate=model.rotate)
    >>> for index, embedding in enumerate(embeddings):
    ...     recall = bank.read(index, embedding=embedding)
    ...     layers = make_chunk(index, recall.layers)  # your model: keys, values, queries of each layer, before RoPE
    ...     bank.write(index, layers, embedding=embedding)
"""

from importlib.metadata import version

from kvbank.bank import KVBank
from kvbank.index import ExactIndex, FaissIndex, Index
from kvbank.policies import DynamicSparse, Full, Policy, Rolling, SemanticSparse, Sink
from kvbank.quantization import Float8, Int4, Int8
from kvbank.recall import LayerKV, LayerLike, Recall, RecallTrace
from kvbank.salience import SalienceOptions, cover_count, salient_tokens
from kvbank.stores import DamageError, MemoryStore, TieredStore

__version__ = version("kvbank")

__all__ = [  # noqa: RUF022 (grouped by use)
    # the memory
    "KVBank",
    "LayerKV",
    "LayerLike",
    "Recall",
    "RecallTrace",
    "DamageError",
    # which chunks are seen; more in kvbank.policies
    "Policy",
    "SemanticSparse",
    "DynamicSparse",
    "Rolling",
    "Sink",
    "Full",
    # which tokens are kept
    "SalienceOptions",
    "cover_count",
    "salient_tokens",
    # how many bits they are stored in
    "Float8",
    "Int4",
    "Int8",
    # where prompts are compared and chunks are held; more in kvbank.stores
    "ExactIndex",
    "FaissIndex",
    "Index",
    "MemoryStore",
    "TieredStore",
]
