"""What an ablation trains, samples and measures, and what a folder of its figures was made with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bdiff import Sampling, defaults
from bdiff_bench.harness import read_recipe, weights_digest
from bdiff_train.transformer import FIRST_STORY
from studies.ablation.configurations import TABLES, Configuration, choose

_IN_FILES = {"video_chunks": "film_chunks", "video_steps": "film_steps"}
"""Names that files of results have for settings of post-training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostTraining:
    """What the post-training of all configurations has in common."""

    steps: int = 150
    """Steps of the transformer. A discriminator that is trained beside it has as many steps of its own."""
    learning_rate: float = 1e-4
    """Learning rate; half of it in the second half of the steps, as in the paper."""
    level_min: float = 0.82
    """Noise level of the first chunk; both levels are those of the shipped model's last training."""
    level_max: float = 0.92
    """Noise level of the last chunk."""
    stories: int = 256
    """Stories to train on."""
    chunks: int = 25
    """Chunks of each."""
    batch: int = 4
    """Stories of a batch."""
    video_chunks: int = 6
    """Chunks of the videos that Self Forcing samples while training."""
    video_steps: int = 4
    """Denoising steps of their chunks."""
    held_out: int = 8
    """Held-out stories that the loss is measured on at the end."""
    bfloat16: bool = False
    """Matrix products in bfloat16, for CPUs that have them."""

    def __post_init__(self) -> None:
        for name in ("steps", "stories", "batch", "video_steps", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 2 <= self.video_chunks <= self.chunks:
            raise ValueError(
                f"video_chunks is {self.video_chunks}, chunks {self.chunks}; expected at least 2, and at most as many "
                "as a story has"
            )

    def to_json(self) -> dict[str, Any]:
        """The settings as files of results have them."""
        return {_IN_FILES.get(name, name): value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationConfig:
    """What is trained, sampled and measured."""

    out: Path
    """Folder of runs, figures and page; a stopped study goes on."""
    tables: tuple[str, ...] = ("5", "6")
    """Tables to make, keys of `TABLES`."""
    sweep: bool = False
    """Add the configurations that change gamma, w and the adversarial weight."""
    configurations: tuple[str, ...] = ()
    """Labels to keep; empty: all of the tables."""
    model: Path = defaults.WEIGHTS
    """Model folder: the autoencoder, the settings and, unless `bases` says otherwise, the transformer to begin with."""
    bases: tuple[Path, ...] = ()
    """Transformers to begin with, one for each seed; empty: that of the model for every seed."""
    stories: Path | None = None
    """Folder of encoded stories to train on; those missing are made. None: in `out`."""
    training: PostTraining = field(default_factory=PostTraining)
    """Post-training of every configuration."""
    num_seeds: int = 3
    """Post-trainings of each configuration, each with its own order of the data and noise."""
    num_stories: int = 32
    """Held-out stories, sampled by every model."""
    num_chunks: int = 12
    """Chunks of each."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `bdiff.Sampling` in place of the model's own, by name; None is as not given."""
    workers: int = 2
    """Processes, each on one thread."""
    minutes: float | None = None
    """Time for this call; what is left is done by the next one. None: no limit."""

    def __post_init__(self) -> None:
        if not self.tables or not set(self.tables) <= set(TABLES):
            raise ValueError(f"tables are {self.tables}; expected some of {', '.join(TABLES)}")
        choose(self.tables, sweep=self.sweep, only=self.configurations)
        for name, least in (("num_seeds", 1), ("num_stories", 1), ("num_chunks", 2), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.bases and len(self.bases) != self.num_seeds:
            raise ValueError(f"{len(self.bases)} bases for {self.num_seeds} seeds; expected one for each, or none")

    @property
    def chosen(self) -> tuple[Configuration, ...]:
        """The configurations."""
        return choose(self.tables, sweep=self.sweep, only=self.configurations)

    @property
    def story_seeds(self) -> range:
        """Seeds of the stories that are sampled."""
        return range(FIRST_STORY, FIRST_STORY + self.num_stories)

    @property
    def sampling(self) -> Sampling:
        """How every model is sampled: like the videos of the folder, or as the model wants it if there are none.

        The semantic memory chooses by similarity alone and has no sink, as in the paper.
        """
        begun = self.out / "settings.json"
        if begun.exists():
            return Sampling.from_json(read_recipe(begun)["sampling"]).changed(self.settings)
        return Sampling.of_model(self.model).changed({**self.settings, "age_bonus": 0.0, "num_sink": 0})

    @property
    def encoded(self) -> Path:
        """Folder of encoded stories."""
        return self.out / "stories" if self.stories is None else self.stories

    @property
    def window(self) -> int:
        """Chunks that a rolling window holds."""
        late = 10_000
        return len(defaults.policy("rolling").select(late))

    def base(self, seed: int) -> Path:
        """Folder of the transformer that a seed begins with."""
        folder = self.bases[seed] if self.bases else self.model
        inside = folder / "transformer"
        return inside if inside.is_dir() else folder

    def recipe(self) -> dict[str, Any]:
        """What figures depend on beside configuration, seed and story, as settings.json has it; ``bases`` by seed."""
        return {
            "sampling": asdict(self.sampling),
            "num_chunks": self.num_chunks,
            "training": self.training.to_json(),
            "autoencoder": weights_digest(self.model),
            "bases": {str(seed): weights_digest(self.base(seed)) for seed in range(self.num_seeds)},
        }


def tiny_config(config: AblationConfig) -> AblationConfig:
    """The same with sizes that take seconds; the figures say nothing."""
    training = PostTraining(steps=2, stories=2, chunks=4, batch=1, video_chunks=3, video_steps=1, held_out=1)
    return replace(
        config,
        training=training,
        bases=config.bases[:1],
        num_seeds=1,
        num_stories=2,
        num_chunks=2,
        settings={**config.settings, "steps": 1},
        workers=1,
    )


def joined_settings(config: AblationConfig, file: Path) -> dict[str, Any]:
    """The settings of a config, with the bases of more seeds from a file, if there is one.

    Raises:
        ValueError: If the two differ in anything that changes figures.
    """
    new = config.recipe()
    if not file.exists():
        return new
    old = read_recipe(file)
    differ = [name for name in new if name != "bases" and old[name] != new[name]]
    differ += [f"base of seed {s}" for s, base in new["bases"].items() if old["bases"].get(s, base) != base]
    if differ:
        raise ValueError(f"{file.parent} holds figures made with another {', '.join(differ)}; choose another folder")
    return new | {"bases": old["bases"] | new["bases"]}
