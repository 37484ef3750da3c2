"""The plot and the pictures of a long video."""

from pathlib import Path
from statistics import median
from typing import Any

from bdiff.files import whole_file
from bdiff.run import RunState
from bdiff_bench.harness import new_figure, save_figure, tidy

NUM_MOMENTS = 16
"""Pictures of the video on the page."""


def draw(chunks: list[dict[str, Any]], file: Path) -> None:
    """Draw seconds and memory over the chunks of the video."""
    numbers = [chunk["chunk"] for chunk in chunks]
    figure = new_figure(8, 5)
    times, memory = figure.subplots(2, 1, sharex=True)
    times.plot(numbers, [chunk["seconds"] for chunk in chunks], ".", markersize=2, color="#1971c2")
    times.set_ylabel("seconds a chunk")
    times.set_ylim(0, 2.5 * median(chunk["seconds"] for chunk in chunks))
    for name, label, colour in (
        ("anonymous_bytes", "process (anonymous)", "#d9480f"),
        ("memory_bytes", "keys and values of the past, on disk and in memory", "#7a7d85"),
    ):
        memory.plot(numbers, [chunk[name] / 1e6 for chunk in chunks], color=colour, label=label)
    memory.set_ylabel("MB")
    memory.set_xlabel("chunk")
    memory.set_ylim(bottom=0)
    memory.legend(frameon=False)
    for axes in (times, memory):
        tidy(axes)
    save_figure(figure, file)


def draw_moments(state: RunState, file: Path) -> None:
    """Draw the middle frames of evenly chosen chunks, row after row."""
    from PIL import Image

    last, side = state.num_chunks - 1, 128
    sheet = Image.new("RGB", (side * NUM_MOMENTS // 2, side * 2))
    for place in range(NUM_MOMENTS):
        picture = state.chunk(round(place * last / (NUM_MOMENTS - 1))).thumbnail
        row, column = divmod(place, NUM_MOMENTS // 2)
        sheet.paste(Image.fromarray(picture.numpy()).resize((side, side)), (side * column, side * row))
    with whole_file(file) as partial:
        sheet.save(partial, format="png")
