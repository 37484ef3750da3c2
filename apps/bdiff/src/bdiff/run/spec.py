"""What a run is to make, chunk by chunk, in a form that outlives the command that asked for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdiff import defaults
from bdiff.run.given_picture import GivenPicture
from bdiff.run.given_video import InitVideo
from bdiff.run.model_files import change
from bdiff.run.parts import Parts

if TYPE_CHECKING:
    from kvbank import Policy


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """One chunk to be made."""

    prompt: str
    seed: int
    """Seed of its noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """A video: its chunks in order, and with what they are made."""

    title: str
    chunks: tuple[ChunkSpec, ...]
    model: str
    """Folder of the model, absolute."""
    weights: Mapping[str, str]
    """SHA-256 of each of its files."""
    sampling: defaults.Sampling
    policy: str
    seed: int
    """Seed of the memory's random probes, and of the noise unless a chunk has its own."""
    parts: Parts = field(default_factory=Parts)
    """What is taken from elsewhere than the folder; its files are in `weights` by their absolute paths."""
    preset: str | None = None
    """Name of the preset that the settings come from; None: they come from none."""
    image: GivenPicture | None = None
    """What the first chunk shows, or an image-to-video model goes on from."""
    init_video: InitVideo | None = None
    """What the first chunks show instead of being made."""
    device: str = "cpu"
    dtype: str = "float32"
    offload: bool = False
    """Whether parts are loaded one after the other."""
    attention: str = "sdpa"
    """The attention kernel by its own name: `auto` could be another one when the run goes on."""

    def __post_init__(self) -> None:
        if self.dtype not in defaults.DTYPES or not isinstance(self.model, str):
            known = ", ".join(defaults.DTYPES)
            raise ValueError(f"dtype is {self.dtype!r}, model {self.model!r}; expected one of {known}, and a name")
        if not self.chunks:
            raise ValueError("a video has no chunks; expected at least one")
        if self.sampling.mode == "whole" and len({chunk.prompt for chunk in self.chunks}) > 1:
            raise ValueError("the whole mode takes one prompt for all frames; give one, or --mode overlap or cached")

    def rerolled(self, first: int, *, seed: int | None = None, prompt: str | None = None) -> "RunSpec":
        """The same video up to a chunk, and another one from there on.

        Args:
            first: The first chunk to be made anew.
            seed: Seed of the noise from there on; None: the one after the seed that chunk ``first`` had, or the same
                one with another prompt.
            prompt: Prompt of chunk ``first`` and of those after it that had its prompt; None: as they were.

        Raises:
            ValueError: If there is no such chunk, or it is given.
        """
        if not 0 <= first < len(self.chunks):
            raise ValueError(f"there is no chunk {first}; this video has chunks 0 to {len(self.chunks) - 1}")
        if first < self.num_given:
            raise ValueError(
                f"chunk {first} is of {self.init_video and self.init_video.path}; expected one that was made, from "
                f"{self.num_given} on"
            )
        if seed is None:
            seed = self.chunks[first].seed + (prompt is None)
        chunks, same = list(self.chunks), True
        for index in range(first, len(chunks)):
            same = same and chunks[index].prompt == self.chunks[first].prompt
            chunks[index] = ChunkSpec(prompt if prompt is not None and same else chunks[index].prompt, seed)
        return replace(self, chunks=tuple(chunks))

    def extended(self, prompts: Sequence[str]) -> "RunSpec":
        """The same video with more chunks at its end."""
        seed = self.chunks[-1].seed
        return replace(self, chunks=(*self.chunks, *(ChunkSpec(prompt, seed) for prompt in prompts)))

    def make_policy(self) -> "Policy":
        """Which past chunks a chunk is shown."""
        return self.sampling.policy(self.policy)

    @property
    def num_given(self) -> int:
        """Chunks at the beginning that show a given video."""
        return 0 if self.init_video is None else self.init_video.num_chunks

    def needs_picture(self, num_made: int) -> bool:
        """Whether the picture must still be read once so many chunks are made.

        In the cached mode chunks that were made stay as they are; in the others all may have to be made anew.
        """
        return self.image is not None and not (self.sampling.mode == "cached" and num_made)

    def missing(self) -> str | None:
        """What of the model is no longer what it was, in words; None if nothing."""
        return change(Path(self.model), self.weights) or self.parts.change(self.weights)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes the same specification of."""
        values = asdict(self)
        return {**values, "takes": values.pop("chunks"), "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunSpec":
        """The specification that `to_json` gave."""
        known = dict(values)
        image, video = known.get("image"), known.get("init_video")
        if isinstance(image, str):  # as older versions wrote it
            image = {"path": image, "sha256": None}
        parsed = {
            "chunks": tuple(ChunkSpec(**chunk) for chunk in known.pop("takes")),
            "sampling": defaults.Sampling.from_json(known["sampling"]),
            "parts": Parts(**{**known.get("parts", {}), "loras": tuple(known.get("parts", {}).get("loras", ()))}),
            "image": image and GivenPicture(**image),
            "init_video": video and InitVideo(**video),
        }
        return cls(**{**known, **parsed})
