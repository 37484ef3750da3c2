"""Text files and their characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvbench.texts import check_characters, read_text, shown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_gives_the_same_text(tmp_path, encoding, end):
    (tmp_path / "a.txt").write_bytes(f"ein Schwan{end}日本{end}".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "ein Schwan\n日本\n"


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("ein Kätzchen".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt: not a text file in UTF-8"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\ud800", "\uffff"])
def test_a_forbidden_character_is_named_by_its_code(character):
    with pytest.raises(
        ValueError, match=rf"here: the caption holds the character U\+{ord(character):04X}; take it out"
    ):
        check_characters(f"a{character}b", where="here", name="caption")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cn", "Co", "Zl", "Zp"])))
def test_ordinary_characters_tabs_and_newlines_are_allowed(text):
    check_characters(text + "\t\n", where="here", name="caption")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("soon", "'soon'"),
        ("a" * 41, "'" + "a" * 40 + "...'"),
        (3, "3"),
        (None, "None"),
        (10**20, "a number of more than 20 digits"),
        (["a\x07"], "['a\\x07']"),
        ("a\nb", "'a\\nb'"),
    ],
)
def test_a_value_is_shown_in_one_short_line(value, expected):
    assert shown(value) == expected
    assert "\n" not in shown(value)
