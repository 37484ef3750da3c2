"""Frames as a player shows them: at their time, upright, and with square pixels."""

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
"""Seconds. If a frame would be shown for longer, the next time stamp is taken to be wrong."""
LATEST = 10
"""Seconds. A frame that comes late by up to this is left out; a later one means that the time stamps start again."""
MOST_LATE = 16
"""How many frames in a row may come late. Decoders hold back no more; after that the time stamps start again."""
LONGEST = 24 * 3600
"""Seconds. A video that is longer by its time stamps is refused when it is shown at a rate."""
_STRETCH = 16
"""The largest aspect of a pixel that is believed."""


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame as a player shows it."""

    frame: "VideoFrame"
    """The frame as it is stored."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a stored pixel divided by its height."""

    @property
    def height(self) -> int:
        """Height of the shown picture in pixels."""
        return self._stored_size[1 if self._is_on_its_side else 0]

    @property
    def width(self) -> int:
        """Width of the shown picture in pixels."""
        return self._stored_size[0 if self._is_on_its_side else 1]

    def rgb(
        self, *, height: int | None = None, width: int | None = None, interpolation: str = "BICUBIC"
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels as RGB, 0 to 255, without alpha; 10-bit video becomes 8-bit.

        Args:
            height: Height to scale to; the frame's own unless given.
            width: Width to scale to; the frame's own unless given.
            interpolation: Name of the method of FFmpeg that scales, such as ``AREA``.
        """
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
        """Height and width of the stored picture, if its pixels were square."""
        return self.frame.height, max(1, round(self.frame.width * self.pixel_aspect))

    @property
    def _is_on_its_side(self) -> bool:
        a, b, c, d = self._matrix
        return abs(a) + abs(d) < abs(b) + abs(c)

    @property
    def _matrix(self) -> tuple[int, int, int, int]:
        """Directions of the axes of the stored picture: x points to (a, b), y points to (c, d)."""
        found: Any = self.frame.side_data.get("DISPLAYMATRIX")
        if found is None:
            return 1, 0, 0, 1
        a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
        return a, b, c, d


class Clock:
    """When each frame is shown, in seconds since the first frame.

    Times come from the time stamps where these make sense.

    Args:
        usual: How long a frame is shown if it does not say.
    """

    def __init__(self, usual: Fraction) -> None:
        self._usual = usual
        self._shift = self._start = self._until = Fraction(0)
        self._begun, self._late_in_a_row = False, 0
        self.jumps, self.late = 0, 0

    def place(self, stamp: Fraction | None, duration: Fraction | None) -> tuple[Fraction, Fraction] | None:
        """Start and end of the next frame; None if the frame comes too late to be shown.

        Args:
            stamp: The frame's time stamp in seconds; None if it has none.
            duration: How long it should be shown, in seconds; None if it does not say.
        """
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
        """What is wrong with the time stamps, in words; None if nothing is."""
        found = []
        if self.jumps:
            found.append(f"jumps of the time stamps, where a frame follows the one before at once: {self.jumps}")
        if self.late:
            found.append(f"frames that come too late to be shown: {self.late}")
        return "; ".join(found) or None


def pixel_aspect(stream: "VideoStream") -> Fraction:
    """Width of a pixel divided by its height; 1 if the file gives no sensible value."""
    given = stream.sample_aspect_ratio
    if not given:
        return Fraction(1)
    aspect = Fraction(given.numerator, given.denominator)
    return aspect if Fraction(1, _STRETCH) <= aspect <= _STRETCH else Fraction(1)


def at_rate(decoding: Any, clock: Clock, fps: Fraction) -> "Iterator[VideoFrame]":
    """Sample a video at a fixed rate: the frame that is shown in the middle of every 1 / ``fps`` seconds.

    Args:
        decoding: The frames in order, and their ``stream``: a `vde_metrics.video.containers.Decoding`.
        clock: Gives each frame its time.
        fps: Frames per second.

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
    """How long a frame of the stream is shown if it does not say, in seconds: 1 / frame rate."""
    rates = [Fraction(rate.numerator, rate.denominator) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return 1 / next((rate for rate in rates if Fraction(1, LONGEST_HELD) <= rate <= 1000), Fraction(25))


def _times(frame: "VideoFrame", stream: "VideoStream") -> tuple[Fraction | None, Fraction | None]:
    """Time stamp and duration of a frame, in seconds."""
    base = frame.time_base or stream.time_base
    if not base:
        return None, None
    second = Fraction(base.numerator, base.denominator)
    stamp = None if frame.pts is None else frame.pts * second
    return stamp, frame.duration * second if frame.duration else None
