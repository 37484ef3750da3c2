"""The memory's trace in a form to read: which chunk was shown which others, why, and how much of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bdiff.files import write_whole
from bdiff.output.contact_sheet import COLOURS, FAINT, INK, MEANING, PAPER
from bdiff.output.markdown import markdown_table

_FONT = "DejaVu Sans, Verdana, sans-serif"
_MARGIN, _HEADER = 28, 84
_CELL, _SMALL_CELL = 18, 5
_PROMPT = 330
_MANY = 80
"""More chunks than this are drawn as small cells without their prompts."""

_HEADS = {"sink": "first", "recalled": "recalled", "recent": "recent"}
"""Columns of the table by the kinds of what is shown."""

Trace = Mapping[str, Any]
"""What ``trace.json`` holds."""


def write_trace(trace: Trace, folder: Path, *, fps: int) -> None:
    """Write ``trace.svg``, a picture of all recalls, and ``trace.md``, the same as a table.

    Args:
        trace: The policy and, chunk by chunk, what was shown.
        folder: Where the files go.
        fps: Frames a second, for the times.
    """
    times = _times(trace["chunks"], fps)
    for name, text in (("trace.svg", draw_trace(trace, times)), ("trace.md", trace_table(trace, times))):
        write_whole(folder / name, text)


def trace_table(trace: Trace, times: Sequence[str]) -> str:
    """A Markdown table with a row for each chunk."""
    shown = {other["kind"] for chunk in trace["chunks"] for other in chunk["shown"]}
    heads = {kind: head for kind, head in _HEADS.items() if kind in shown or kind != "sink"}
    rows = [
        [
            str(chunk["index"]),
            time,
            " ".join(chunk["prompt"].split()).replace("|", "/"),
            *(_others(chunk, kind) for kind in heads),
            f"{chunk['memory_bytes'] / 1e6:.1f} MB",
        ]
        for chunk, time in zip(trace["chunks"], times, strict=True)
    ]
    head = (
        "# What each chunk was shown of the past\n\n"
        "![Which chunk was shown which](trace.svg)\n\n"
        f"Memory: `{trace['policy']}`. In brackets: similarity of the prompts, and the share of the chunk's tokens "
        "that were kept.\n\n"
    )
    return head + markdown_table(["chunk", "time", "prompt", *heads.values(), "memory held"], rows) + "\n"


def draw_trace(trace: Trace, times: Sequence[str]) -> str:
    """An SVG with a row for each chunk and a mark under each chunk that it was shown; the stronger, the more alike."""
    chunks = trace["chunks"]
    many = len(chunks) > _MANY
    cell, left = (_SMALL_CELL, _MARGIN + 40) if many else (_CELL, _MARGIN + _PROMPT)
    side = cell * len(chunks)
    width, height = left + side + _MARGIN, _HEADER + side + _MARGIN
    svg = ElementTree.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "font-family": _FONT}
        | {"width": str(width), "height": str(height)},
    )
    _rectangle(svg, (0, 0, width, height), fill=PAPER)
    _header(svg, trace)
    _text(svg, "shown chunk", (left, _HEADER - 22), size=10, fill=FAINT)
    every = max(1, -(-len(chunks) // 24)) if many else 1
    for row, (chunk, time) in enumerate(zip(chunks, times, strict=True)):
        top = _HEADER + row * cell
        middle = top + cell * 0.5 + 3.5
        if row % every == 0:
            label = str(chunk["index"]) if many else f"{chunk['index']}  {_shortened(chunk['prompt'])}"
            _text(svg, label, (left - 8, middle), size=10, anchor="end")
            _text(svg, str(chunk["index"]), (left + (row + 0.5) * cell, _HEADER - 7), size=9, anchor="middle")
        _rectangle(svg, (left, top + 0.5, row * cell, cell - 1), fill="#f0eee8")
        _rectangle(svg, (left + row * cell, top + 0.5, cell - 1, cell - 1), fill=INK, title=f"{time} {chunk['prompt']}")
        for other in chunk["shown"]:
            _rectangle(
                svg,
                (left + other["chunk"] * cell, top + 0.5, cell - 1, cell - 1),
                fill=COLOURS[other["kind"]],
                opacity=_strength(other),
                title=f"chunk {chunk['index']} is shown chunk {other['chunk']}: {_described(other)}",
            )
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _header(svg: ElementTree.Element, trace: Trace) -> None:
    _text(svg, "What each chunk was shown of the past", (_MARGIN, 30), size=15, weight="bold")
    x = _MARGIN
    kinds = {other["kind"] for chunk in trace["chunks"] for other in chunk["shown"]}
    for kind in (kind for kind in COLOURS if kind in kinds):
        _rectangle(svg, (x, 42, 10, 10), fill=COLOURS[kind])
        _text(svg, MEANING[kind], (x + 15, 51), size=10, fill=FAINT)
        x += 30 + 6 * len(MEANING[kind])


def _rectangle(
    svg: ElementTree.Element,
    box: tuple[float, float, float, float],
    *,
    fill: str,
    opacity: float = 1.0,
    title: str | None = None,
) -> None:
    sizes = dict(zip(("x", "y", "width", "height"), (f"{value:g}" for value in box), strict=True))
    shape = ElementTree.SubElement(svg, "rect", sizes | {"fill": fill})
    if opacity < 1:
        shape.set("fill-opacity", f"{opacity:.2f}")
    if title is not None:
        ElementTree.SubElement(shape, "title").text = title


def _text(
    svg: ElementTree.Element,
    words: str,
    at: tuple[float, float],
    *,
    size: int,
    fill: str = INK,
    anchor: str = "start",
    weight: str = "normal",
) -> None:
    place = {"x": f"{at[0]:g}", "y": f"{at[1]:g}"}
    look = {"font-size": str(size), "fill": fill, "text-anchor": anchor, "font-weight": weight}
    ElementTree.SubElement(svg, "text", place | look).text = words


def _strength(other: Mapping[str, Any]) -> float:
    """Opacity of a mark: prompts that say the same are full, unlike ones faint."""
    similarity = other["similarity"]
    return 1.0 if similarity is None else max(0.25, min(1.0, similarity))


def _others(chunk: Mapping[str, Any], kind: str) -> str:
    return ", ".join(f"{other['chunk']} ({_figures(other)})" for other in chunk["shown"] if other["kind"] == kind)


def _figures(other: Mapping[str, Any]) -> str:
    share = f"{other['share_of_tokens']:.0%}"
    return share if other["similarity"] is None else f"{other['similarity']:.2f}, {share}"


def _described(other: Mapping[str, Any]) -> str:
    alike = "" if other["similarity"] is None else f", similarity {other['similarity']:.2f}"
    return f"{MEANING[other['kind']]}{alike}, {other['share_of_tokens']:.0%} of its tokens"


def _times(chunks: Sequence[Mapping[str, Any]], fps: int) -> list[str]:
    times, frames = [], 0
    for chunk in chunks:
        minutes, seconds = divmod(frames / fps, 60)
        times.append(f"{int(minutes)}:{seconds:04.1f}")
        frames += chunk["frames"]
    return times


def _shortened(prompt: str, length: int = 50) -> str:
    return prompt if len(prompt) <= length else prompt[: length - 1].rstrip() + "…"
