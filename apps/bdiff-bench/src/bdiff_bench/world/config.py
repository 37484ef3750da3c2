"""What is sampled and measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bdiff import Sampling, defaults
from bdiff_bench.harness.provenance import model_recipe
from bdiff_train.transformer import FIRST_STORY
from kvbank import Policy
from storyworld import TAKES

STORY = TAKES[0]
"""The kind of the videos that this bench always had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldJob:
    """One video to sample and evaluate."""

    take: str
    """Kind of the video, one of ``storyworld.TAKES``."""
    policy: str
    """Name of the memory."""
    story: int
    """Seed of the video."""

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "WorldJob":
        """The job that a line came from; lines of older versions are stories under the model's own memory."""
        return cls(take=line.get("take", STORY), policy=line.get("policy", defaults.POLICY), story=line["story"])


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldBenchConfig:
    """What is sampled and measured."""

    out: Path
    """Folder of the lines and the summary."""
    model: Path = defaults.WEIGHTS
    """Folder with transformer/, vae.safetensors and sampling.json."""
    takes: tuple[str, ...] = (STORY,)
    """Kinds of videos, of ``storyworld.TAKES``."""
    policies: tuple[str, ...] = ()
    """Names of memories, of `defaults.POLICIES`; empty: the model's own, which is the semantic one."""
    num_stories: int = 32
    """Held-out videos of each kind."""
    num_chunks: int = 25
    """Chunks of each."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name; None is as not given."""
    seed: int = 0
    """Added to the seed of each video's noise, which is the same for all memories."""
    workers: int = 2
    """Processes, each on one core."""

    def __post_init__(self) -> None:
        if not self.takes:
            raise ValueError(f"takes is empty; expected some of {', '.join(TAKES)}")
        for name, asked, known in (("takes", self.takes, TAKES), ("policies", self.policies, defaults.POLICIES)):
            if len(set(asked)) < len(asked) or not set(asked) <= set(known):
                raise ValueError(f"{name} is {', '.join(asked)}; expected some of {', '.join(known)}, each once")

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled."""
        return Sampling.of_model(self.model).changed(self.settings)

    @property
    def memories(self) -> dict[str, Policy]:
        """The memories by name; age bonus and sink are settings of the semantic one."""
        sampling = self.sampling
        return {name: sampling.policy(name) for name in self.policies or (defaults.POLICY,)}

    @property
    def is_plain(self) -> bool:
        """Whether stories are sampled under the model's own memory alone; the summary is then one table."""
        return self.takes == (STORY,) and not self.policies

    @property
    def stories(self) -> range:
        """Seeds of the videos."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    @property
    def jobs(self) -> list[WorldJob]:
        """All videos, seed by seed, so that a bench that is stopped has as many of each kind and memory."""
        names = tuple(self.memories)
        return [
            WorldJob(take=take, policy=policy, story=story)
            for story in self.stories
            for take in self.takes
            for policy in names
        ]

    @property
    def lines(self) -> Path:
        """The file with a line for each video."""
        return self.out / "stories.jsonl"

    def recipe(self) -> dict[str, Any]:
        """What a video's line depends on, beside what the line says."""
        return model_recipe(self.model, self.sampling) | {"num_chunks": self.num_chunks, "seed": self.seed}
