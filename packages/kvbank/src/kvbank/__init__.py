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
from kvbank.deep_sink import DeepSink
from kvbank.index import ExactIndex, FaissIndex, Index
from kvbank.past import LayerPick, LayerSummary, Past, RecallPolicy
from kvbank.policies import DynamicSparse, Full, Kind, Policy, Rolling, SemanticSparse, Sink
from kvbank.quantization import Float8, Int4, Int8, PackedLayer
from kvbank.recall import LayerKV, LayerLike, Recall, RecallTrace
from kvbank.salience import SalienceOptions, cover_count, salient_tokens
from kvbank.scored import LatentRecall, PoseRecall, QueryRecall
from kvbank.store import MemoryStore, Store
from kvbank.tensorfile import DamageError
from kvbank.tiers import TieredStore

__version__ = version("kvbank")

__all__ = [  # noqa: RUF022
    # The memory
    "DamageError",
    "KVBank",
    "LayerKV",
    "LayerLike",
    "Recall",
    "RecallTrace",
    # Which chunks are seen
    "DeepSink",
    "DynamicSparse",
    "Full",
    "Kind",
    "LatentRecall",
    "Policy",
    "PoseRecall",
    "QueryRecall",
    "Rolling",
    "SemanticSparse",
    "Sink",
    # What a policy of yours sees and answers
    "LayerPick",
    "LayerSummary",
    "Past",
    "RecallPolicy",
    # Which tokens are kept
    "SalienceOptions",
    "cover_count",
    "salient_tokens",
    # How many bits they are stored in
    "Float8",
    "Int4",
    "Int8",
    "PackedLayer",
    # Where prompts are compared and chunks are held
    "ExactIndex",
    "FaissIndex",
    "Index",
    "MemoryStore",
    "Store",
    "TieredStore",
]
