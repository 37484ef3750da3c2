"""Frames as a player shows them: which is on the screen when, upright, and with square pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

LONGEST_HELD = 600
"""Seconds: a frame that would be seen for longer has a wrong time stamp after it."""
LATEST = 10
"""Seconds: a frame that comes up to so much too late is left out; more than that, and the clock was set anew."""
MOST_LATE = 16
"""So many frames in a row may come too late, the most that decoders hold back; more, and the clock was set anew."""
LONGEST = 24 * 3600
"""Seconds of a video that is shown at a rate: more is taken for a fault of its time stamps."""
_STRETCH = 16


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame as a player shows it."""

    frame: "VideoFrame"
    """As it is stored."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a stored pixel in heights of it."""

    @property
    def height(self) -> int:
        """Height of the picture that is seen, in pixels."""
        return self._stored_size[1 if self._is_on_its_side else 0]

    @property
    def width(self) -> int:
        """Width of the picture that is seen, in pixels."""
        return self._stored_size[0 if self._is_on_its_side else 1]

    def rgb(
        self, *, height: int | None = None, width: int | None = None, interpolation: str = "BICUBIC"
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Its pixels, at its own size or scaled to another; alpha is left out, 10 bits become 8."""
        a, b, c, d = self._matrix
        size = (height or self.height, width or self.width)
        rows, columns = size[::-1] if self._is_on_its_side else size
        scaled: dict[str, Any] = {}
        if (rows, columns) != (self.frame.height, self.frame.width):
            scaled = {"height": rows, "width": columns, "interpolation": interpolation}
        pixels = self.frame.reformat(format="rgb24", **scaled).to_ndarray()
        if self._is_on_its_side:
            pixels, flips = pixels.transpose(1, 0, 2), (b < 0, c < 0)
        else:
            flips = (d < 0, a < 0)
        return np.ascontiguousarray(pixels[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1])

    @property
    def _stored_size(self) -> tuple[int, int]:
        """As it lies in the file, with square pixels."""
        return self.frame.height, max(1, round(self.frame.width * self.pixel_aspect))

    @property
    def _is_on_its_side(self) -> bool:
        a, b, c, d = self._matrix
        return abs(a) + abs(d) < abs(b) + abs(c)

    @property
    def _matrix(self) -> tuple[int, int, int, int]:
        """Where the axes of the stored picture point: x to (a, b), y to (c, d)."""
        found: Any = self.frame.side_data.get("DISPLAYMATRIX")
        if found is None:
            return 1, 0, 0, 1
        a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
        return a, b, c, d


class Clock:
    """From when until when frames are seen, in seconds since the first: by their time stamps, where these make sense.

    Args:
        usual: How long a frame is seen, as a rule.
    """

    def __init__(self, usual: Fraction) -> None:
        self._usual = usual
        self._shift = self._start = self._until = Fraction(0)
        self._begun, self._late_in_a_row = False, 0
        self.jumps, self.late = 0, 0

    def place(self, stamp: Fraction | None, duration: Fraction | None) -> tuple[Fraction, Fraction] | None:
        """When the next frame is seen; None if it comes too late to be seen at all."""
        if not self._begun:
            self._shift, self._begun = -(stamp or Fraction(0)), True
        start = self._until if stamp is None else stamp + self._shift
        self._late_in_a_row = self._late_in_a_row + 1 if start < self._start else 0
        if not -LATEST <= start - self._start <= LONGEST_HELD or self._late_in_a_row > MOST_LATE:
            self.jumps += 1
            self._shift += self._until - start
            start, self._late_in_a_row = self._until, 0
        elif self._late_in_a_row:
            self.late += 1
            return None
        if not duration or not 0 < duration <= LONGEST_HELD:
            duration = self._usual
        self._start, self._until = start, start + duration
        return self._start, self._until

    def problem(self) -> str | None:
        """What is wrong with the time stamps; None if nothing."""
        found = []
        if self.jumps:
            found.append(f"jumps of the time stamps, where a frame follows the one before at once: {self.jumps}")
        if self.late:
            found.append(f"frames that come too late to be shown: {self.late}")
        return "; ".join(found) or None


def pixel_aspect(stream: "VideoStream") -> Fraction:
    """Width of a pixel in heights of it; what cannot be meant counts as square."""
    given = stream.sample_aspect_ratio
    if not given:
        return Fraction(1)
    aspect = Fraction(given.numerator, given.denominator)
    return aspect if Fraction(1, _STRETCH) <= aspect <= _STRETCH else Fraction(1)


def at_rate(decoding: Any, clock: Clock, fps: Fraction) -> "Iterator[VideoFrame]":
    """What is on the screen in the middle of each frame of a player that shows ``fps`` a second.

    Args:
        decoding: The frames in order, as `vde_metrics.containers.Decoding` gives them, and their ``stream``.
        clock: Gives each frame its time.
        fps: Frames a second.

    Raises:
        OverflowError: If the video is longer than a day.
    """
    number, held, until = 0, None, Fraction(0)
    for frame in decoding:
        times = clock.place(*_times(frame, decoding.stream))
        if times is None:
            continue
        if times[0] > LONGEST:
            raise OverflowError(f"by its time stamps it is longer than {LONGEST // 3600} hours")
        while held is not None and Fraction(2 * number + 1) / (2 * fps) < times[0]:
            yield held
            number += 1
        held, until = frame, times[1]
    while held is not None and Fraction(2 * number + 1) / (2 * fps) < until:
        yield held
        number += 1


def usual_duration(stream: "VideoStream") -> Fraction:
    """How long a frame is seen, as a rule."""
    rates = [Fraction(rate.numerator, rate.denominator) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return 1 / next((rate for rate in rates if Fraction(1, LONGEST_HELD) <= rate <= 1000), Fraction(25))


def _times(frame: "VideoFrame", stream: "VideoStream") -> tuple[Fraction | None, Fraction | None]:
    """The time stamp of a frame and how long it is to be seen, in seconds."""
    base = frame.time_base or stream.time_base
    if not base:
        return None, None
    second = Fraction(base.numerator, base.denominator)
    stamp = None if frame.pts is None else frame.pts * second
    return stamp, frame.duration * second if frame.duration else None
