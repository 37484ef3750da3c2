"""Charts of chunk scores as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 32
NUM_COLOURS = 6
DASHES = ("", "6 3", "2 3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The scores of a video, or the mean of several videos."""

    label: str
    """Shown when the pointer is on the curve."""
    scores: Sequence[float | None]
    """One score per chunk. Chunks without a score are skipped."""
    number: int
    """Number of the colour. Curves after the sixth also have dashes."""
    is_faint: bool = False
    """Whether the curve is one of many behind their mean, drawn thin."""


def chart(name: str, curves: Sequence[Curve]) -> str:
    """A chart of scores over chunks. Its vertical axis shows the range of the scores and need not include 0."""
    most = max(len(curve.scores) for curve in curves)
    known = [score for curve in curves for score in curve.scores if score is not None]
    ticks = nice_ticks(min(known), max(known))
    frame = _Frame(most=most, low=ticks[0], high=ticks[-1])
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)} of every chunk">']
    for tick in ticks:
        height = frame.y(tick)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{tick:.6g}</text>'
        )
    step = max(1, math.ceil(most / 20))
    parts.append(f'<text x="{LEFT - 20}" y="{HEIGHT - 12}" text-anchor="end">chunk</text>')
    parts += [
        f'<text x="{frame.x(chunk):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{chunk}</text>'
        for chunk in range(0, most, step)
    ]
    parts += [_curve(curve, frame) for curve in curves]
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """Positions of chunks and scores in the picture."""

    most: int
    low: float
    high: float

    def x(self, chunk: int) -> float:
        return LEFT + chunk / (self.most - 1) * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        return TOP + (self.high - score) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def _curve(curve: Curve, frame: _Frame) -> str:
    stroke = f'style="stroke: var(--c{curve.number % NUM_COLOURS})"'
    dashes = DASHES[curve.number // NUM_COLOURS % len(DASHES)]
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    heights = [(i, frame.y(score)) for i, score in enumerate(curve.scores) if score is not None]
    points = " ".join(f"{frame.x(i):.1f},{height:.1f}" for i, height in heights)
    kind = "curve faint" if curve.is_faint else "curve"
    drawn = f'<polyline class="{kind}" {stroke}{dash} points="{points}"><title>{escape(curve.label)}</title></polyline>'
    if curve.is_faint:
        return drawn
    first = f"{heights[0][1]:.1f}"
    return f'<line class="first" {stroke} x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{first}" y2="{first}"/>{drawn}'


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to eight round values that enclose a range. They differ in their first six digits."""
    span = max(high - low, 1e-4 * max(abs(low), abs(high)))
    if span < 1e-100:
        span = 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor * 4.5 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    return [i * step for i in range(first, last + 1)]
