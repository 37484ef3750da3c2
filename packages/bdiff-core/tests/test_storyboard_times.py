"""Which times a prompt may begin or end with, which are refused, and what stays prose."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_core.storyboard import Shot, Storyboard
from bdiff_core.storyboard.ranges import Before, timed_prompt
from bdiff_core.storyboard.times import UNDERSTOOD, seconds_of

READ = """a fox runs (00:00:00 - 00:00:03)
a fox runs [0s – 3s]
a fox runs {0:00 — 0:03}
a fox runs <0:00 --> 0:03>
a fox runs （０：００－０：０３）
a fox runs 【0s−3s】.
[0s-3s: a fox runs]
[0s-3s] a fox runs
0:00-0:03: a fox runs
00:00 - 00:03 a fox runs
00:00 – 00:03 | a fox runs
0s to 3s a fox runs
a fox runs (0 to 3 s)
a fox runs (0-3sec)
a fox runs (0 sec. - 3 sec.)
a fox runs (0,0 s - 3,0 s)
a fox runs (00:00:00,000 → 00:00:03,000)
a fox runs (0 min - 0.05 min)
a fox runs (0 seconds – 3 seconds).
a fox runs (0:00-0:03)…
a fox runs, 0s - 3s
a fox runs: 00:00 - 00:03
a fox runs, from 0:00 to 0:03
a fox runs | 0-3s
a fox runs; 0s through 3s
a fox runs — 0:00 - 0:03
a fox runs (0s thru 3s)
0-3s: a fox runs
(from 0s to 3s) a fox runs
*0:00 - 0:03* a fox runs
- (0s-3s) a fox runs
a fox runs «0s‒3s»
a fox runs ((0s ‐ 3s))
a fox runs (0s‑3s)
0秒到3秒 a fox runs
a fox runs (0:00.0 - 0:03s)
(0ms - 3000ms): a fox runs
(a fox runs, 0s - 3s)
“a fox runs (0s - 3s)”
a fox runs (0S ~ 3S)
a fox runs (0s ... 3s)
a fox runs (0s\u200b-\u00a03s)
a fox runs (0h 0 min 0s - 0m3s)"""


@pytest.mark.parametrize("line", READ.split("\n"))
def test_what_is_plainly_a_range_is_read(line):
    (shot,) = Storyboard.parse(line, format="text").shots
    assert (shot.prompt.strip(".…“”"), shot.start, shot.end) == ("a fox runs", 0, 3)
    assert Storyboard.parse(json.dumps([line])).shots == (shot,)
    assert Storyboard.from_prompts([line]).shots == (shot,)


@pytest.mark.parametrize(
    "text",
    [
        "A digital watch counts from 00:00 to 00:10", "The stopwatch goes from 0s to 10s", "Cells divide over 0h - 24h",
        "The timer goes 0:00 ... 0:59", "a fox runs 0-3s", "a fox runs 00:00 - 00:03",
        "a fox runs from 0:00 to 0:03.", "A street, open 9:00 to 17:00",
    ],
)  # fmt: skip
def test_no_range_without_brackets_ends_a_sentence(text):
    for before in (None, Before(0, 0)):
        with pytest.raises(ValueError, match="put it in brackets") as caught:
            timed_prompt(text, before)
    written = str(caught.value).split("'")[1]
    found = timed_prompt(text.strip("().").removesuffix(written) + f"({written})")
    assert found.start is not None
    board = Storyboard.parse(json.dumps([{"prompt": text, "start": 0, "end": 3}]))
    assert board.shots == (Shot(text, 0, 3),)


@pytest.mark.parametrize(
    "text",
    [
        "the clock shows 10:00 - 11:00", "a (3s -)", "a [3s]", "3s: a fox", "t=0s", "a (0 - 3)",
        "a street 9:00 to 17:00",
        "a fox (0s - 3s) runs", "The timer goes 0:00 ... 0:59", "a (3s - 2s)", "between 0s and 3s a fox runs",
    ],
)  # fmt: skip
def test_beside_start_and_end_what_cannot_be_read_is_prose(text):
    expected = (Shot(text, 0, 3), Shot(text, 3, 6))
    items = [{"prompt": text, "start": 0, "end": 3}, {"prompt": text, "start": 3, "end": 6}]
    assert Storyboard.parse(json.dumps(items)).shots == expected
    cues = f"0:00 --> 0:03\n{text}\n\n0:03 --> 0:06\n{text}\n"
    assert Storyboard.parse(cues, format="subtitles").shots == expected
    with pytest.raises(ValueError, match="or has start and end of its own"):
        Storyboard.from_prompts([text])
    # A prompt that is refused alone stays refused after it was prose elsewhere.
    with pytest.raises(ValueError, match="shot 2"):
        Storyboard.parse(json.dumps([items[0], {"prompt": text}]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3), ("3.5", 3.5), ("3,5", 3.5), ("1:02", 62), ("01:02.25", 62.25), ("1:00:02", 3602), ("90:00", 5400),
        ("00:00:03,500", 3.5), ("3s", 3), ("3 Sec", 3), ("3secs", 3), ("2 min", 120), ("2m", 120), ("1m30s", 90),
        ("1 h 2 min 3 sec", 3723), ("250ms", 0.25), ("1h", 3600), ("3 秒", 3), ("٣s", 3),
        ("1:75", None), ("1:60:00", None), ("0:3", None), ("00:00:03:12", None), ("-3", None), ("1,000s", None),
        ("3 parsecs", None), ("soon", None), ("", None), ("3 4", None), ("1e3", None), ("9" * 5000, None),
        ("1s2m", None),
    ],
)  # fmt: skip
def test_a_time_alone(text, expected):
    assert seconds_of(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "start", ["1:30", "01:30", "00:01:30", "'1:30'", "90", "090", "90.0", "1.5 min", "1m30s", "90 s"]
)
@pytest.mark.parametrize("form", ["- {prompt: a, start: %s}", "- caption: a\n  start: %s\n", "- {text: a, start: %s}"])
def test_start_and_end_may_be_texts(form, start):
    assert Storyboard.parse(form % start).shots == (Shot("a", 90),)
    assert Storyboard.parse(json.dumps([{"prompt": "a", "start": start.strip("'")}])).shots == (Shot("a", 90),)


REFUSED = """a (00:00:61 - 00:00:70)
a (3s - 2s)
a (3s - 3s)
a (3s -)
a [3s]
[3s] a
[00:12.00] a
a @3s
a @ 0:03 in the meadow
a fox (0s - 3s) runs
a fox 0s - 3s runs
a (0 - 3)
a (00 - 03)
a (3s - end)
a (3s to the end)
(3s+) a
(3s / 6s) a
a (3s;6s)
a (3s, 6s)
a (- 3s)
a (start - 3s)
a (-3s - 0s)
a (0s - 3s
[0s - 3s a
a (time: 0s - 3s)
a (t=0-3)
a (sec 0 - 3)
0:00 a fox
00:00:03 a fox
3s: a fox
3s - a fox
a fox - 3s
a fox | 0:03
a (0:3 - 0:6)
0:3 - 0:6 a
a (0:75 - 0:80)
a (00:00:00:00 - 00:00:03:00)
a (1,000s - 2,000s)
a (0s-3s-6s)
a (0s - 1e300s)
a (0 - 1:30:00:00)
a (1 - 1:30)
Shot 1 (0s - 3s): a fox
1. (0s - 3s) a fox
a (10m - 20m)
(0s-3s) a (3s-6s)
(0s-3s) 0:04 a
a street from 9:00 to 17:00
a pause of 3-5 s then more
0-3: a fox
a fox (1h30 - 2h)
between 0s and 3s a fox
a fox between 0s and 3s
a fox between 0:00 and 0:03.
a (+0s - +3s)
a (0.s - 3.s)
a (start: 0s, end: 3s)
(start: 0, end: 3) a
start: 0s, end: 3s, a fox
start=0 end=3 a fox
a fox start = 0s
t=0s a fox
a fox (t = 3)
T+0s a fox
a fox (T+00:03)
a fox (duration: 3s)
a fox (duration 3 s)
a fox, duration: 3s
0s a fox
3s a fox
0.5s a fox
1m30s a fox
a fox, 3s
a fox, 0:03.
a fox (frames 0-24)
frames 0-24: a fox
a fox (Frame 0 – Frame 24)
Psalm 23:1-6
John 3:16-18 is read
a fox (0f - 24f)
a fox [0 – 24 frames]
a fox (0% - 50%)
a fox (0-50%)
a fox (0'00" - 0'03")
a fox (0" - 3")
a fox (0″ – 3″)
Kickoff (15:30)
(a fox runs 0s - 3s)
(30s) a man talks
a man talks (45s)."""


@pytest.mark.parametrize("line", REFUSED.split("\n"))
def test_what_looks_like_a_range_and_is_not_understood_is_refused(line):
    for text, place in ((f"# x\n{line}", "x, line 2, shot 1: "), (json.dumps([line]), "x, line 1, shot 1: ")):
        with pytest.raises(ValueError, match=re.escape(place)) as caught:
            Storyboard.parse(text, source="x")
        assert UNDERSTOOD in str(caught.value) or "ends at" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


PROSE = """a 3-5 year old child
at 10:30 in the morning the fox wakes
10:30 in the morning the fox wakes
the 1990s - 2000s style
street style (1990s - 2000s)
Route 66 (1950s)
a woman in her 20s - 30s
a woman in her 20-30s at home
70s-80s disco
Tokyo (2-storey houses)
a 4k shot (24 fps)
a group of people (2-3)
waves (16:9)
16:9 to 4:3
2024-05-01 to 2024-06-01
the fox waits 3-5 seconds
the fox waits 3 to 5 minutes and sleeps
5-10 minutes later, the fox sleeps
24-70mm lens f/2.8
shops open 9:00 am - 5:00 pm
100m - 200m sprint
mp4-h264
a 30s-style diner
from 5 to 10 foxes
a long exposure, 30s
John 3:16 reads
0 to 60 in 3 seconds
3D - 4K
a fox (v2.1 - v3.0)
3s-long take of a fox
score 2:1 - 3:1
10 - 20 foxes: many
a 5 to 10 minute walk
a timelapse (2 hours) of clouds
90s music video
a 3s exposure
10s of thousands of birds
3s later, the fox sleeps
3s exposure of a fox
A man (30s) and a woman (40s) talk
Kickoff (15:30) in the stadium
a monk reads Psalm 23:1-6 aloud
a fox (3.5 s) waits
between 3 and 5 foxes
a party between the 1990s and the 2000s
between 1990s and 2000s style
a fox at 50% - 60% opacity
a man (5'10") walks
an E=mc2 blackboard
the start: three foxes
a stadium (frames of 24 pictures)
a fox ‹running›, then (slowly) waiting…"""


@pytest.mark.parametrize("line", PROSE.split("\n"))
def test_numbers_in_prose_stay(line):
    assert Storyboard.parse(line, format="text").shots == (Shot(line),)
    timed = Storyboard.parse(f"(0s - 3s) a fox runs\n{line} (3s - 6s)", format="text")
    assert timed.shots[1] == Shot(line, 3, 6)
    fields = Storyboard.parse(json.dumps([{"prompt": line, "start": 0, "end": 3}]))
    assert fields.shots == (Shot(line, 0, 3),)


def test_what_follows_a_timed_shot_is_read_without_brackets():
    board = Storyboard.parse("0-10s a\n10-20s b\n20s - 30s c\n(30s to 1:00) d\n", format="text")
    assert [(shot.prompt, shot.start, shot.end) for shot in board.shots] == [
        ("a", 0, 10), ("b", 10, 20), ("c", 20, 30), ("d", 30, 60),
    ]  # fmt: skip
    lines = "\n".join(f"a fox ({n}s - {n + 10}s)" for n in range(0, 2500, 10))
    assert Storyboard.parse(lines, format="text").duration == 2500
    assert timed_prompt("in the 1990s - 2000s", Before(0, 3)).start is None


def test_a_range_beside_start_and_end_must_say_the_same():
    same = '[{"prompt": "a (0s - 3s)", "start": 0, "end": 3}]'
    assert Storyboard.parse(same).shots == (Shot("a", 0, 3),)
    with pytest.raises(ValueError, match="shot 1: has a range in its prompt beside start and end"):
        Storyboard.parse(same.replace("0s", "1s"))


def test_a_range_and_a_colon_need_no_quotes_in_yaml():
    board = Storyboard.parse("- 0:00-0:03: a fox runs\n- (3s - 6s): it sleeps\n")
    assert board.shots == (Shot("a fox runs", 0, 3), Shot("it sleeps", 3, 6))


clocks = st.integers(0, 5999).map(lambda s: (f"{s // 60}:{s % 60:02d}", s))
seconds = st.integers(0, 5999).map(lambda s: (f"{s}s", s))
wide = st.integers(0, 5999).map(lambda s: (f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d},000", s))


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(clocks | seconds | wide, clocks | seconds | wide).filter(lambda pair: pair[0][1] < pair[1][1]),
    st.sampled_from(["-", " - ", "–", " — ", "−", "‐", " to ", " --> ", "→", "－"]),
    st.sampled_from(["()", "[]", "{}", "<>", "（）", "【】", "〔〕", "«»"]),
    st.booleans(),
)
def test_any_dash_and_any_bracket(pair, dash, brackets, at_end):
    (start, first), (end, last) = pair
    written = f"{brackets[0]}{start}{dash}{end}{brackets[1]}"
    found = timed_prompt(f"a fox {written}" if at_end else f"{written} a fox", Before(0, 1))
    assert (found.prompt, found.start, found.end) == ("a fox", first, last)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                *"()[]<>-–:|@,. 0359sm\n",
                "to",
                "0:03",
                "3s",
                "fox",
                "t=",
                "between",
                "and",
                "frames",
                "%",
                "+",
                '"',
                "through",
                "sec",
                "1990s",
                "->",
            ]
        ),
        max_size=12,
    )
)
def test_no_text_takes_more_than_a_line_to_refuse_and_what_is_left_holds_no_time(parts):
    text = "".join(parts)
    found, message = None, ""
    try:
        found = timed_prompt(text)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 400
    if found is not None:
        again = timed_prompt(found.prompt)
        assert (again.prompt, again.start) == (found.prompt, None)
