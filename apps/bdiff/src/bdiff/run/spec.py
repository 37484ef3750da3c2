"""What a run is to make, chunk by chunk, in a form that outlives the command that asked for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from bdiff import defaults
from bdiff.run.given_picture import GivenPicture
from bdiff.run.given_video import InitVideo
from noisesched import NoiseStream

if TYPE_CHECKING:
    from kvbank.policies import Policy


@dataclass(frozen=True, slots=True)
class Take:
    """One chunk to be made."""

    prompt: str
    seed: int
    """Of its noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """A film: its chunks in order, and with what they are made."""

    title: str
    takes: tuple[Take, ...]
    model: str
    """Folder of the model, absolute."""
    weights: Mapping[str, str]
    """SHA-256 of each of its files."""
    sampling: defaults.Sampling
    policy: str
    seed: int
    """Of the memory's random probes, and of the noise unless a take has its own."""
    image: GivenPicture | None = None
    """What the first take shows, or an image-to-video model goes on from."""
    init_video: InitVideo | None = None
    """What the first takes show instead of being made."""
    device: str = "cpu"
    dtype: str = "float32"
    offload: bool = False
    """Parts are loaded one after the other."""
    attention: str = "sdpa"
    """The kernel, by its own name: `auto` could be another one when the run goes on."""

    def __post_init__(self) -> None:
        if self.dtype not in defaults.DTYPES or not isinstance(self.model, str):
            known = ", ".join(defaults.DTYPES)
            raise ValueError(f"dtype is {self.dtype!r}, model {self.model!r}; expected one of {known}, and a name")
        if not self.takes:
            raise ValueError("a film has no chunks; expected at least one")
        if self.sampling.mode == "whole" and len({take.prompt for take in self.takes}) > 1:
            raise ValueError("the whole mode tells the model one prompt; give one, or --mode overlap or cached")

    def retaken(self, first: int, *, seed: int | None = None, prompt: str | None = None) -> "Script":
        """The script with other takes from chunk ``first`` on.

        Args:
            first: Where the film is to go another way.
            seed: Of the noise from there on; None: the one after the seed that chunk ``first`` had, or the same one
                with another prompt.
            prompt: Of chunk ``first`` and of those after it that had its prompt; None: as they were.

        Raises:
            ValueError: If there is no such chunk, or it is given.
        """
        if not 0 <= first < len(self.takes):
            raise ValueError(f"chunk {first} is not of this film; it has chunks 0 to {len(self.takes) - 1}")
        if first < self.num_given:
            raise ValueError(
                f"chunk {first} is of {self.init_video and self.init_video.path}; expected one that was made, from "
                f"{self.num_given} on"
            )
        if seed is None:
            seed = self.takes[first].seed + (prompt is None)
        takes, same = list(self.takes), True
        for index in range(first, len(takes)):
            same = same and takes[index].prompt == self.takes[first].prompt
            takes[index] = Take(prompt if prompt is not None and same else takes[index].prompt, seed)
        return replace(self, takes=tuple(takes))

    def make_policy(self) -> "Policy":
        """Which past chunks a chunk is shown."""
        return self.sampling.memory(self.policy)

    @property
    def num_given(self) -> int:
        """Chunks at the beginning that show a given video."""
        return 0 if self.init_video is None else self.init_video.num_chunks

    def needs_picture(self, num_made: int) -> bool:
        """Whether the picture must still be read once so many chunks are made: the cached mode makes them for good."""
        return self.image is not None and not (self.sampling.mode == "cached" and num_made)

    def extended(self, prompts: Sequence[str]) -> "Script":
        """The script with more chunks at its end."""
        seed = self.takes[-1].seed
        return replace(self, takes=(*self.takes, *(Take(prompt, seed) for prompt in prompts)))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes the same script of."""
        return {**asdict(self), "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Script":
        """The script that `to_json` gave."""
        image, video = values.get("image"), values.get("init_video")
        if isinstance(image, str):  # as older versions wrote it
            image = {"path": image, "sha256": None}
        parsed = {
            "takes": tuple(Take(**take) for take in values["takes"]),
            "sampling": defaults.Sampling(**values["sampling"]),
            "image": image and GivenPicture(**image),
            "init_video": video and InitVideo(**video),
        }
        return cls(**{**values, **parsed})

    def missing(self) -> str | None:
        """What of the model is no longer what it was, in words; None if nothing."""
        from bdiff.run.record import digests

        folder = Path(self.model)
        if not folder.is_dir():
            return f"{folder} is no longer there"
        changed = [name for name, digest in digests(folder).items() if self.weights.get(name) != digest]
        return f"{folder / changed[0]} has changed" if changed else None


class TakeNoise:
    """The noise of each chunk from the stream of its take's seed."""

    def __init__(self, takes: Sequence[Take], frame_shape: tuple[int, ...], num_frames: int, *, base: str) -> None:
        self._takes = takes
        self._streams = {
            seed: NoiseStream(frame_shape, num_frames, seed=seed, base=base) for seed in {take.seed for take in takes}
        }

    def chunk(self, index: int) -> Float[Tensor, "frames c h w"]:
        """Noise of a chunk."""
        return self._streams[self._takes[index].seed].chunk(index)

    def step(self, index: int, step: int) -> Float[Tensor, "frames c h w"]:
        """Noise that a sampler adds again at a step of a chunk."""
        return self._streams[self._takes[index].seed].step(index, step)
