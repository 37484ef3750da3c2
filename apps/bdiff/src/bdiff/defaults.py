"""What `bdiff sample` does unless told otherwise, and where the shipped files are."""

import json
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

NOISES = ("fresh", "shared")
"""Names of the base noise."""

POLICIES = ("semantic", "rolling", "sink", "dynamic", "full")
"""Names of `policy`."""


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
    noise: str = "fresh"
    """Base noise of a chunk: its own (fresh) or that of all chunks (shared, the paper's)."""
    richness: int = 1
    """Of the storyworld films that the model knows; benches let it tell such."""

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise ValueError(f"noise is {self.noise!r}; expected one of {', '.join(NOISES)}")
        for field in (field for field in fields(self) if field.name != "noise"):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | field.type) or not math.isfinite(value):
                raise ValueError(f"{field.name} is {value!r}; expected a number of type {field.type.__name__}")
            least = "a number from 0" if field.name == "richness" else "a number above 0"
            if value < 0 or (value == 0 and field.name != "richness"):
                raise ValueError(f"{field.name} is {value}; expected {least}")

    @property
    def frames_per_chunk(self) -> int:
        """Pixel frames of a chunk after the first one, which has 3 fewer."""
        return 4 * self.latent_frames

    @classmethod
    def of_model(cls, folder: Path) -> "Sampling":
        """The settings of a model folder."""
        file = folder / "sampling.json"
        if not file.exists():
            return cls()
        try:
            values = json.loads(file.read_text())
            return replace(cls(), **values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: no valid sampling settings: {error}") from None


def policy(name: str) -> "Policy":
    """A memory policy by name; all but `full` show at most four chunks, as the shipped model was trained."""
    import kvbank

    match name:
        case "semantic":
            return kvbank.SemanticSparse(top_l=2, num_recent=2, coverage=0.98)
        case "rolling":
            return kvbank.Rolling(num_chunks=4)
        case "sink":
            return kvbank.Sink(num_sink=2, num_recent=2)
        case "dynamic":
            return kvbank.DynamicSparse(num_chunks=4, coverage=0.98)
        case "full":
            return kvbank.Full()
    raise ValueError(f"policy is {name!r}; expected one of {', '.join(POLICIES)}")
