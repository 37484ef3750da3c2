"""What is sampled and measured, and what a folder of figures was made with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bdiff import Sampling, defaults
from bdiff_bench.harness.provenance import read_recipe, weights_digest
from bdiff_bench.memory.arms import Arm, parse_arm
from bdiff_bench.memory.measures import MODES, Mode
from bdiff_train.transformer import FIRST_STORY


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryBenchConfig:
    """What is sampled and measured."""

    out: Path
    """Folder of lines, stills, figures, plots and page; a stopped bench goes on."""
    model: Path = defaults.WEIGHTS
    """Model folder: the autoencoder, the settings and, for arms without a folder, the transformer."""
    arms: tuple[Arm, ...] = (parse_arm("semantic=semantic"), parse_arm("rolling=rolling"))
    """What is compared."""
    against: str | None = None
    """Label of the arm that the others are compared with; None: the first with the policy `rolling`, if any."""
    modes: tuple[Mode, ...] = MODES
    """Whether first visits are given, or only the first chunk."""
    num_stories: int = 32
    """Held-out stories."""
    num_seeds: int = 1
    """Videos of each story by each arm in each mode."""
    num_chunks: int = 25
    """Chunks of a story."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name; None is as not given."""
    device: str = "cpu"
    """Device of the models."""
    workers: int = 2
    """Processes, each on one thread."""

    def __post_init__(self) -> None:
        labels = [arm.label for arm in self.arms]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if not labels or twice:
            raise ValueError(f"arms are labelled {labels}; expected at least one, and no label twice")
        if self.against is not None and self.against not in labels:
            raise ValueError(f"against is {self.against!r}; expected one of {', '.join(labels)}")
        if not self.modes or not set(self.modes) <= set(MODES):
            raise ValueError(f"modes are {self.modes}; expected some of {', '.join(MODES)}")
        for name in ("num_stories", "num_seeds", "num_chunks", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def baseline(self) -> str | None:
        """Label of the arm that the others are compared with."""
        rolling = (arm.label for arm in self.arms if arm.policy == "rolling")
        return next(rolling, None) if self.against is None else self.against

    @property
    def window(self) -> int:
        """Chunks that a rolling window of the same budget holds."""
        late = 10_000
        return len(defaults.policy("rolling").select(late))

    @property
    def sampling(self) -> Sampling:
        """How every arm is sampled.

        The semantic memory chooses by similarity alone and has no sink, as in the paper.
        """
        return Sampling.of_model(self.model).changed({**self.settings, "age_bonus": 0.0, "num_sink": 0})

    @property
    def stories(self) -> range:
        """Seeds of the stories."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryRecipe:
    """What the lines of a folder were made with: lines of another recipe must not be added."""

    sampling: dict[str, Any]
    num_chunks: int
    autoencoder: str
    """SHA-256 of its weights."""
    arms: dict[str, dict[str, Any]]
    """Policy, and SHA-256 of the transformer's weights, by label."""

    @classmethod
    def of(cls, config: MemoryBenchConfig) -> "MemoryRecipe":
        """The recipe of a config, from its files."""
        return cls(
            sampling=asdict(config.sampling),
            num_chunks=config.num_chunks,
            autoencoder=weights_digest(config.model),
            arms={
                arm.label: {
                    "policy": _renamed(repr(arm.make_policy())),
                    "transformer": weights_digest(arm.transformer(config.model)),
                }
                for arm in config.arms
            },
        )

    def join(self, file: Path) -> "MemoryRecipe":
        """This recipe with the arms of the recipe in a file, if there is one.

        Raises:
            ValueError: If the two differ in anything that changes figures.
        """
        new = asdict(self)
        old = read_recipe(file) if file.exists() else new
        old_arms = {label: arm | {"policy": _renamed(arm["policy"])} for label, arm in old["arms"].items()}
        differ = [name for name in new if name != "arms" and old[name] != new[name]]
        differ += [label for label, arm in self.arms.items() if old_arms.get(label, arm) != arm]
        if differ:
            raise ValueError(
                f"{file.parent} holds figures made with another {', '.join(differ)}; choose another folder or label"
            )
        return MemoryRecipe(**new | {"arms": old_arms | self.arms})


def _renamed(policy: str) -> str:
    """The text of a policy with the names that its fields have now; older versions wrote others."""
    return policy.replace("seniority=", "age_bonus=")
