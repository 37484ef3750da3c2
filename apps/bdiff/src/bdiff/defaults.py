"""What `bdiff sample` does unless told otherwise, and where the shipped files are."""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvbank.policies import Policy

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped model: transformer/, vae.safetensors and, if it differs from `Sampling`, sampling.json."""

STORYBOARD = Path(__file__).parent / "storyboards" / "first-video.yaml"
"""The shipped storyboard: 25 chunks, three places, each of them left and visited again."""

OUT = Path("runs") / "first-video"
"""Where a video goes."""

DAY = 86_400
"""Seconds of video that are made without being asked twice."""
LONGEST = 30 * DAY
"""Seconds of video that are made at all."""

MEMORY_LIMIT = 128 * 10**6
"""Bytes of keys and values of the past that a run holds in memory; the rest is read from disk when it is recalled."""

SEED = 8
"""Of `bdiff sample`: one whose fox stands out from the places it makes up; chosen by its look."""

DTYPES = ("float32", "bfloat16", "float16")
"""What a transformer computes in."""

NOISES = ("fresh", "shared")
"""Names of the base noise."""

MODES = ("cached", "overlap", "whole")
"""Orders of denoising: chunk by chunk with a memory; windows that overlap; all frames at once."""
WINDOW, OVERLAP = 5, 1
"""Chunks that the overlap mode sees at once, and those of them that it has made before, as SkyReels-V2 was sampled."""

SOLVERS = ("euler", "scheduler", "renoise")
"""Steps between levels: Euler's; those of the model's own scheduler; clean estimate and new noise (few-step models)."""

ATTENTIONS = ("auto", "sdpa", "flex", "xformers", "flash")
"""Names of attention kernels, and auto for the best that is there."""

POLICIES = ("semantic", "rolling", "sink", "dynamic", "full")
"""Names of `policy`."""

POLICY = "semantic"
"""The one of them that is taken unless another is asked for."""

_MOST = 100_000
"""No setting is larger; most are far smaller."""
_MAY_BE_ZERO = ("seniority", "num_sink", "richness")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a model wants to be sampled; a model folder's sampling.json overrides it field by field."""

    fps: int = 8
    """Frames a second."""
    latent_frames: int = 5
    """Latent frames of a chunk."""
    height: int = 64
    """Pixels, before --scale."""
    width: int = 64
    """Pixels, before --scale."""
    scale: int = 4
    """Each pixel of the model becomes a square of this side in the file."""
    steps: int = 16
    """Denoising steps a chunk."""
    shift: float = 3.0
    """Shift of the denoising grid towards noise."""
    guidance: float = 2.0
    """Classifier-free guidance."""
    mode: str = "cached"
    """Order of denoising, one of `MODES`."""
    solver: str = "euler"
    """One of `SOLVERS`."""
    negative: str | None = None
    """Prompt that guidance moves away from; None: no text at all, as the shipped model learned it."""
    noise: str = "fresh"
    """Base noise of a chunk: its own (fresh) or that of all chunks (shared, the paper's)."""
    seniority: float = 0.0
    """Of the semantic memory, see `kvbank.SemanticSparse`: how much earlier visits are preferred to later ones."""
    num_sink: int = 0
    """Of the semantic memory: chunks from the start of the film that every chunk is shown beside the others."""
    richness: int = 1
    """Of the storyworld films that the model knows; benches let it tell such."""

    def __post_init__(self) -> None:
        for name, known in (("noise", NOISES), ("mode", MODES), ("solver", SOLVERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if not isinstance(self.negative, str | None):
            raise ValueError(f"negative is {self.negative!r}; expected a prompt, or null for no text")
        for field in (field for field in fields(self) if field.type in (int, float)):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | field.type) or not math.isfinite(value):
                kind = "a whole number" if field.type is int else "a finite number"
                raise ValueError(f"{field.name} is {value!r}; expected {kind}")
            or_none = field.name in _MAY_BE_ZERO
            least = "a number from 0" if or_none else "a number above 0"
            if value > _MOST:
                raise ValueError(f"{field.name} is {value}; expected at most {_MOST}")
            if value < 0 or (value == 0 and not or_none):
                raise ValueError(f"{field.name} is {value}; expected {least}")

    @property
    def frames_per_chunk(self) -> int:
        """Pixel frames of a chunk after the first one, which has 3 fewer."""
        return 4 * self.latent_frames

    def memory(self, name: str = "semantic") -> "Policy":
        """The memory policy of that name, see `policy`, with the settings of this model."""
        return policy(name, seniority=self.seniority, num_sink=self.num_sink)

    @classmethod
    def of_model(cls, folder: Path, *, otherwise: "Sampling | None" = None) -> "Sampling":
        """The settings of a model folder; what its sampling.json does not say is as `otherwise`, or the default."""
        file, otherwise = folder / "sampling.json", otherwise or cls()
        if not file.exists():
            return otherwise
        from bdiff_core.checkpoint.places import read_json

        values, known = read_json(file), [field.name for field in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise ValueError(f"{file}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
        try:
            return replace(otherwise, **values)
        except ValueError as error:
            raise ValueError(f"{file}: no valid sampling settings: {error}") from None


def policy(name: str, *, coverage: float | None = None, seniority: float = 0.0, num_sink: int = 0) -> "Policy":
    """A memory policy by name; all but `full` show at most four chunks, beside the sink of the semantic one.

    Args:
        name: One of `POLICIES`.
        coverage: Share of the attention that the kept tokens of a chunk cover, in (0, 1]; None: the policy's own.
        seniority: Of the semantic policy; others choose by no similarity, which it would be added to.
        num_sink: Of the semantic policy; to others it is nothing.

    Raises:
        ValueError: If there is no such policy, or it keeps all tokens and a coverage is given.
    """
    found = _policy(name, seniority, num_sink)
    if coverage is None:
        return found
    import kvbank

    if not isinstance(found, kvbank.SemanticSparse | kvbank.DynamicSparse):
        raise ValueError(f"coverage is {coverage:g}; policy {name} keeps all tokens, leave the coverage away")
    return replace(found, coverage=coverage)


def _policy(name: str, seniority: float, num_sink: int) -> "Policy":
    import kvbank

    match name:
        case "semantic":
            return kvbank.SemanticSparse(top_l=2, num_recent=2, coverage=0.98, seniority=seniority, num_sink=num_sink)
        case "rolling":
            return kvbank.Rolling(num_chunks=4)
        case "sink":
            return kvbank.Sink(num_sink=2, num_recent=2)
        case "dynamic":
            return kvbank.DynamicSparse(num_chunks=4, coverage=0.98)
        case "full":
            return kvbank.Full()
    raise ValueError(f"policy is {name!r}; expected one of {', '.join(POLICIES)}")
