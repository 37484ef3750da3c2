"""What is sampled and measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import storyworld
from bdiff import Sampling, defaults
from bdiff_bench.harness.provenance import model_recipe
from bdiff_train.transformer import FIRST_STORY

TRUTH = "truth"
"""Stands in the place of a memory for the true video after the autoencoder: the best that can be reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A video to sample."""

    take: str
    """Kind of the video, one of ``storyworld.TAKES``."""
    story: int
    """Its seed."""
    policy: str
    """The memory, or `TRUTH`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakesBenchConfig:
    """What is sampled and measured."""

    out: Path
    """Folder of the lines, pictures and the summary."""
    model: Path
    """Folder with transformer/, vae.safetensors and sampling.json."""
    takes: tuple[str, ...] = storyworld.TAKES
    """Kinds of video."""
    policies: tuple[str, ...] = ("semantic", "rolling", "sink", "none")
    """Memories; the others are compared with the first one."""
    num_takes: int = 16
    """Held-out videos of each kind."""
    num_chunks: int = 15
    """Chunks of each."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name."""
    seed: int = 0
    """Added to the seed of each video's noise, which is the same under every memory."""
    workers: int = 2
    """Processes, each on one core."""

    def __post_init__(self) -> None:
        for name, given, known in (
            ("take", self.takes, storyworld.TAKES),
            ("policy", self.policies, defaults.POLICIES),
        ):
            if wrong := [one for one in given if one not in known]:
                raise ValueError(f"{name} is {wrong[0]!r}; expected one of {', '.join(known)}")
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{name} is {', '.join(given)!r}; expected at least one, each once")

    @property
    def sampling(self) -> Sampling:
        """How the model is sampled."""
        return Sampling.of_model(self.model).changed(self.settings)

    @property
    def jobs(self) -> list[Job]:
        """Every video; all memories of a take come together, so that a stopped bench has whole comparisons."""
        return [
            Job(take=take, story=story, policy=policy)
            for story in range(FIRST_STORY, FIRST_STORY + self.num_takes)
            for take in self.takes
            for policy in (TRUTH, *self.policies)
        ]

    @property
    def lines(self) -> Path:
        """The file with a line for each video."""
        return self.out / "videos.jsonl"

    def strip(self, take: str, policy: str) -> Path:
        """The picture of the first video of a kind under a memory: a frame of every chunk."""
        return self.out / "strips" / f"{take}-{policy}.png"

    def recipe(self) -> dict[str, Any]:
        """What a video's line depends on."""
        return model_recipe(self.model, self.sampling) | {"num_chunks": self.num_chunks, "seed": self.seed}
