"""A picture of one held-out video of each kind: the truth, and what each memory makes of it."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

import storyworld
from bdiff.files import whole_file
from bdiff_bench.harness.plots import BACKGROUND, INK
from bdiff_bench.memory.stills import load_stills, middle_frames
from bdiff_bench.world.config import WorldBenchConfig, WorldJob

MOST_BYTES = 300_000
"""Size of a picture: it gets fewer colours until it is smaller."""

_MOST_COLUMNS = 25
_SCALE, _GAP, _LEFT, _TOP = 2, 2, 64, 16  # pixels, but for the scale
_COLOURS = (None, 256, 128, 64, 32, 16, 8)

Stills = UInt8[np.ndarray, "chunks h w 3"]


def still_file(config: WorldBenchConfig, job: WorldJob) -> Path:
    """The file of a video's stills."""
    return config.out / "stills" / f"{job.take}-{job.policy}.png"


def draw_take(config: WorldBenchConfig, take: str) -> bool:
    """Draw ``TAKE.png``: a row for the truth and for each memory, a frame of every chunk, twice as large.

    Of a video of more than 25 chunks, 25 are shown.

    Returns:
        False, and no picture, if no memory has stills: the lines are older than this picture.
    """
    seed = config.stories[0]
    files = {name: still_file(config, WorldJob(take=take, policy=name, story=seed)) for name in config.memories}
    made = {name: load_stills(file, config.num_chunks) for name, file in files.items() if file.exists()}
    if not made:
        return False
    length, kind = config.sampling.frames_per_chunk, _any(take)
    truth = storyworld.render(
        seed,
        config.num_chunks,
        take=kind,
        first_chunk_frames=length - 3,
        chunk_frames=length,
        richness=config.sampling.richness,
    )
    _write(config.out / f"{take}.png", {"truth": middle_frames(truth.frames, truth)} | made)
    return True


def _any(take: str) -> Any:
    """A kind whose name was checked; its type there is a literal one."""
    return take


def _write(file: Path, rows: Mapping[str, Stills]) -> None:
    from PIL import Image, ImageDraw

    num_chunks, height, width, _ = next(iter(rows.values())).shape
    chunks = np.linspace(0, num_chunks - 1, min(num_chunks, _MOST_COLUMNS)).round().astype(int).tolist()
    down, right = _SCALE * height + _GAP, _SCALE * width + _GAP
    sheet = Image.new("RGB", (_LEFT + len(chunks) * right, _TOP + len(rows) * down), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, chunk in enumerate(chunks):
        draw.text((_LEFT + column * right + 2, 2), f"chunk {chunk}", fill=INK)
    for row, (label, stills) in enumerate(rows.items()):
        draw.text((4, _TOP + row * down + down // 2 - 6), label, fill=INK)
        for column, chunk in enumerate(chunks):
            large = stills[chunk].repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
            sheet.paste(Image.fromarray(large), (_LEFT + column * right, _TOP + row * down))
    with whole_file(file) as partial:
        partial.write_bytes(_encoded(sheet))


def _encoded(sheet: Any) -> bytes:
    """The picture as a PNG, with as many colours as its size allows."""
    data = b""
    for colours in _COLOURS:
        buffer = BytesIO()
        (sheet if colours is None else sheet.quantize(colours)).save(buffer, format="png", optimize=True)
        data = buffer.getvalue()
        if len(data) < MOST_BYTES:
            break
    return data
