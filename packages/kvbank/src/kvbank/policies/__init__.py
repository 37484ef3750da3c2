"""Policies: which earlier chunks a chunk sees. Also the protocols and types for a policy of your own."""

from kvbank.kinds import Kind
from kvbank.policies.context import LayerPick, LayerSummary, PolicyContext, RecallPolicy
from kvbank.policies.deep_sink import DeepSink
from kvbank.policies.query_scored import LatentRecall, PoseRecall, QueryRecall
from kvbank.policies.standard import DynamicSparse, Full, Policy, SemanticSparse
from kvbank.policies.windows import FramePolicy, Rolling, Sink

__all__ = [  # noqa: RUF022 (grouped by use)
    # by prompts and by age
    "SemanticSparse",
    "DynamicSparse",
    "Rolling",
    "Sink",
    "Full",
    "DeepSink",
    # by scores of the queries, of the latents, of the place
    "QueryRecall",
    "LatentRecall",
    "PoseRecall",
    # for a policy of your own
    "Policy",
    "FramePolicy",
    "RecallPolicy",
    "PolicyContext",
    "LayerPick",
    "LayerSummary",
    "Kind",
]
