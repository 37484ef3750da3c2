import json
import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bdiff_core import ChunkCondition, plan_chunks
from bdiff_core.storyboard import Shot, Storyboard, check_prompt, chunk_shots, count_chunks
from bdiff_core.storyboard.characters import is_blank
from bdiff_core.text import EncodedText

CAPTIONS = """"captions": [ "A swan glides across a misty lake (00s - 03s).", "It dips its head (04s - 07s).",
“A man ‘leans’ in (08s–11s).”, "It says \\"hi\\" (12s - 15s)" ]"""


class CountingEncoder:
    """Encodes a prompt as its length and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def encode(self, prompts):
        self.asked.append(prompts)
        tokens = torch.tensor([[[float(len(prompt))] * 3] * 4 for prompt in prompts])
        return EncodedText(tokens=tokens, embedding=tokens[:, 0])


def test_captions_of_the_paper_are_read_with_their_ranges():
    shots = Storyboard.parse(CAPTIONS).shots
    assert shots == (
        Shot("A swan glides across a misty lake.", 0, 3),
        Shot("It dips its head.", 4, 7),
        Shot("A man ‘leans’ in.", 8, 11),
        Shot('It says "hi"', 12, 15),
    )


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("a\nb\n", "text"),
        ("# two prompts\n\n  a\n b \n", "text"),
        ('["a", "b"]', "json"),
        ('{"captions": ["a", "b"], "video": "x.mp4"}', "json"),
        ('{"shots": [{"prompt": "a"}, {"caption": "b"}]}', "json"),
        ("- a\n- b\n", "yaml"),
        ("prompts:\n  - a\n  - prompt: b\n", "yaml"),
        ('"captions": ["a", "b"]', "captions"),
    ],
)
def test_every_format_gives_the_same_storyboard(text, format):
    expected = Storyboard.from_prompts(["a", "b"])
    assert Storyboard.parse(text, format=format) == expected
    assert Storyboard.parse(text) == expected


def test_seconds_of_each_shot_make_ranges():
    board = Storyboard.parse("title: t\nseconds: 2.5\nshots: [a, b]\n")
    assert board == Storyboard(
        shots=Storyboard.from_prompts(["a", "b"], 2.5).shots,
        title="t",
    )
    assert board.shots[1] == Shot("b", 2.5, 5.0)
    assert board.duration == 5.0


def test_ranges_may_be_minutes_or_lack_an_end():
    assert Storyboard.parse("go (1:30 - 2:00)").shots[0] == Shot("go", 90, 120)
    assert Storyboard.parse("- {prompt: a, start: 0}\n- {prompt: b, start: 4}").shots[1] == Shot("b", 4, None)


def test_a_pair_of_numbers_without_unit_is_part_of_the_prompt():
    assert Storyboard.parse("a group of people (2-3)").shots[0] == Shot("a group of people (2-3)")


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp", "Nd"]), min_size=1).filter(
            lambda text: not is_blank(text)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_json_gives_prompts_back(prompts):
    board = Storyboard.parse(json.dumps({"shots": [{"prompt": p, "start": i} for i, p in enumerate(prompts)]}))
    assert [shot.prompt for shot in board.shots] == [prompt.strip() for prompt in prompts]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 5)), min_size=1, max_size=6),
    st.floats(0, 40),
)
def test_a_time_maps_to_the_nearest_shot(gaps_and_lengths, seconds):
    shots, now = [], 0.0
    for index, (gap, length) in enumerate(gaps_and_lengths):
        shots.append(Shot(str(index), now + gap, now + gap + length))
        now = shots[-1].end
    found = Storyboard(tuple(shots)).shot_at(seconds)
    distances = [max(s.start - seconds, seconds - s.end, 0) for s in shots]
    assert distances[found] == min(distances)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(0, 60), min_size=1, max_size=9),
)
def test_the_shot_of_a_time_is_that_of_a_look_at_every_shot(parts, halves):
    shots, now = [], 0
    for index, (gap, length, has_end) in enumerate(parts):
        shots.append(Shot(str(index), now + gap, now + gap + length if has_end else None))
        now += gap + length
    board = Storyboard(tuple(shots))

    def distance(seconds, index):
        following = shots[index + 1].start if index + 1 < len(shots) else float("inf")
        end = following if shots[index].end is None else shots[index].end
        return max(shots[index].start - seconds, seconds - end, 0)

    for seconds in (half / 2 for half in halves):
        nearest = min(range(len(shots)), key=lambda index: (distance(seconds, index), -index))
        assert board.shot_at(seconds) == nearest


def test_a_shot_that_starts_wins_over_one_that_ends():
    assert Storyboard.from_prompts(["a", "b"], 2).shot_at(2.0) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x: storyboard is empty"),
        ("# nothing\n", "x: storyboard is empty"),
        ("[]", "x: storyboard is empty"),
        ("- a\n- 7\n", "x, line 2, shot 2: prompt is a number (7); expected a string"),
        ("- a\n- yes\n", "x, line 2, shot 2: prompt is a truth value (True)"),
        ('["a", null]', "x, line 1, shot 2: prompt is nothing"),
        ("- a\n- ''\n", "x, line 2, shot 2: prompt is empty"),
        ('["a", "\u200b"]', "shot 2: prompt is empty"),
        ('["a", " \u2060\ufeff\u00ad\u3164\ufe0f"]', "shot 2: prompt is empty"),
        ("- {prompt: a, colour: red}", "unknown field 'colour'; known are prompt, caption, text, start, end"),
        ("- {start: 0, end: 3, Prompt: a}", "unknown field 'Prompt'; known are prompt, caption, text, start, end"),
        ("- {prompt: a, start: 0, start_time: 1}", "has start and start_time; leave one of them out"),
        ("- {prompt: a, end: 3, segment: [0, 3]}", "has segment and end; leave one of them out"),
        ("- {prompt: a, timestamp: [0, 3], segment: [0, 3]}", "has timestamp and segment; leave one of them out"),
        ("- {prompt: a, timestamp: [0]}", "timestamp is a list; expected start and end, as in [0, 3]"),
        ("- {prompt: a, timestamp: [0, 3, 6, 9]}", "timestamp is a list; expected start and end, as in [0, 3]"),
        ("- {prompt: a, timestamp: 3}", "timestamp is a number (3); expected start and end"),
        ("- {prompt: a, timestamp: [0, soon]}", "end is 'soon'; expected seconds"),
        ("- {prompt: a, timestamp: [0, [1]]}", "end is a list; expected seconds"),
        ("segments: [{text: a, start: 3, end: 2}]", "ends at 2 s, but starts at 3 s"),
        (
            "- The fox: it walks\n",
            "line 1, shot 1: unknown field 'The fox'; put a prompt that contains a colon in quotes",
        ),
        ("- {prompt: a, start: 3, end: 1}", "ends at 1 s, but starts at 3 s"),
        ("a (00s - 04s)\nb (03s - 06s)", "x, line 2, shot 2: starts at 3 s, while the shot before it lasts until 4 s"),
        ("- {prompt: a, start: 3}\n- {prompt: b, start: 1}", "x, line 2, shot 2: starts at 1 s, not after"),
        ("a (00s - 04s)\nb", "x, line 2, shot 2: times must be given for every shot or for none"),
        ("- {prompt: a, start: -1}", "start is -1; expected seconds, 0 or more"),
        ("- {prompt: a, start: .nan}", "start is nan; expected seconds"),
        ("- {prompt: a, start: soon}", "start is 'soon'; expected seconds"),
        ("- {prompt: a, end: 3}", "has an end but no start"),
        ('{"shots": ["a",]}', "x, line 1: not valid JSON"),
        ('"captions": ["a",\n 7]', "x, line 2: expected a prompt in quotes, got '7]'"),
        ("- a\n- [b\n", "x, line 3: not valid YAML"),
        ("shots: hello", "x: expected a list of prompts, got a string"),
        ("shots: [a]\ncolour: red", "x: unknown field 'colour'"),
        ("title: t\n", "x: expected exactly one of shots, captions, prompts, got none of them"),
        ("seconds: 0\nshots: [a]", "x: seconds is 0; expected a number above 0"),
        ("title: [a]\nshots: [a]", "x: title is a list; expected a string"),
        ("seconds: 2\nshots: ['a (0s - 3s)']", "has a range although seconds is given for every shot"),
    ],
)
def test_bad_storyboards_give_one_clear_line(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Storyboard.parse(text, source="x")
    assert "\n" not in str(caught.value)


def test_files_are_read_by_their_suffix(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text("- a dash\n- another\n")
    assert Storyboard.load(path).shots[0].prompt == "- a dash"
    path.with_suffix(".yaml").write_text("- a dash\n")
    assert Storyboard.load(path.with_suffix(".yaml")).shots[0].prompt == "a dash"


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.yaml: cannot read the storyboard: no such file"):
        Storyboard.load(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="is a directory"):
        Storyboard.load(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"x.yaml: not a text file in UTF-8"):
        Storyboard.load(tmp_path / "x.yaml")


def test_objects_made_by_hand_are_checked():
    with pytest.raises(ValueError, match="storyboard is empty"):
        Storyboard(shots=())
    with pytest.raises(ValueError, match="shot 2: starts at 1 s"):
        Storyboard(shots=(Shot("a", 0, 2), Shot("b", 1, 3)))
    with pytest.raises(TypeError, match="give a list"):
        Storyboard.from_prompts("a fox")


def test_inclusive_ranges_give_each_chunk_the_shot_at_its_middle():
    board = Storyboard.parse("\n".join(f"{i} ({4 * i:02d}s - {4 * i + 3:02d}s)" for i in range(15)))
    shots = chunk_shots(board, fps=8, frames_per_chunk=20)
    assert len(shots) == 24
    middles = [17 / 16, *((17 + 20 * c - 10) / 8 for c in range(1, 24))]
    assert shots == [min(14, int((middle + 0.5) // 4)) for middle in middles]


def test_chunks_without_times_follow_the_shots():
    board = Storyboard.from_prompts(["a", "b", "c"])
    assert chunk_shots(board, fps=8, frames_per_chunk=20) == [0, 1, 2]
    assert chunk_shots(board, fps=8, frames_per_chunk=20, num_chunks=6) == [0, 0, 1, 1, 2, 2]
    assert chunk_shots(board, fps=8, frames_per_chunk=20, num_chunks=2) == [0, 1]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 200))
def test_stretching_is_even(num_shots, num_chunks):
    board = Storyboard.from_prompts([str(i) for i in range(num_shots)])
    shots = chunk_shots(board, fps=8, frames_per_chunk=20, num_chunks=num_chunks)
    assert len(shots) == num_chunks
    assert shots == sorted(shots)
    if num_chunks >= num_shots:
        counts = [shots.count(i) for i in range(num_shots)]
        assert max(counts) - min(counts) <= 1


@settings(deadline=None)
@given(st.integers(1, 2000))
def test_counting_chunks_inverts_their_length(num_chunks):
    assert count_chunks((20 * num_chunks - 3) / 8, fps=8, frames_per_chunk=20) == num_chunks
    assert count_chunks(20 * num_chunks / 8, fps=8, frames_per_chunk=20, continued=True) == num_chunks


def test_a_plan_encodes_each_prompt_once():
    encoder = CountingEncoder()
    plan = plan_chunks(Storyboard.from_prompts(["a", "bbb", "a"]), encoder, fps=8, frames_per_chunk=20)
    assert encoder.asked == [["a", "bbb"]]
    assert all(isinstance(condition, ChunkCondition) for condition in plan)
    assert [condition.index for condition in plan] == [0, 1, 2]
    assert [condition.text[0, 0].item() for condition in plan] == [1, 3, 1]
    assert [condition.embedding[0].item() for condition in plan] == [1, 3, 1]
    assert all(condition.negative.shape == (4, 3) and not condition.negative.any() for condition in plan)
    assert all(condition.image is None for condition in plan)
    assert [condition.prompt for condition in plan] == ["a", "bbb", "a"]


def test_absurd_lengths_are_counted_or_refused_at_once():
    assert count_chunks(1e300, fps=24, frames_per_chunk=20) > 10**299
    assert Storyboard.parse('{"shots": [{"prompt": "a", "start": 0, "end": 1e300}]}').duration == 1e300
    for seconds in (1e301, float("inf"), float("nan"), 10**400, 0):
        with pytest.raises(ValueError, match=r"seconds is .*; expected a number above 0"):
            count_chunks(seconds, fps=24, frames_per_chunk=20)


def test_many_chunks_of_many_shots_are_planned_in_time():
    board = Storyboard(tuple(Shot("a", index / 4, (index + 1) / 4) for index in range(40_000)))
    begun = time.process_time()
    shots = chunk_shots(board, fps=16, frames_per_chunk=4)
    assert time.process_time() - begun < 5
    assert len(shots) == 40_001
    assert shots == sorted(shots)


def test_plans_reject_sizes_that_are_none():
    board = Storyboard.from_prompts(["a"])
    with pytest.raises(ValueError, match="num_chunks is 0"):
        chunk_shots(board, fps=8, frames_per_chunk=20, num_chunks=0)
    with pytest.raises(ValueError, match="fps is 0"):
        chunk_shots(board, fps=0, frames_per_chunk=20)
    with pytest.raises(ValueError, match="seconds is -1"):
        count_chunks(-1, fps=8, frames_per_chunk=20)
    with pytest.raises(ValueError, match="the last shot has no end"):
        chunk_shots(Storyboard((Shot("a", 0),)), fps=8, frames_per_chunk=20)
    with pytest.raises(ValueError, match="no times"):
        board.shot_at(1.0)


@pytest.mark.parametrize("sign", ["\x07", "\ud800", "\u202e", "\0"])
def test_a_prompt_that_is_no_shot_is_checked(sign):
    for text in ("", "worst quality, 0:00 - 0:03", "a\r\nb\tc", "\N{FOX FACE}"):
        assert check_prompt(text, "the negative prompt") is None
    with pytest.raises(ValueError, match=r"^the negative prompt holds .*U\+[0-9A-F]{4}; take it out$"):
        check_prompt(f"worst{sign} quality", "the negative prompt")
