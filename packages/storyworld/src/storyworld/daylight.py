"""The daylight of a video, which changes slowly from frame to frame."""

import numpy as np

from storyworld.paint import Array

_DAY_SECONDS = 60.0, 100.0
_SLOW = 5.0  # times longer is the day of a take without cuts
_PALE = 0.5  # share of the changes of colour that it has
_DUSK = np.array([0.17, 0.13, 0.03])  # share of red, green and blue that is missing at dusk
_EVENING = np.array([0.0, 0.04, 0.11])
_MORNING = np.array([0.05, 0.01, 0.0])


def draw_daylight(rng: np.random.Generator, num_frames: int, *, fps: int, slow: bool = False) -> Array:
    """Gain [t, 3] in (0, 1] of red, green and blue: neutral at noon, warm in the evening, bluish at dusk.

    The length of the day and the hour of the first frame are drawn at random. The number of frames changes neither: a
    longer video begins with the frames of the shorter one. A slow day is five times longer and changes colours half as
    much, so that a minute of it hardly drifts.
    """
    period, start = rng.uniform(*_DAY_SECONDS), rng.uniform(0.0, 2.0 * np.pi)
    period *= _SLOW if slow else 1.0
    hour = (start + 2.0 * np.pi * np.arange(num_frames) / (fps * period))[:, None]
    night, late = (1.0 - np.cos(hour)) / 2.0, np.sin(hour)
    gain: Array = 1.0 - night * _DUSK - np.where(late > 0.0, _EVENING, _MORNING) * late**2
    if slow:
        gain = 1.0 - _PALE * (1.0 - gain)
    return gain.astype(np.float32)
