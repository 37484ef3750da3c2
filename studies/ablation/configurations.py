"""Configurations, the rows of the tables: what a model is shown of the past, and the loss of its post-training."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bdiff import defaults
from kvbank import Policy

Loss = Literal["flow-matching", "block-forcing", "self-forcing", "block-self-forcing"]
"""Flow matching alone, with Block Forcing (Eq. 5), with Self Forcing (Eq. 1, on own videos), or with both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One way to post-train and to sample; both see the past by the same policy."""

    label: str
    """Its name in files and figures."""
    title: str
    """Its name in tables."""
    policy: str
    """Which past chunks are shown: a name of `bdiff.defaults.policy`. Four chunks at most."""
    sampler: Literal["memory", "overlap"] = "memory"
    """`memory`: stored keys and values are read. `overlap`: the last chunks are encoded again at every step."""
    coverage: float | None = None
    """Share of the attention that the kept tokens cover; None: all tokens are kept."""
    loss: Loss | None
    """Loss of post-training; None: the base, not post-trained."""
    weight: float = 0.1
    """Weight of Eq. 5 (w), where the loss has it."""
    gamma: float = 1.0
    """Weight of the reference in Eq. 5."""
    adversarial: float = 0.05
    """Weight of the adversarial loss of Eq. 1, where the loss has it."""

    def make_policy(self) -> Policy:
        """The policy."""
        return defaults.policy(self.policy, coverage=self.coverage)

    def to_json(self) -> dict[str, Any]:
        """The configuration as files of results have it."""
        values = asdict(self)
        return values | {"game": values.pop("adversarial")}


OURS = "semantic-0.98"
"""The configuration that both tables share."""
BASE = "base"
"""The configuration that is not post-trained."""
BASELINE = "rolling-self-forcing"
"""The configuration that the claim compares `OURS` with."""

_OURS = Configuration(
    label=OURS, title="semantic sparse 0.98, both losses", policy="semantic", coverage=0.98, loss="block-self-forcing"
)

_ALL = (
    replace(
        _OURS,
        label="overlap",
        title="overlap without a cache, flow matching",
        policy="rolling",
        coverage=None,
        sampler="overlap",
        loss="flow-matching",
    ),
    replace(_OURS, label="rolling", title="rolling", policy="rolling", coverage=None),
    replace(_OURS, label="sink", title="sink + window", policy="sink", coverage=None),
    replace(_OURS, label="dynamic-0.97", title="dynamic sparse 0.97", policy="dynamic", coverage=0.97),
    replace(_OURS, label="dynamic-0.98", title="dynamic sparse 0.98", policy="dynamic", coverage=0.98),
    replace(_OURS, label="semantic-0.97", title="semantic sparse 0.97", coverage=0.97),
    _OURS,
    replace(_OURS, label=BASE, title="the base, not post-trained", loss=None),
    replace(_OURS, label="naive", title="flow matching alone (naive)", loss="flow-matching"),
    replace(_OURS, label="self-forcing", title="Self Forcing", loss="self-forcing"),
    replace(_OURS, label="velocity-forcing", title="Block Forcing alone (Velocity Forcing)", loss="block-forcing"),
    replace(_OURS, label=BASELINE, title="rolling, Self Forcing", policy="rolling", coverage=None, loss="self-forcing"),
    *(replace(_OURS, label=f"gamma-{gamma:g}", title=f"gamma {gamma:g}", gamma=gamma) for gamma in (0.0, 0.5)),
    *(replace(_OURS, label=f"w-{weight:g}", title=f"w {weight:g}", weight=weight) for weight in (0.03, 0.3, 1.0)),
    *(
        replace(_OURS, label=f"game-{weight:g}", title=f"adversarial {weight:g}", adversarial=weight)
        for weight in (0.002, 0.01)
    ),
)

CONFIGURATIONS: dict[str, Configuration] = {one.label: one for one in _ALL}
"""All configurations by label."""

TABLES: dict[str, tuple[str, ...]] = {
    "5": ("overlap", "rolling", "sink", "dynamic-0.97", "dynamic-0.98", "semantic-0.97", OURS),
    "6": (BASE, "naive", "self-forcing", "velocity-forcing", OURS, BASELINE),
    "claim": (OURS, BASELINE),
}
"""Labels of the configurations of each table."""

SWEEP = ("gamma-0", "gamma-0.5", "w-0.03", "w-0.3", "w-1", "game-0.002", "game-0.01")
"""Labels of the configurations that change gamma, w or the adversarial weight of `OURS`, which are 1, 0.1 and 0.05."""

TRUTH = "truth"
"""Label of a yardstick without a transformer: the true videos after the autoencoder."""


def choose(tables: tuple[str, ...], *, sweep: bool, only: tuple[str, ...] = ()) -> tuple[Configuration, ...]:
    """The configurations of some tables, each once.

    Args:
        tables: Keys of `TABLES`.
        sweep: Whether to add those of `SWEEP`.
        only: Labels to keep; empty: all.

    Raises:
        ValueError: If a label is not among them.
    """
    labels = dict.fromkeys(label for table in tables for label in TABLES[table])
    labels |= dict.fromkeys(SWEEP if sweep else ())
    if wrong := [label for label in only if label not in labels]:
        raise ValueError(f"no configuration {wrong[0]!r} here; expected some of {', '.join(labels)}")
    return tuple(CONFIGURATIONS[label] for label in labels if not only or label in only)
