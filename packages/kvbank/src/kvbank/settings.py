"""The settings of a bank, and their JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvbank.index.indexes import ExactIndex, FaissIndex, Index
from kvbank.policies.deep_sink import DeepSink
from kvbank.policies.query_scored import LatentRecall, PoseRecall, QueryRecall
from kvbank.policies.standard import DynamicSparse, Full, Policy, SemanticSparse
from kvbank.policies.windows import Rolling, Sink
from kvbank.quantization import FORMATS, Quantization
from kvbank.salience import SalienceOptions

POLICIES: dict[str, Any] = {
    "SemanticSparse": SemanticSparse,
    "DynamicSparse": DynamicSparse,
    "Rolling": Rolling,
    "Sink": Sink,
    "Full": Full,
    "LatentRecall": LatentRecall,
    "QueryRecall": QueryRecall,
    "PoseRecall": PoseRecall,
    "DeepSink": DeepSink,
}
_OLD_FIELDS = {"seniority": "age_bonus"}
"""Names of fields in files of older versions, and what they are called now."""
INDEXES: dict[str, Any] = {"ExactIndex": ExactIndex, "FaissIndex": FaissIndex}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """The settings of a bank; they never change."""

    policy: Policy
    """Which chunks a chunk sees, and how much of them is stored."""
    index: Index
    """Where prompts are compared; the JSON holds its kind and spec, not its embeddings."""
    salience: SalienceOptions
    """How salient tokens are scored."""
    quantization: Quantization | None
    """How keys and values are packed."""
    budget: int | None
    """Tokens that a layer may show."""
    seed: int
    """Seed of random probes and the token drop."""
    rotates: bool
    """Whether salience is scored after a `rotate`; the function itself is code and is not saved."""

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON, for `from_json`.

        Raises:
            ValueError: If the index is of an unknown kind.
        """
        quantization = self.quantization
        return {
            "policy": _named_policy(self.policy),
            "quantization": None
            if quantization is None
            else [type(quantization).__name__, dataclasses.asdict(quantization)],
            "budget": self.budget,
            "index": _named_index(self.index),
            "salience": dataclasses.asdict(self.salience),
            "seed": self.seed,
            "rotates": self.rotates,
        }

    @classmethod
    def from_json(cls, header: Mapping[str, Any], *, policy: Policy | None) -> "Settings":
        """The settings in a header, with an empty index.

        Args:
            header: Holds what `as_json` returned; quantization and budget may be missing.
            policy: As given to the bank that wrote it; needed only if it is a policy of your own.

        Raises:
            ValueError: If `policy` is needed and not given, or is another one.
        """
        name, fields = header.get("quantization") or (None, {})
        return cls(
            policy=_policy(header["policy"], policy),
            index=_index(header["index"]),
            salience=SalienceOptions(**header["salience"]),
            quantization=None if name is None else FORMATS[name](**fields),
            budget=header.get("budget"),
            seed=header["seed"],
            rotates=header["rotates"],
        )

    def differences(self, other: "Settings") -> list[str]:
        """Names of the saved settings that differ."""
        ours, theirs = self.as_json(), other.as_json()
        return [name for name in ours if ours[name] != theirs[name]]


def _named_policy(policy: Policy) -> list[Any]:
    """Name and fields of a policy; the fields are None for a policy that is not one of kvbank's."""
    name = type(policy).__name__
    if POLICIES.get(name) is not type(policy):
        return [name, None]
    return [name, {field.name: getattr(policy, field.name) for field in dataclasses.fields(POLICIES[name])}]


def _policy(named: list[Any], given: Policy | None) -> Policy:
    name, fields = named
    if fields is None:
        if given is None or type(given).__name__ != name:
            raise ValueError(f"this bank was saved with a {name}; pass it again: KVBank.load(path, policy={name}(...))")
        return given
    known = {_OLD_FIELDS.get(key, key): value for key, value in fields.items()}
    exact = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    saved: Policy = POLICIES[name](**exact)
    if given is not None and given != saved:
        raise ValueError(f"this bank was saved with {saved}; got {given}; pass the saved policy, or none")
    return saved


def _named_index(index: Index) -> list[Any]:
    name = type(index).__name__
    if INDEXES.get(name) is not type(index):
        raise ValueError(f"cannot save the index {index!r}; expected one of {', '.join(INDEXES)}")
    return [name, {"spec": index.spec} if isinstance(index, FaissIndex) else {}]


def _index(named: list[Any] | str) -> Index:
    # Formats 1 and 2 of snapshots hold the name alone.
    name, fields = (named, dict[str, Any]()) if isinstance(named, str) else named
    return INDEXES[name](**fields)
