"""What is sampled and measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bdiff import Sampling, defaults
from bdiff_bench.harness.provenance import model_recipe
from bdiff_train.transformer import FIRST_STORY
from kvbank import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldBenchConfig:
    """What is sampled and measured."""

    out: Path
    """Folder of the lines and the summary."""
    model: Path = defaults.WEIGHTS
    """Folder with transformer/, vae.safetensors and sampling.json."""
    num_stories: int = 32
    """Held-out stories."""
    num_chunks: int = 25
    """Chunks of each."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name; None is as not given."""
    seed: int = 0
    """Added to the seed of each story's noise."""
    workers: int = 2
    """Processes, each on one core."""

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled."""
        return Sampling.of_model(self.model).changed(self.settings)

    @property
    def policy(self) -> Policy:
        """The memory."""
        return self.sampling.memory()

    @property
    def stories(self) -> range:
        """Seeds of the stories."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    @property
    def lines(self) -> Path:
        """The file with a line for each story."""
        return self.out / "stories.jsonl"

    def recipe(self) -> dict[str, Any]:
        """What a story's line depends on."""
        return model_recipe(self.model, self.sampling) | {"num_chunks": self.num_chunks, "seed": self.seed}
