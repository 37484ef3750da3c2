"""Times and ranges of times in texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvbench.times import range_left, seconds_of, timed_caption


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3), ("3,5", 3.5), ("1:02", 62), ("00:00:03,500", 3.5), ("3 Sec", 3), ("2 min", 120), ("1m30s", 90),
        ("1 h", 3600), ("1:75", None), ("0:3", None), ("1:60:00", None), ("-3", None), ("1,000s", None), ("soon", None),
        ("", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_a_time_alone(text, seconds):
    assert seconds_of(text) == seconds


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_clock_time_is_its_hours_minutes_and_seconds(hours, minutes, seconds, thousandths):
    expected = 3600 * hours + 60 * minutes + seconds + thousandths / 1000
    assert seconds_of(f"{hours:02d}:{minutes:02d}:{seconds:02d}.{thousandths:03d}") == pytest.approx(expected)


@pytest.mark.parametrize(("text", "unit", "seconds"), [("3", 60.0, 180.0), ("3 s", 60.0, 3.0), ("1:00", 3600.0, 60.0)])
def test_only_a_number_without_unit_takes_the_given_unit(text, unit, seconds):
    assert seconds_of(text, unit) == seconds


@given(st.integers(0, 500), st.integers(1, 500), st.sampled_from(["a swan", "2 swans", "a swan, at 5"]))
def test_a_range_is_found_at_either_end_of_a_caption(start, length, caption):
    for text in (f"{caption} ({start}s - {start + length}s)", f"({start}s - {start + length}s) {caption}"):
        found = timed_caption(text)
        assert (found.caption, found.start, found.end) == (caption, start, start + length)


@pytest.mark.parametrize("text", ["a swan (0 - 3)", "two people (2-3)", "in the 1920s - 1930s"])
def test_numbers_without_unit_are_a_range_only_where_every_caption_has_one(text):
    assert timed_caption(text, strict=True) is None
    assert (timed_caption(text) is None) == ("(" not in text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a fox 0s - 3s runs", "0s - 3s"),
        ("from 0:00 to 0:10 it runs", "0:00 to 0:10"),
        ("a fox @3s", "@3s"),
        ("a fox in its 20s - 30s", None),
        ("a run of 100m - 200m", None),
        ("a clip (2 hours)", None),
        ("", None),
    ],
)
def test_what_is_left_of_a_range_is_quoted(text, left):
    assert range_left(text) == left
