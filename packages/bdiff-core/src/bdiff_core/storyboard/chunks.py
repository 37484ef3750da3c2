"""Which shot each chunk of a video shows, and how many chunks fill a time."""

import math

from bdiff_core.storyboard.board import Storyboard

# Seconds whose frames can still be counted in floats.
_LONGEST = 1e300


def chunk_shots(
    storyboard: Storyboard,
    *,
    fps: float | int,
    frames_per_chunk: int,
    num_chunks: int | None = None,
    continued: bool = False,
    first_frames: int | None = None,
) -> list[int]:
    """Index of the shot that each chunk shows.

    A chunk shows the shot at its middle; the first chunk has 3 frames fewer, because of the causal VAE. Without times
    each chunk shows one shot. If `num_chunks` is more than the shots, they are spread evenly; if it is less, the last
    shots are left out.

    Args:
        storyboard: the shots.
        fps: frames a second.
        frames_per_chunk: frames of every chunk after the first one.
        num_chunks: length of the video; None: as long as the storyboard.
        continued: whether the chunks follow others, so that the first one is as long as the rest.
        first_frames: frames of the first chunk of a video; None: 3 fewer than in the others.
    """
    if fps <= 0 or frames_per_chunk < 4:
        raise ValueError(f"fps is {fps} and frames_per_chunk {frames_per_chunk}; expected above 0 and at least 4")
    if num_chunks is not None and num_chunks < 1:
        raise ValueError(f"num_chunks is {num_chunks}; expected at least 1")
    num_shots = len(storyboard.shots)
    if not storyboard.is_timed:
        num_chunks = num_chunks or num_shots
        return [index * num_shots // num_chunks if num_chunks > num_shots else index for index in range(num_chunks)]
    if num_chunks is None:
        if storyboard.duration is None:
            raise ValueError("the last shot has no end: give it one, or give num_chunks")
        num_chunks = count_chunks(
            storyboard.duration,
            fps=fps,
            frames_per_chunk=frames_per_chunk,
            continued=continued,
            first_frames=first_frames,
        )
    first = _first_frames(frames_per_chunk, continued=continued, first_frames=first_frames)
    middles = [first / 2, *(first + (index - 0.5) * frames_per_chunk for index in range(1, num_chunks))]
    return [storyboard.shot_at(frame / fps) for frame in middles]


def count_chunks(
    seconds: float | int,
    *,
    fps: float | int,
    frames_per_chunk: int,
    continued: bool = False,
    first_frames: int | None = None,
) -> int:
    """How many chunks it takes to fill a time; the first one is shorter or longer as in `chunk_shots`.

    Up to half a frame may be missing at the end, so that a rounded time does not need a whole chunk more. The answer
    comes at once for any time; check it before `chunk_shots` makes a list of that length.
    """
    if not 0 < seconds <= _LONGEST:
        given = f"{seconds:g}" if abs(seconds) <= _LONGEST or isinstance(seconds, float) else "beyond all numbers"
        raise ValueError(f"seconds is {given}; expected a number above 0, and no more than {_LONGEST:g}")
    lacking = frames_per_chunk - _first_frames(frames_per_chunk, continued=continued, first_frames=first_frames)
    return max(1, math.ceil((seconds * fps + lacking - 0.5) / frames_per_chunk))


def _first_frames(frames_per_chunk: int, *, continued: bool, first_frames: int | None) -> int:
    """Frames of the first chunk."""
    if continued:
        return frames_per_chunk
    return frames_per_chunk - 3 if first_frames is None else first_frames
