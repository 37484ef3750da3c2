"""The defaults of `bdiff sample`, and where the shipped files are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvbank import Policy

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped model: transformer/, vae.safetensors and, if it differs from `Sampling`, sampling.json."""

STORYBOARD = Path(__file__).parent / "storyboards" / "first-video.yaml"
"""The shipped storyboard: 25 chunks, four places, each of them left and visited again."""

OUT = Path("runs") / "first-video"
"""Where a video goes."""

DAY = 86_400
"""Seconds of video that are made without being asked twice."""
LONGEST = 30 * DAY
"""Seconds of video that are made at all."""

MEMORY_LIMIT = 128 * 10**6
"""Bytes of keys and values of the past that a run holds in memory; the rest is read from disk when it is recalled."""

SEED = 8
"""Seed of `bdiff sample`: the fox stands out from the places; chosen by its look."""

DTYPES = ("float32", "bfloat16", "float16")
"""Number types of a transformer."""

NOISES = ("fresh", "shared")
"""Names of the base noise."""

MODES = ("cached", "overlap", "whole")
"""Orders of denoising: chunk by chunk with a memory; in windows that overlap; all frames at once."""
WINDOW, OVERLAP = 5, 1
"""Chunks that a window of the overlap mode holds, and how many of them are made before: as SkyReels-V2 is sampled."""

SOLVERS = ("euler", "scheduler", "renoise")
"""Steps between levels: Euler's; those of the model's own scheduler; clean estimate and new noise (few-step models)."""

ATTENTIONS = ("auto", "sdpa", "flex", "xformers", "flash")
"""Names of attention kernels, and auto for the best that is there."""

POLICIES = ("semantic", "rolling", "sink", "dynamic", "full", "none")
"""Names of `policy`."""

POLICY = "semantic"
"""The default policy."""

POSITIONS = ("slots", "absolute")
"""Where recalled chunks are placed: right before the current one, or where they are in the video."""

PROMPT_SWITCHES = ("keep", "recompute", "flush")
"""What happens to the keys of the last chunks when the prompt changes."""

_MOST = 100_000
"""Largest value of any setting."""
_MAY_BE_ZERO = ("age_bonus", "num_sink", "richness", "context_noise")
_KNOWN = {
    "noise": NOISES,
    "mode": MODES,
    "solver": SOLVERS,
    "positions": POSITIONS,
    "prompt_switch": PROMPT_SWITCHES,
}
"""Settings that are names, and which names there are."""
_OLD_NAMES = {"seniority": "age_bonus"}
"""Names of settings in files of older versions, and what they are called now."""


def setting(default: Any, help_text: str, *, least: float | None = None, most: float | None = None) -> Any:
    """A field of `Sampling` that is an option of commands, too.

    Args:
        default: Its value where neither a model nor a user says another.
        help_text: What the option's help says.
        least: The smallest number that the option takes; None: any above 0.
        most: The largest number that the option takes.
    """
    return field(default=default, metadata={"help": help_text, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a model wants to be sampled; a model folder's sampling.json overrides it field by field."""

    fps: int = 8
    """Frames a second."""
    latent_frames: int = 5
    """Latent frames of a chunk."""
    steps: int = setting(16, "Denoising steps a chunk.", least=1, most=1000)
    """Denoising steps a chunk."""
    guidance: float = setting(2.0, "Classifier-free guidance, 1 for none.", most=1000)
    """Classifier-free guidance, 1 for none."""
    shift: float = 3.0
    """Shift of the denoising grid towards noise."""
    noise: str = setting("fresh", "Own noise for each chunk, or shared.")
    """Base noise of a chunk: its own (fresh) or that of all chunks (shared, the paper's); one of `NOISES`."""
    age_bonus: float = setting(
        0.0, "How much the semantic memory prefers a place's first visits to later ones.", least=0, most=100
    )
    """How much the semantic memory prefers earlier visits to later ones, see `kvbank.SemanticSparse`."""
    num_sink: int = setting(0, "First chunks that the semantic memory shows every chunk, too.", least=0, most=1000)
    """Chunks from the start of the video that the semantic memory shows every chunk beside the others."""
    memory: str = "semantic"
    """Which past chunks a chunk is shown unless a policy is asked for, see `bdiff.memory_spec`."""
    positions: str = setting("slots", "Places of recalled chunks: next to the current one, or where they were.")
    """Where recalled chunks are placed, one of `POSITIONS`."""
    prompt_switch: str = setting("keep", "Keys of the last chunks at a new prompt.")
    """What happens to the keys of the last chunks when the prompt changes, one of `PROMPT_SWITCHES`."""
    context_noise: float = setting(
        0.0, "Level from 0 to 1 that the model is told when it stores a chunk.", least=0, most=0.99
    )
    """Level in [0, 1) that the model is told when it makes the keys of a finished chunk."""
    timesteps: tuple[int, ...] | None = None
    """Timesteps of a few-step model, falling from 1000; None: `steps` levels, evenly spaced before the shift."""
    first_timesteps: tuple[int, ...] | None = None
    """Timesteps of the first chunk, if it has others."""
    warped: bool = True
    """Whether timesteps stand before the shift (Self-Forcing). If not, they mean the nearest level of the scheduler and
    the model is told the timesteps themselves (CausVid)."""
    first_latent_frames: int | None = None
    """Latent frames of the first chunk, if it has others than `latent_frames`."""
    mode: str = setting("cached", "Order of denoising.")
    """Order of denoising, one of `MODES`."""
    solver: str = setting("euler", "Steps between levels.")
    """Steps between levels, one of `SOLVERS`."""
    negative: str | None = setting(None, "Prompt that guidance moves away from.")
    """Prompt that guidance moves away from; None: no text at all, as the shipped model learned it."""
    height: int = setting(64, "Pixels of a frame, before --scale.", least=8)
    """Pixels, before --scale."""
    width: int = setting(64, "Pixels of a frame, before --scale.", least=8)
    """Pixels, before --scale."""
    scale: int = setting(4, "Side of a model pixel in the video.", least=1, most=32)
    """Each pixel of the model becomes a square of this side in the file."""
    richness: int = setting(1, "Stories of storyworld: 0 flat, 1 landmarks, 2 light and camera.", least=0, most=2)
    """Richness of the storyworld videos that the model knows; benches sample such."""

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        self._check_few_steps()
        if self.context_noise >= 1.0:
            raise ValueError(f"context_noise is {self.context_noise}; expected a level from 0 to below 1")
        if not isinstance(self.negative, str | None):
            raise ValueError(f"negative is {self.negative!r}; expected a prompt, or null for no text")
        for one in fields(self):
            if one.type not in (int, float):
                continue
            value, kinds = getattr(self, one.name), (int,) if one.type is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
                kind = "a whole number" if one.type is int else "a finite number"
                raise ValueError(f"{one.name} is {value!r}; expected {kind}")
            or_none = one.name in _MAY_BE_ZERO
            least = "a number from 0" if or_none else "a number above 0"
            if value > _MOST:
                raise ValueError(f"{one.name} is {value}; expected at most {_MOST}")
            if value < 0 or (value == 0 and not or_none):
                raise ValueError(f"{one.name} is {value}; expected {least}")

    def _check_few_steps(self) -> None:
        """Raise a ValueError if timesteps do not fall, or a length is none."""
        for name in ("timesteps", "first_timesteps"):
            given = getattr(self, name)
            if given is None:
                continue
            object.__setattr__(self, name, tuple(given))
            whole = all(isinstance(step, int) and 0 < step <= 1000 for step in given)
            if not given or not whole or any(step <= after for step, after in pairwise(given)):
                raise ValueError(f"{name} is {list(given)}; expected falling whole numbers from 1000 to 1")
        if self.first_timesteps is not None and self.timesteps is None:
            raise ValueError("first_timesteps are those of the first chunk of a few-step model; give timesteps, too")
        first = self.first_latent_frames
        if first is not None and (not isinstance(first, int) or not 0 < first <= _MOST):
            raise ValueError(f"first_latent_frames is {first!r}; expected a whole number above 0")

    @property
    def frames_per_chunk(self) -> int:
        """Pixel frames of a chunk after the first one."""
        return 4 * self.latent_frames

    @property
    def first_frames(self) -> int:
        """Pixel frames of the first chunk: 3 fewer than its latent frames would give later."""
        return 4 * (self.first_latent_frames or self.latent_frames) - 3

    def num_frames(self, num_chunks: int) -> int:
        """Pixel frames of a video of so many chunks."""
        return self.first_frames + (num_chunks - 1) * self.frames_per_chunk

    @property
    def num_steps(self) -> int:
        """Denoising steps of a chunk."""
        return self.steps if self.timesteps is None else len(self.timesteps)

    def policy(self, spec: str | None = None) -> "Policy":
        """A memory policy by its name or its spec, with the settings of this model.

        Args:
            spec: A name, for `policy`, or a spec, for `memory_spec.parse_memory`; None: `memory`.
        """
        spec = self.memory if spec is None else spec
        if ":" in spec:
            from bdiff.memory_spec import parse_memory

            return parse_memory(spec)
        return policy(spec, age_bonus=self.age_bonus, num_sink=self.num_sink)

    def changed(self, settings: Mapping[str, Any]) -> "Sampling":
        """These settings but for some.

        Args:
            settings: Other values by the names of fields; None is as not given.

        Raises:
            ValueError: If there is no such setting, or a value is not valid.
        """
        _check_names(settings)
        return replace(self, **{name: value for name, value in settings.items() if value is not None})

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, otherwise: "Sampling | None" = None) -> "Sampling":
        """The settings that a file holds, of this version or an older one.

        Args:
            values: Settings by name.
            otherwise: The rest; None: the defaults.

        Raises:
            ValueError: If there is no such setting, or a value is not valid.
        """
        named = {_OLD_NAMES.get(name, name): value for name, value in values.items()}
        _check_names(named)
        return replace(otherwise or cls(), **named)

    @classmethod
    def of_model(cls, folder: Path, *, otherwise: "Sampling | None" = None) -> "Sampling":
        """The settings of a model folder; what its sampling.json does not say is as `otherwise`, or the default."""
        file = folder / "sampling.json"
        if not file.exists():
            return otherwise or cls()
        from bdiff_core.files import read_json

        try:
            return cls.from_json(read_json(file), otherwise=otherwise)
        except ValueError as error:
            raise ValueError(f"{file}: no valid sampling settings: {error}") from None


def _check_names(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError if there is no setting of a name."""
    known = [one.name for one in fields(Sampling)]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"unknown setting {unknown[0]!r}; known are {', '.join(known)}")


def policy(name: str, *, coverage: float | None = None, age_bonus: float = 0.0, num_sink: int = 0) -> "Policy":
    """A memory policy by name; all but `full` show at most four chunks, beside the sink of the semantic one.

    Args:
        name: One of `POLICIES`.
        coverage: Share of the attention that the kept tokens of a chunk cover, in (0, 1]; None: the policy's own.
        age_bonus: Setting of the semantic policy; others choose by no similarity, which it would be added to.
        num_sink: Setting of the semantic policy; others do without.

    Raises:
        ValueError: If there is no such policy, or it keeps all tokens and a coverage is given.
    """
    import kvbank

    share = 0.98 if coverage is None else coverage
    match name:
        case "semantic":
            return kvbank.SemanticSparse(top_l=2, num_recent=2, coverage=share, age_bonus=age_bonus, num_sink=num_sink)
        case "dynamic":
            return kvbank.DynamicSparse(num_chunks=4, coverage=share)
        case _ if coverage is not None and name in POLICIES:
            raise ValueError(f"coverage is {coverage:g}; policy {name} keeps all tokens, leave the coverage away")
        case "rolling":
            return kvbank.Rolling(num_chunks=4)
        case "sink":
            return kvbank.Sink(num_sink=2, num_recent=2)
        case "full":
            return kvbank.Full()
        case "none":
            return kvbank.Sink(num_sink=0, num_recent=0)
    raise ValueError(f"policy is {name!r}; expected one of {', '.join(POLICIES)}")
