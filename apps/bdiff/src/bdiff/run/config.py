"""What a user asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from bdiff import defaults
from bdiff.run.parts import Parts
from bdiff_core import Storyboard

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """One video to make."""

    storyboard: Storyboard
    """What is to be seen."""
    out: Path = defaults.OUT
    """Folder for the video and everything about it; it must not exist, or be empty."""
    model: Path = defaults.WEIGHTS
    """Folder of the model, see `bdiff.run.surroundings`."""
    parts: Parts = field(default_factory=Parts)
    """What is taken from elsewhere than `model`."""
    preset: str | None = None
    """Name of the published checkpoint whose sampling is meant, see `bdiff.presets`; None: what the model says, or the
    preset that its files are recognised as."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Sampling` that are not as the model wants them; None is as not given."""
    seconds: float | None = None
    """Length of the video; None: of the storyboard."""
    long: bool = False
    """Allow more than a day of video, see `storyboard_prompts`."""
    seed: int = 0
    """Seed of every random draw."""
    policy: str | None = None
    """Which past chunks a chunk is shown, see `Sampling.policy`; None: what the model's `memory` says."""
    image: Path | None = None
    """A picture for the first chunk to show, or for an image-to-video model to go on from."""
    init_video: Path | None = None
    """A video for the first chunks to show; the storyboard and `seconds` are of what comes after it."""
    init_prompt: str | None = None
    """What is seen in `init_video`; None: the storyboard's first prompt."""
    device: str = "cpu"
    """Where to compute."""
    dtype: Dtype = "float32"
    """Number type of the transformer."""
    offload: bool | None = None
    """Load one part after the other, and keep each off the device while it is not needed; None: for pipelines."""
    attention: str = "auto"
    """Attention kernel, one of `defaults.ATTENTIONS`."""

    def changed(self, **values: Any) -> "SampleConfig":
        """The same but for some fields, or some `settings` by their names.

        Raises:
            ValueError: If there is neither a field nor a setting of a name.
        """
        own = {one.name for one in fields(self)}
        settings = {**self.settings, **{name: value for name, value in values.items() if name not in own}}
        defaults.Sampling().changed(settings)  # refuses names that are none
        return replace(self, **{"settings": settings, **{k: v for k, v in values.items() if k in own}})
