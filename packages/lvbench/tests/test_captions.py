"""Captions beside a video: lists, objects, subtitles, lines with ranges, and one text for all of it."""

import json
import math
import re
import time

import pytest

from lvbench import CaptionedChunk, read_captions
from lvbench.captions import parse_caption
from lvbench.times import range_left

RANGES = """(00s - 03s)
(00:00:00 - 00:00:03)
[0s – 3s]
{0:00 — 0:03}
<0:00 --> 0:03>
（０：００－０：０３）
【0s−3s】
(0 to 3 s)
(0-3sec)
(0 sec. - 3 sec.)
(0,0 s - 3,0 s)
(00:00:00,000 → 00:00:03,000)
(0 min - 0.05 min)
(0 seconds ‒ 3 seconds)
«0s‐3s»
((0s ‑ 3s))
(0秒到3秒)
(from 0s to 3s)
(0ms ~ 3000ms)"""

TWO = (CaptionedChunk(start=0, end=3, caption="a swan"), CaptionedChunk(start=3, end=6.5, caption="it dips"))
SRT = "1\n00:00:00,000 --> 00:00:03,000\na <i>swan</i>\n\n2\n00:00:03,000 --> 00:00:06,500 align:left\nit\ndips\n"


def read(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding, errors="surrogatepass"))
    return read_captions(path)


@pytest.mark.parametrize("written", RANGES.split("\n"))
def test_ranges_are_read_as_people_write_them(tmp_path, written):
    expected = (CaptionedChunk(start=0, end=3, caption="a swan"),)
    for caption in (f"a swan {written}", f"{written} a swan", f"{written}: a swan"):
        assert read(tmp_path, "a.json", json.dumps({"captions": [caption]})) == expected
        assert read(tmp_path, "a.txt", f'"captions": [“{caption}”]') == expected
        assert read(tmp_path, "a.txt", f"{caption}\n") == expected
    assert read(tmp_path, "a.json", json.dumps([f"a swan {written}."]))[0].caption == "a swan."


@pytest.mark.parametrize(
    "line",
    [
        "0:00-0:03: a swan",
        "00:00 - 00:03 a swan",
        "a swan, 0s - 3s",
        "a swan: 0:00 - 0:03",
        "a swan | 0-3s",
        "a swan – 0s to 3s",
        "[0s-3s: a swan]",
        "0-3s: a swan",
    ],
)
def test_ranges_without_brackets_of_their_own(tmp_path, line):
    chunks = read(tmp_path, "a.txt", f"{line}\nit dips (3s - 4s)")
    assert [(chunk.start, chunk.end, chunk.caption) for chunk in chunks] == [(0, 3, "a swan"), (3, 4, "it dips")]


@pytest.mark.parametrize("name", ["caption", "prompt", "text"])
@pytest.mark.parametrize("wrap", ["{}", '{{"captions": {}, "fps": 8}}', '"captions": {}'])
def test_lists_of_start_end_and_caption(tmp_path, name, wrap):
    items = [{"start": "0:00", "end": "3 s", name: "a swan"}, {"start": 3, "end": "00:00:06,5", name: "it dips"}]
    assert read(tmp_path, "a.json", wrap.format(json.dumps(items, indent=1))) == TWO
    assert read(tmp_path, "a.txt", wrap.format(json.dumps(items))) == TWO


@pytest.mark.parametrize(
    "text", [SRT, "WEBVTT\n\nNOTE x\n\n" + SRT.replace("00:00:", "00:").replace(",", "."), SRT[2:]]
)
@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.txt"])
def test_subtitles(tmp_path, name, text):
    assert read(tmp_path, name, text) == TWO


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.srt"])
def test_any_unicode_encoding_with_a_mark(tmp_path, name, encoding):
    text = {"a.txt": "日本", "a.json": '{"captions": ["日本 (0s - 3s)"]}', "a.srt": "0:00 --> 0:03\r\n日本\r\n"}[name]
    mark = "\ufeff" if encoding.endswith("-be") else ""
    assert read(tmp_path, name, (mark + text).encode(encoding))[0].caption == "日本"


PROSE = """A swan glides.
two people (2-3)
a woman in her 20s - 30s
at 10:30 in the morning the fox wakes
the 1990s - 2000s style
a fox (1950s-1960s)
the fox waits 3-5 seconds
5-10 minutes later, the fox sleeps
waves (16:9)
a 4k shot (24 fps)
100m - 200m sprint
a timelapse (2 hours) of clouds
a fox [white] runs"""


@pytest.mark.parametrize("text", PROSE.split("\n"))
def test_other_text_is_the_caption_of_the_whole_video(tmp_path, text):
    expected = (CaptionedChunk(start=0, end=math.inf, caption=text),)
    assert read(tmp_path, "a.txt", text + "\n") == expected
    assert read(tmp_path, "a.json", json.dumps({"caption": text, "width": 64})) == expected


@pytest.mark.parametrize(
    "text",
    ["a (00:00:61 - 00:00:70)", "a (3s -)", "a [3s]", "[3s] a", "a @3s", "a (0s - 3s) runs", "a 0s - 3s runs",
     "a (0s - 3s", "a (3s - end)", "(3s+) a", "a (0 - 3)", "a (0:3 - 0:6)", "a (00:00:00:00 - 00:00:03:00)",
     "Shot 1 (0s - 3s): a fox",
     "0:00 a fox", "3s: a fox", "a fox - 3s", "a (1,000s - 2,000s)", "a (10m - 20m)", "a (start - 3s)",
     "A watch counts from 00:00 to 00:10", "The stopwatch goes from 0s to 10s",
     "The timer goes 0:00 ... 0:59", "Cells divide over 0h - 24h", "a fox 0s - 3s"],
)  # fmt: skip
def test_what_looks_like_a_range_is_not_left_in_a_caption(tmp_path, text):
    with pytest.raises(ValueError, match=r"a\.txt.* looks like a range of times") as caught:
        read(tmp_path, "a.txt", text)
    assert "\n" not in str(caught.value)
    assert range_left(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "a.txt: the caption is empty"),
        ("a.txt", b"caf\xe9", "a.txt: not a text file in UTF-8"),
        ("a.txt", "a\x07b", "a.txt: the caption holds the character U+0007; take it out"),
        ("a.txt", "a (0s - 3s)\nb", "a.txt, line 2: 'b' does not end with a range"),
        ("a.json", '["A watch counts from 00:00 to 00:10"]', "does not end with a range"),
        ("a.txt", "a (3s - 2s)", "a.txt, line 1: the range 3 to 2 seconds is empty"),
        ("a.txt", "(0s-3s) a (3s-6s)", "a.txt, line 1: has a second range"),
        ("a.json", "", "a.json, line 1: expected a list in brackets"),
        ("a.json", "A swan.", "a.json, line 1: expected a list in brackets"),
        ("a.json", '{"a": 1}', "a.json: expected a list called captions, or one caption"),
        ("a.json", '{"caption": 5}', "a.json: caption is 5; expected text"),
        ("a.json", '{"captions": ["a (0s - 3s)"], "captions": []}', "a.json: 'captions' is given twice"),
        ("a.json", '"captions": ["a (0s - 3s)"], "captions": []', "a.json: 'captions' is given twice"),
        ("a.json", '[{"start": 0, "start": 1}]', "a.json, line 1: 'start' is given twice"),
        ("a.json", '[{"start": 0, "end": 1}]', "a.json, line 1: expected start, end and caption"),
        ("a.json", '[{"start": 0, "end": "1:75", "caption": "a"}]', "a.json, line 1: end is '1:75'; expected seconds"),
        ("a.json", '["a (0s - 3s)",\n"b\\ud800 (3s - 6s)"]', "a.json, line 2: the caption holds the character U+D800"),
        ("a.json", "[" * 100_000, "a.json, line 1: expected a caption in quotes"),
        ("a.json", '[{"a": ' + "[" * 100_000, "a.json, line 1: its brackets are nested too deeply"),
        ("a.json", '{"a": ' + "[" * 100_000, "a.json: its brackets are nested too deeply"),
        ("a.json", '[{"start": 0, "end": ' + "9" * 5000 + ', "caption": "a"}]', "end is inf; expected seconds"),
        ("a.srt", "", "a.srt: holds no subtitles"),
        ("a.srt", "a swan", "a.srt, line 1: expected 00:00:00,000 --> 00:00:03,000"),
        ("a.srt", "1\n00:00:00,000 --> soon\na", "a.srt, line 2: expected 00:00:00,000 --> 00:00:03,000, got"),
        ("a.srt", "0:00 --> 0:03\n\n", "a.srt, line 1: the caption is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_file_in_one_line(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read(tmp_path, name, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    ['"captions": [' + '"a (0s - 3s)",' * 4000, '"captions": [' + "," * 300_000, '["' + "\\" * 300_000,
     "9" * 300_000, "(" * 300_000, "(0s - " * 50_000, "3s " * 100_000, "a" + " " * 300_000 + "(0s - 3s)", "-" * 300_000,
     json.dumps([f"a ({n}s - {n + 1}s)" for n in range(4000)], indent=0)],
)  # fmt: skip
def test_long_files_are_read_or_refused_in_time(tmp_path, text):
    begun = time.process_time()
    try:
        read(tmp_path, "a.txt", text)
        message = ""
    except ValueError as error:
        message = str(error)
    assert len(message) < 400
    assert time.process_time() - begun < 4


def test_a_caption_of_a_list_may_lack_units():
    assert parse_caption("a swan (0 - 3)", where="x") == CaptionedChunk(start=0, end=3, caption="a swan")
