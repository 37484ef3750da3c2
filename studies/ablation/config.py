"""What an ablation trains, tells and measures, and what a folder of its figures was made with."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bdiff import defaults
from bdiff.defaults import Sampling
from bdiff_bench.harness.recipe import read_recipe, weights_digest
from bdiff_train.transformer.story_sampler import FIRST_STORY, sampling_of
from studies.ablation.cells import TABLES, Cell, choose


@dataclass(frozen=True, kw_only=True, slots=True)
class PostTraining:
    """What every cell's post-training has in common."""

    steps: int = 150
    """Of the transformer; where a discriminator is trained beside it, that has as many of its own."""
    learning_rate: float = 1e-4
    """Half of it in the second half of the steps, as in the paper."""
    level_min: float = 0.82
    """Level of the first chunk; this and the next are those of the shipped model's last training."""
    level_max: float = 0.92
    """Level of the last chunk."""
    stories: int = 256
    """Stories to train on."""
    chunks: int = 25
    """Chunks of each."""
    batch: int = 4
    """Stories of a batch."""
    film_chunks: int = 6
    """Chunks of the films that Self Forcing judges."""
    film_steps: int = 4
    """Denoising steps of their chunks."""
    held_out: int = 8
    """Held-out stories of the loss at the end."""
    bfloat16: bool = False
    """Matrix products in bfloat16, for CPUs that have them."""

    def __post_init__(self) -> None:
        for name in ("steps", "stories", "batch", "film_steps", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 2 <= self.film_chunks <= self.chunks:
            raise ValueError(
                f"film_chunks is {self.film_chunks}, chunks {self.chunks}; expected at least 2, and no longer films "
                "than there are stories"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationConfig:
    """What is trained, told and measured."""

    out: Path
    """Folder of runs, figures and page; a stopped bench goes on."""
    tables: tuple[str, ...] = ("5", "6")
    """Keys of `TABLES`."""
    sweep: bool = False
    """Also the cells that change gamma, w and the weight of the game."""
    cells: tuple[str, ...] = ()
    """Labels to leave it at; empty: all of the tables."""
    model: Path = defaults.WEIGHTS
    """Model folder: the autoencoder, the settings and, unless `bases` says otherwise, the transformer to begin with."""
    bases: tuple[Path, ...] = ()
    """Transformers to begin with, one for each seed; empty: that of the model for every seed."""
    stories: Path | None = None
    """Folder of encoded stories to train on; those missing are made. None: in `out`."""
    training: PostTraining = field(default_factory=PostTraining)
    """Of every cell."""
    num_seeds: int = 3
    """Post-trainings of each cell, each with its own order of the data and noise."""
    num_stories: int = 32
    """Held-out stories, told by every model."""
    num_chunks: int = 12
    """Chunks of each."""
    denoising_steps: int | None = None
    """Steps a chunk when stories are told; None: as the model wants it."""
    workers: int = 2
    """Processes, each on one thread."""
    minutes: float | None = None
    """Time for this call; what is left is done by the next one. None: no limit."""

    def __post_init__(self) -> None:
        if not self.tables or not set(self.tables) <= set(TABLES):
            raise ValueError(f"tables are {self.tables}; expected some of {', '.join(TABLES)}")
        choose(self.tables, sweep=self.sweep, only=self.cells)
        for name, least in (("num_seeds", 1), ("num_stories", 1), ("num_chunks", 2), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.bases and len(self.bases) != self.num_seeds:
            raise ValueError(f"{len(self.bases)} bases for {self.num_seeds} seeds; expected one for each, or none")

    @property
    def chosen(self) -> tuple[Cell, ...]:
        """The cells."""
        return choose(self.tables, sweep=self.sweep, only=self.cells)

    @property
    def story_seeds(self) -> range:
        """Seeds of the stories that are told."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    @property
    def sampling(self) -> Sampling:
        """How every model is sampled: as the films that the folder has, and without any as the model wants it.

        The semantic memory chooses by similarity alone and has no sink, as the paper's.
        """
        begun = self.out / "settings.json"
        if not begun.exists():
            return sampling_of(self.model, steps=self.denoising_steps, seniority=0.0, num_sink=0)
        told = Sampling(**read_recipe(begun)["sampling"])
        return told if self.denoising_steps is None else replace(told, steps=self.denoising_steps)

    @property
    def encoded(self) -> Path:
        """Folder of encoded stories."""
        return self.out / "stories" if self.stories is None else self.stories

    @property
    def window(self) -> int:
        """Chunks that a rolling window holds; of what was last seen before, it knows nothing."""
        late = 10_000
        return len(defaults.policy("rolling").select(late))

    def base(self, seed: int) -> Path:
        """The transformer that a seed begins with."""
        folder = self.bases[seed] if self.bases else self.model
        inside = folder / "transformer"
        return inside if inside.is_dir() else folder

    def settings(self) -> dict[str, Any]:
        """What figures depend on beside cell, seed and story; ``bases`` by seed, from their weights."""
        return {
            "sampling": asdict(self.sampling),
            "num_chunks": self.num_chunks,
            "training": asdict(self.training),
            "autoencoder": weights_digest(self.model),
            "bases": {str(seed): weights_digest(self.base(seed)) for seed in range(self.num_seeds)},
        }


def tiny_config(config: AblationConfig) -> AblationConfig:
    """The same so small that it ends in seconds, and says nothing but that everything runs."""
    training = PostTraining(steps=2, stories=2, chunks=4, batch=1, film_chunks=3, film_steps=1, held_out=1)
    sizes = {"num_seeds": 1, "num_stories": 2, "num_chunks": 2, "denoising_steps": 1, "workers": 1}
    return replace(config, training=training, bases=config.bases[:1], **sizes)


def joined_settings(config: AblationConfig, file: Path) -> dict[str, Any]:
    """The settings of a config, with the seeds of those in a file, if there is one.

    Raises:
        ValueError: If the two differ in anything that changes figures.
    """
    new = config.settings()
    if not file.exists():
        return new
    old = read_recipe(file)
    differ = [name for name in new if name != "bases" and old[name] != new[name]]
    differ += [f"base of seed {s}" for s, base in new["bases"].items() if old["bases"].get(s, base) != base]
    if differ:
        raise ValueError(f"{file.parent} holds figures made with another {', '.join(differ)}; choose another folder")
    return new | {"bases": old["bases"] | new["bases"]}
