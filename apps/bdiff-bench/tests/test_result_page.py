"""Pages are made of figures alone, and a file that is no bench's is named."""

import pytest

from bdiff_bench.harness import parts_of_files, write_page


def test_a_page_has_a_heading_a_note_and_its_parts(tmp_path):
    write_page(tmp_path / "page.md", ["one", "two"], title="Title")
    assert (tmp_path / "page.md").read_text() == "# Title\n\none\n\ntwo\n"
    write_page(tmp_path / "page.md", ["one"], title="Title", note="Note.")
    assert (tmp_path / "page.md").read_text() == "# Title\n\nNote.\n\none\n"


def test_parts_come_file_by_file(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(f'{{"name": "{name}"}}')
    sections = [(tmp_path / name, lambda figures: [figures["name"], "-"]) for name in "ba"]
    assert parts_of_files([*sections, (None, lambda figures: ["never"])]) == ["b", "-", "a", "-"]
    for wrong in ("{}", "[]", "words"):
        (tmp_path / "a").write_text(wrong)
        with pytest.raises(ValueError, match=r"a: not the figures of a bench .*run the bench again"):
            parts_of_files(sections)
