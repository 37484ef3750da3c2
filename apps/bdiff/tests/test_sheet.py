import numpy as np
import pytest
from PIL import ImageColor

from bdiff.output.contact_sheet import Cell, draw_sheet, thumbnail


def cell(index, *, recall=(), prompt="the fox walks right through the meadow", size=(64, 64)):
    picture = np.full((*size, 3), (10 * index) % 256, np.uint8)
    return Cell(index=index, seconds=2.5 * index, prompt=prompt, picture=picture, recall=recall)


def colours(sheet):
    return {colour for _, colour in sheet.getcolors(1 << 24)}


def test_a_sheet_shows_every_chunk():
    sheet = draw_sheet([cell(index) for index in range(25)], title="t", subtitle="s")
    assert {(10 * index % 256,) * 3 for index in range(25)} <= colours(sheet)
    assert sheet.width < sheet.height < 2 * sheet.width


@pytest.mark.parametrize(("kind", "colour"), [("recalled", "#d9480f"), ("recent", "#adb5bd"), ("sink", "#1971c2")])
def test_what_was_remembered_is_framed_by_its_kind(kind, colour):
    shown = draw_sheet([cell(0), cell(1, recall=[(0, kind)])], title="t", subtitle="s")
    plain = draw_sheet([cell(0), cell(1)], title="t", subtitle="s")
    assert ImageColor.getrgb(colour) in colours(shown) - colours(plain)


def test_long_videos_and_long_prompts_fit():
    recall = [(chunk, "recent") for chunk in range(100)]
    cells = [cell(index, prompt="word " * 60, recall=recall[:index]) for index in range(150)]
    short = draw_sheet(cells[:60], title="t", subtitle="s")
    long = draw_sheet(cells, title="t", subtitle="s")
    assert long.size == short.size
    assert ((10 * 149) % 256,) * 3 in colours(long)


def test_one_word_wider_than_a_cell_is_cut():
    assert draw_sheet([cell(0, prompt="x" * 500)], title="t", subtitle="s").width > 600


def test_wide_pictures_keep_their_shape():
    assert thumbnail(np.zeros((480, 832, 3), np.uint8)).shape == (148, 256, 3)
    assert thumbnail(np.zeros((64, 64, 3), np.uint8)).shape == (64, 64, 3)


def test_a_sheet_needs_a_chunk():
    with pytest.raises(ValueError, match="cells is empty"):
        draw_sheet([], title="t", subtitle="s")
