"""How long a video becomes, bounded in one place before anything is made for its chunks."""

from typing import Any

from bdiff import defaults
from bdiff_core import Storyboard
from bdiff_core.storyboard import chunk_shots, count_chunks


def storyboard_prompts(
    storyboard: Storyboard,
    sampling: defaults.Sampling,
    *,
    seconds: float | None = None,
    after: int = 0,
    long: bool = False,
) -> list[str]:
    """The prompt of every chunk of a video, or of its continuation.

    Args:
        storyboard: What is to be seen.
        sampling: Frames a second and frames of a chunk.
        seconds: Length of what the storyboard describes; None: the storyboard's own.
        after: Chunks that are there before.
        long: Allow more than a day in all, up to `defaults.LONGEST`.

    Raises:
        ValueError: If the video would be longer than is allowed.
    """
    rhythm: dict[str, Any] = {
        "fps": sampling.fps,
        "frames_per_chunk": sampling.frames_per_chunk,
        "continued": after > 0,
        "first_frames": sampling.first_frames,
    }
    _check_length(storyboard, sampling, seconds=seconds, after=after, long=long)
    num_chunks = None if seconds is None else count_chunks(seconds, **rhythm)
    return [storyboard.shots[shot].prompt for shot in chunk_shots(storyboard, num_chunks=num_chunks, **rhythm)]


def _check_length(
    storyboard: Storyboard, sampling: defaults.Sampling, *, seconds: float | None, after: int, long: bool
) -> None:
    """Refuse a video that is too long, before anything is made for its chunks."""
    wanted = storyboard.duration if seconds is None else seconds
    if wanted is None and storyboard.is_timed:
        raise ValueError("the last shot has no end; give it one, or say how long the video is with --seconds")
    chunk, most = sampling.frames_per_chunk / sampling.fps, defaults.LONGEST if long else defaults.DAY
    length = after * chunk + (len(storyboard.shots) * chunk if wanted is None else wanted)
    if length > most:
        way_out = "shorten it" if long else "shorten it, or allow up to 30 days with --long"
        hint = "; its times are read as seconds" if seconds is None and storyboard.is_timed else ""
        found, allowed = f"{length / 3600:.4g} hours", f"{most // 3600} hours"
        if found == allowed:
            found, allowed = f"{length:.9g} s", f"{most} s"
        raise ValueError(f"this is {found} of video; expected at most {allowed}: {way_out}{hint}")
