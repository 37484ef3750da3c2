"""The contact sheet: every chunk with its prompt and the chunks it was shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PICTURE, _THUMBNAIL = 256, 46
_GAP, _MARGIN = 24, 40
_HEADER, _CAPTION, _MEMORY = 104, 68, 70
PAPER, INK, FAINT = "#fbfaf7", "#1d1f23", "#7a7d85"
COLOURS = {"recalled": "#d9480f", "recent": "#adb5bd", "sink": "#1971c2"}
MEANING = {"recalled": "recalled by meaning", "recent": "recent", "sink": "first chunks"}
_MAX_CELLS = 60
_MAX_THUMBNAILS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What the sheet shows of one chunk."""

    index: int
    seconds: float
    """When it starts."""
    prompt: str
    picture: np.ndarray
    """Its middle frame, uint8 [h w 3]; all chunks have frames of one size."""
    recall: Sequence[tuple[int, str]]
    """The chunks it was shown, each with its kind: `recent`, `recalled` or `sink`."""


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """A frame, no larger than a cell."""
    image = Image.fromarray(frame)
    image.thumbnail((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def shown_on_sheet(num_chunks: int) -> list[int]:
    """The chunks that a sheet has room for: all of a short video, evenly chosen ones of a long one."""
    count = min(num_chunks, _MAX_CELLS)
    return [round(position * (num_chunks - 1) / max(1, count - 1)) for position in range(count)]


def draw_sheet(
    cells: Sequence[Cell],
    *,
    title: str,
    subtitle: str,
    columns: int = 5,
    pictures: Mapping[int, np.ndarray] | None = None,
) -> Image.Image:
    """Draws the sheet; of a long video it shows evenly chosen chunks.

    Args:
        cells: the chunks in order; at least one.
        title: the first line.
        subtitle: the second line.
        columns: cells in a row.
        pictures: middle frames of chunks that were recalled and have no cell, by index.
    """
    if not cells:
        raise ValueError("cells is empty; a contact sheet needs at least one chunk")
    known = {**(pictures or {}), **{cell.index: cell.picture for cell in cells}}
    shown = [cells[place] for place in shown_on_sheet(len(cells))]
    count = len(shown)
    columns = min(columns, count)
    picture_height = _enlarged(Image.fromarray(cells[0].picture)).height
    cell_height = picture_height + _CAPTION + _MEMORY
    rows = -(-count // columns)
    # A sheet of one or two chunks still has to hold the header.
    width = max(2 * _MARGIN + columns * (_PICTURE + _GAP) - _GAP, 2 * _MARGIN + 3 * (_PICTURE + _GAP))
    height = _MARGIN + _HEADER + rows * (cell_height + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    kinds = {kind for cell in cells for _, kind in cell.recall}
    _draw_header(draw, title=title, subtitle=subtitle, kinds=[kind for kind in COLOURS if kind in kinds])
    for place, cell in enumerate(shown):
        x = _MARGIN + place % columns * (_PICTURE + _GAP)
        y = _MARGIN + _HEADER + place // columns * (cell_height + _GAP)
        sheet.paste(_enlarged(Image.fromarray(cell.picture)), (x, y))
        _draw_caption(draw, cell, x=x, y=y + picture_height + 8)
        _draw_memory(sheet, draw, cell, known, x=x, y=y + picture_height + _CAPTION + 4)
    return sheet


def _enlarged(picture: Image.Image) -> Image.Image:
    """A picture at the size of a cell; small ones keep their pixels visible."""
    ratio = _PICTURE / max(picture.size)
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if ratio > 1 else Image.Resampling.LANCZOS)


def _draw_header(draw: ImageDraw.ImageDraw, *, title: str, subtitle: str, kinds: Sequence[str]) -> None:
    draw.text((_MARGIN, _MARGIN - 8), title, INK, _font(30, bold=True))
    draw.text((_MARGIN, _MARGIN + 34), subtitle, FAINT, _font(15))
    if not kinds:
        return
    x, y = float(_MARGIN), _MARGIN + 63
    font = _font(13)
    draw.text((x, y), "Small pictures: what the chunk was shown of the past —", FAINT, font)
    x += draw.textlength("Small pictures: what the chunk was shown of the past —", font) + 14
    for kind in kinds:
        draw.rectangle((x, y + 3, x + 11, y + 14), outline=COLOURS[kind], width=3)
        draw.text((x + 18, y), MEANING[kind], FAINT, font)
        x += 18 + draw.textlength(MEANING[kind], font) + 18


def _draw_caption(draw: ImageDraw.ImageDraw, cell: Cell, *, x: int, y: int) -> None:
    number = str(cell.index)
    draw.text((x, y), number, INK, _font(15, bold=True))
    minutes, seconds = divmod(cell.seconds, 60)
    offset = draw.textlength(number, _font(15, bold=True)) + 8
    draw.text((x + offset, y + 2), f"{int(minutes)}:{seconds:04.1f}", FAINT, _font(12))
    for line, text in enumerate(_wrap(draw, cell.prompt, _font(13), lines=2)):
        draw.text((x, y + 21 + 17 * line), text, INK, _font(13))


def _draw_memory(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, pictures: Mapping[int, np.ndarray], *, x: int, y: int
) -> None:
    if not cell.recall:
        draw.text((x, y + 2), "nothing to remember yet", FAINT, _font(12))
        return
    # What was recalled says more than what was near.
    order = {"recalled": 0, "sink": 1, "recent": 2}
    ranked = sorted(cell.recall, key=lambda entry: order[entry[1]])
    visible = ranked if len(ranked) <= _MAX_THUMBNAILS else ranked[: _MAX_THUMBNAILS - 1]
    for chunk, kind in visible:
        small = Image.fromarray(pictures[chunk])
        small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
        draw.rectangle((x, y, x + small.width + 3, y + small.height + 3), outline=COLOURS[kind], width=2)
        sheet.paste(small, (x + 2, y + 2))
        middle = x + small.width // 2 + 2
        strong = kind == "recalled"
        draw.text((middle, y + small.height + 5), str(chunk), INK if strong else FAINT, _font(12, bold=strong), "ma")
        x += small.width + 6
    if len(visible) < len(ranked):
        draw.text((x + 2, y + 16), f"+{len(ranked) - len(visible)}", FAINT, _font(12))


def _wrap(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, *, lines: int) -> list[str]:
    wrapped = [""]
    for word in text.split():
        longer = f"{wrapped[-1]} {word}".strip()
        if draw.textlength(longer, font) <= _PICTURE or not wrapped[-1]:
            wrapped[-1] = longer
        else:
            wrapped.append(word)
    if len(wrapped) > lines:
        wrapped[lines - 1] += "…"
    return [_fit(draw, line, font) for line in wrapped[:lines]]


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont) -> str:
    if draw.textlength(text, font) <= _PICTURE:
        return text
    while draw.textlength(text + "…", font) > _PICTURE:
        text = text[:-1]
    return text.rstrip("…") + "…"


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib carries DejaVu, so letters look alike everywhere.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
