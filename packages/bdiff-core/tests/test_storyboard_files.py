"""Storyboard files: keys twice, surprises of YAML and JSON, characters, encodings, subtitles, and cost."""

import json
import os
import re
import threading
import time

import pytest

from bdiff_core.storyboard import Shot, Storyboard, chunk_shots, files

SRT = """1
00:00:00,000 --> 00:00:03,000
a fox <i>runs</i>

2
00:00:03,000 --> 00:00:06,500 position:10%
a fox
sleeps
"""
CUES = (Shot("a fox runs", 0, 3), Shot("a fox sleeps", 3, 6.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shots:\n  - a\nshots:\n  - b\n", "x, line 3: 'shots' is given twice"),
        ('{"shots": ["a"],\n "shots": ["b"]}', "x, line 2: 'shots' is given twice"),
        ("- a\n- prompt: b\n  prompt: c\n", "x, line 3: 'prompt' is given twice"),
        ('["a",\n {"prompt": "b", "prompt": "c"}]', "x, line 2, shot 2: 'prompt' is given twice"),
        ('["a", {"start": 1, "prompt": "b", "start": 2}]', "shot 2: 'start' is given twice"),
        ("title: a\ntitle: b\nshots: [a]", "x, line 2: 'title' is given twice"),
        ("shots: [a]\ncaptions: [b]", "x: expected exactly one of shots, captions, prompts, got ['shots', 'captions']"),
        ('{"prompts": ["a"], "captions": ["b"]}', "got ['captions', 'prompts']"),
        ('"captions": ["a"],\n"captions": ["b"]', 'x, line 2: a second list, "captions":'),
        ("- {prompt: a, caption: b}", "shot 1: has prompt and caption; leave one of them out"),
        ("- 2024-13-45\n", "x, line 1, shot 1: prompt is a date (2024-13-45); expected a string"),
        ("- 2024-01-02\n", "x, line 1, shot 1: prompt is a date (2024-01-02); expected a string"),
        ("- {prompt: a, start: 2024-01-02}\n", "line 1, shot 1: start is '2024-01-02'; expected seconds"),
        ("- a\n- off\n", "line 2, shot 2: prompt is a truth value (False)"),
        ("- .inf\n", "line 1, shot 1: prompt is a number (inf)"),
        ("- {prompt: a, start: -.inf}", "start is -inf; expected seconds"),
        ("- {prompt: a, start: 0x10}", "start is '0x10'; expected seconds"),
        ("- {prompt: a, start: 0, end: [1]}", "end is a list; expected seconds"),
        ("- 12:30\n", "prompt is a number (12:30); expected a string"),
        ("- a\n- !!python/object:os.system {}\n", "x, line 2: the tag !!python/object:os.system is not read"),
        ("!!python/object/apply:os.system [a, b]\n", "x, line 1: the tag !!python/object/apply:os.system is not read"),
        ("shots: !!python/object/apply:os.system [a]\n", "x, line 1: the tag !!python/object/apply:os.system is not"),
        ("!!python/object:a.b {shots: [a]}\n", "x, line 1: the tag !!python/object:a.b is not read"),
        ("!!binary [a]\n", "x, line 1: the tag !!binary is not read"),
        ("- !secret a\n", "x, line 1: the tag !secret is not read"),
        ("- a\n---\n- b\n", "x, line 2: a second document begins here"),
        ("- {<<: {prompt: a}, start: 0}", "x, line 1: the merge key << is not read"),
        ("- a\n- *b\n", "x, line 2: not valid YAML: nothing is called 'b'"),
        ("- &a [*a]", "shot 1: prompt is a list"),
        ("- {? [a] : b}", "x, line 1: a list or mapping is the name of a field"),
        ("- [0s-3s: a fox]\n", "line 1, shot 1: prompt is a list; expected a string"),
        ("seconds: 1:00\nshots: [a]", "seconds is '1:00'; expected a number above 0"),
        ('[{"prompt": "a", "start": NaN}]', "start is nan; expected seconds"),
        ('[{"prompt": "a", "start": -Infinity}]', "start is -inf; expected seconds"),
        ('[{"prompt": "a", "start": 0, "end": 1e400}]', "end is inf; expected seconds"),
        (f'[{{"prompt": "a", "start": {"9" * 5000}}}]', "start is inf; expected seconds"),
        (f'[{{"prompt": "a", "start": {"9" * 350}}}]', "start is a number of more than 20 digits; expected seconds"),
        (f"- {{prompt: a, start: {'9' * 5000}}}", "start is inf; expected seconds"),
        (f'["a", {"9" * 300}]', "x, line 1, shot 2: prompt is a number (a number of more than 20 digits)"),
        ("[" * 100_000 + "]" * 100_000, "x: not a storyboard: its brackets are nested too deeply"),
        ('"captions": [' + '{"a":' * 100_000 + "]", "x, line 1: its brackets are nested too deeply"),
        ('["a"] and more', "x, line 1: not valid JSON: extra data"),
        ('{"prompt": "a"}\n{"prompt": "b"}', "x, line 2: not valid JSON: extra data"),
        ('"captions": ["a",\n "\\q"]', "x, line 2: cannot be read: invalid \\escape"),
        ("1\n00:00:00,000 --> soon\na", "expected"),
        ("WEBVTT\n\n00:00.000 --> 00:03.000\na\n\nb\n", "x, line 6: expected 00:00:00,000 --> 00:00:03,000, got 'b'"),
        ("WEBVTT\n\n00:00.000 --> 00:61.000\na\n", "x, line 3: expected 00:00:00,000 --> 00:00:03,000, got"),
        ("WEBVTT\n", "x: storyboard is empty"),
    ],
)
def test_what_cannot_be_meant_is_named_by_its_line(text, message):
    format = "yaml" if text.startswith("!!") else "subtitles" if "-->" in text else "auto"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Storyboard.parse(text, source="x", format=format)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("depth", [60, 3000, 100_000])
@pytest.mark.parametrize("pair", ["[]", "{}", "- "])
def test_deep_yaml_is_one_line(depth, pair):
    text = pair * depth if pair == "- " else f"- {pair[0] * depth}{pair[1] * depth}"
    with pytest.raises(ValueError, match="line 1: not a storyboard: its brackets are nested too deeply"):
        Storyboard.parse(text, format="yaml")


def test_numbers_of_yaml_are_decimal():
    board = Storyboard.parse("- {prompt: a, start: 0, end: 010}\n- {prompt: b, start: 010, end: 1_0.5}")
    assert board.shots == (Shot("a", 0, 10), Shot("b", 10, 10.5))
    assert Storyboard.parse("seconds: 010\nshots: [a]").duration == 10


def test_aliases_are_read_and_cost_nothing():
    laughs = "\n".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'ha'}]" for n in range(40))
    with pytest.raises(ValueError, match="shot 1: prompt is a list"):
        Storyboard.parse(laughs, format="yaml")
    board = Storyboard.parse("- &a a fox\n- a hen\n- *a\n- !!str 7\n- ! yes\n")
    assert [shot.prompt for shot in board.shots] == ["a fox", "a hen", "a fox", "7", "yes"]


@pytest.mark.parametrize(
    ("sign", "name"),
    [
        ("\x07", "control character U+0007"), ("\x1b", "control character U+001B"), ("\0", "control character U+0000"),
        ("\x7f", "control character U+007F"), ("\x85", "control character U+0085"), ("\u2028", "character U+2028"),
        ("\u202e", "invisible character U+202E"), ("\u2066", "invisible character U+2066"),
        ("\ud800", "half of a surrogate pair, U+D800"), ("\uffff", "invisible character U+FFFF"), ("\x0c", "U+000C"),
    ],
)  # fmt: skip
def test_characters_that_no_prompt_may_hold_are_named(sign, name):
    where = "x, line 2, shot 1: the prompt holds "
    texts = [
        (json.dumps([f"a{sign}b"]).replace("[", "[\n"), where),
        (f"# a\na{sign}b", where),
        (f'"captions": [\n"a\\u{ord(sign):04x}b"]', where),
        (f'[\n{{"prompt": "a{sign}b"}}]', where),
        (f"- a\n- b{sign}c", "x, line 2: holds "),
        (json.dumps({"title": f"a{sign}", "shots": ["a"]}), "x: the title holds "),
        (f"1\n00:00:00,000 --> 00:00:01,000\na{sign}b\n", where),
    ]
    if not 0xD800 <= ord(sign) <= 0xDFFF:
        texts.append((f'- "a"\n- "b\\u{ord(sign):04x}c"', "x, line 2, shot 2: the prompt holds "))
    for text, place in texts:
        with pytest.raises(ValueError, match=re.escape(place) + f".*{re.escape(name)}; take it out") as caught:
            Storyboard.parse(text, source="x")
        assert str(caught.value).isprintable()
    for make in (Storyboard.from_prompts, lambda prompts: Storyboard(tuple(map(Shot, prompts)))):
        with pytest.raises(ValueError, match=f"shot 2: the prompt holds .*{re.escape(name)}; take it out"):
            make(["a", f"a{sign}b"])
    with pytest.raises(ValueError, match="the title holds"):
        Storyboard((Shot("a"),), title=f"a{sign}")


def test_tabs_newlines_and_signs_of_all_scripts_stay():
    prompt = "a\tb\nc 日本 \u200f שלום 🦊👩‍🚒 e\u0301 \ufeff\ue000"
    assert Storyboard.parse(json.dumps([prompt])).shots[0].prompt == prompt
    assert Storyboard.parse('["a\\r\\nb"]').shots[0].prompt == "a\nb"
    assert Storyboard.parse("- |\n  a\n  b\n").shots[0].prompt == "a\nb"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_files_are_read_in_any_unicode_encoding_with_a_mark(tmp_path, encoding, ending):
    path = tmp_path / "a.txt"
    text = f"日本 (0s - 3s){ending}\N{FOX FACE} (3s - 6s){ending}"
    path.write_bytes((("\ufeff" if encoding.endswith("-be") else "") + text).encode(encoding))
    assert Storyboard.load(path).shots == (Shot("日本", 0, 3), Shot("\N{FOX FACE}", 3, 6))


@pytest.mark.parametrize(
    "content", [b"\xff", b"caf\xe9", "a fox".encode("utf-16")[:-1], "é".encode("utf-16-le"), b"\x89PNG\r\n"]
)
def test_files_in_another_encoding_are_named(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.txt(: not a text file in UTF-8|, line 1, shot 1: the prompt holds)"):
        Storyboard.load(tmp_path / "a.txt")


def test_a_file_far_too_long_is_named(tmp_path):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match="is longer than 64 MiB"):
        Storyboard.load(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="cannot read the storyboard"):
        Storyboard.load("a\0b")


@pytest.mark.parametrize(
    "text",
    [
        SRT,
        SRT.replace("1\n", "", 1),
        "WEBVTT - mine\nKind: captions\n\nNOTE\nnothing\n\n" + SRT.replace(",", ".").replace("00:00:", "00:"),
        "WEBVTT\n\nfirst\n" + SRT.split("\n", 1)[1].replace("<i>", "<c.yellow>").replace("</i>", "</c>"),
    ],
)
def test_subtitles_are_read_by_suffix_and_by_content(tmp_path, text):
    for name in ("a.srt", "a.vtt", "a.txt", "a"):
        (tmp_path / name).write_text(text)
        assert Storyboard.load(tmp_path / name).shots == CUES


def test_cues_are_sorted_by_their_start(tmp_path):
    blocks = SRT.strip().split("\n\n")
    (tmp_path / "a.srt").write_text("\n\n".join(reversed(blocks)))
    assert Storyboard.load(tmp_path / "a.srt").shots == CUES


@pytest.mark.parametrize(
    "item",
    [
        "{prompt: a, start_time: 0, end_time: 3}", "{description: a, start: 0, end: 3}",
        "{sentence: a, timestamp: [0, 3]}", "{caption: a, segment: ['0:00', 3 s]}",
        "{text: a, timestamp: [0:00, 0:03]}",
    ],
)  # fmt: skip
def test_fields_of_data_sets_are_read(item):
    assert Storyboard.parse(f"- {item}").shots == (Shot("a", 0, 3),)


def test_segments_of_a_transcript_are_shots():
    segments = [
        {"id": 0, "seek": 0, "start": 0.0, "end": 3.0, "text": " a fox", "tokens": [1, 2, 3, 4], "temperature": 0.0},
        {"id": 1, "seek": 0, "start": 3.0, "end": 6.5, "text": " a hen at 3s", "words": [{"word": "a"}]},
    ]
    text = json.dumps({"text": "a fox a hen", "segments": segments, "language": "en"}, indent=1)
    expected = (Shot("a fox", 0, 3), Shot("a hen at 3s", 3, 6.5))
    assert Storyboard.parse(text).shots == Storyboard.parse(text, format="yaml").shots == expected
    assert Storyboard.parse("segments:\n- {text: a, start: 0, no_speech_prob: 0.1}").shots == (Shot("a", 0),)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (r'"a \ud83d\ude00 b"', "a \U0001f600 b"), (r'"\uD83E\uDD8A\ud83d\ude00"', "\U0001f98a\U0001f600"),
        (r'"a \\ud83d\\ude00"', r"a \ud83d\ude00"), (r'"\u00e9"', "é"),
    ],
)  # fmt: skip
def test_yaml_reads_characters_as_json_escapes_them(tmp_path, text, prompt):
    assert json.loads(text) == prompt
    (tmp_path / "a.yaml").write_text(f"- {text}\n")
    assert Storyboard.load(tmp_path / "a.yaml").shots == (Shot(prompt),)


def test_half_a_pair_in_yaml_is_one_line():
    with pytest.raises(ValueError, match="line 1"):
        Storyboard.parse(r'- "a \ud83d b"', format="yaml")


@pytest.mark.parametrize("head", ["", "\n\n", "# mine\n", "title: t\n", "---\n"])
@pytest.mark.parametrize("key", ["shots", "captions", "prompts"])
def test_yaml_in_a_text_file_is_read_as_such(tmp_path, head, key):
    (tmp_path / "a.txt").write_text(f"{head}{key}:\n  - a\n  - b\n")
    assert Storyboard.load(tmp_path / "a.txt").shots == (Shot("a"), Shot("b"))
    (tmp_path / "a.txt").write_text(f"{key}: a fox\nb\n")
    assert Storyboard.load(tmp_path / "a.txt").shots[1] == Shot("b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"%PDF-1.7\nx", "is a PDF, not a storyboard"),
        ("a", b"{\\rtf1\\ansi a fox}", "is rich text"),
        ("a.txt", b"PK\x03\x04abc", "is a ZIP archive"),
        ("a.txt", b"<!DOCTYPE html>\n<p>a", "is a web page"),
        ("a.csv", b"start,end,prompt\n0,3,a\n", ".csv files are not read; expected .yaml"),
        ("a.TOML", b"[[shots]]\nprompt = 'a'\n", ".toml files are not read"),
        ("a.md", b"# a\n", ".md files are not read"),
        ("a.docx", b"PK\x03\x04", ".docx files are not read"),
        ("a.bin", b"a\0\0b", "not a text file in UTF-8"),
        ("a.txt", b"a\0\0b\nc", "not a text file in UTF-8"),
    ],
)
def test_files_of_other_formats_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}: {message}")) as caught:
        Storyboard.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_pipes_are_read_and_waited_for_a_while_only(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_WAIT", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"pipe: nothing came from it in 0\.2 s"):
        Storyboard.load(pipe)
    for text, delay in (("- a\n- b\n", 0.0), ("- a\n" * 50_000, 0.0), ("- a\n- b\n", 0.1)):
        reading, writing = os.pipe()
        writer = threading.Thread(target=_write, args=(writing, text, delay))
        writer.start()
        try:
            assert len(Storyboard.load(f"/dev/fd/{reading}").shots) == text.count("\n")
        finally:
            os.close(reading)
            writer.join()
    with pytest.raises(ValueError, match="storyboard is empty"):
        Storyboard.load("/dev/null")
    with pytest.raises(ValueError, match="is longer than 64 MiB"):
        Storyboard.load("/dev/zero")


def _write(descriptor, text, delay):
    time.sleep(delay)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


@pytest.mark.parametrize("name", ["prompt", "caption", "text"])
@pytest.mark.parametrize("wrap", ["{}", '{{"captions": {}, "video": {{"a": [], "a": []}}}}', '"captions": {}'])
def test_lists_of_start_end_and_caption(tmp_path, name, wrap):
    items = [{"start": "0:00", "end": "3 s", name: "a"}, {"start": 3, "end": "00:00:06", name: "b"}]
    expected = (Shot("a", 0, 3), Shot("b", 3, 6))
    assert Storyboard.parse(wrap.format(json.dumps(items))).shots == expected
    (tmp_path / "a.txt").write_text(wrap.format(json.dumps(items)))
    assert Storyboard.load(tmp_path / "a.txt").shots == expected


SIZE = 300_000


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("yaml", "- a fox\n" * (SIZE // 8)),
        ("yaml", "".join(f"- {{prompt: a, start: {n}}}\n" for n in range(SIZE // 28))),
        ("yaml", "- &a " + "word 7s " * (SIZE // 16) + "\n" + "- *a\n" * (SIZE // 10)),
        ("yaml", "- {" * (SIZE // 3)),
        ("yaml", "- '" + "a\n\n" * (SIZE // 3)),
        ("json", json.dumps(["a fox"] * (SIZE // 9))),
        ("json", '["' + "\\" * SIZE),
        ("json", "[" + " \n" * (SIZE // 2) + "1]"),
        ("captions", '"captions": [' + '"a",\n' * (SIZE // 5) + "]"),
        ("captions", '"captions": [' + "," * SIZE + "]"),
        ("captions", '"captions": ["' + "a" * SIZE + "]"),
        ("text", "a fox\n" * (SIZE // 6)),
        ("text", "9" * SIZE),
        ("text", "a (" + "9:" * (SIZE // 2) + ")"),
        ("text", "a (0s" + " " * SIZE + "- 3s)"),
        ("text", "(" * SIZE + "0s-3s"),
        ("text", "(0s-3s" * (SIZE // 6)),
        ("text", "3 - " * (SIZE // 4)),
        ("text", "(3s ;" * (SIZE // 5)),
        ("text", "from " * (SIZE // 6) + "0:00"),
        ("text", "a (0 " + "- 0" * (SIZE // 3)),
        ("text", "between 0s and 3s" * (SIZE // 17) + " a"),
        ("text", "between 0s and 3s" + "." * SIZE + "a 1"),
        ("text", "." * SIZE + "a 1"),
        ("text", "(0'" * (SIZE // 3)),
        ("text", "(frames 0-" * (SIZE // 10)),
        ("text", "start: 0s ." * (SIZE // 11) + "a"),
        ("text", "title: a\n" * (SIZE // 9)),
        ("json", json.dumps(["\u200b" * SIZE + "a"] * 3)),
        ("yaml", "- &a '" + "\u200b" * (SIZE // 2) + "a'\n" + "- *a\n" * (SIZE // 10)),
        ("yaml", '- "' + "\\\\" * (SIZE // 2) + '"'),
        ("text", "1m1s" * (SIZE // 4)),
        ("text", "".join(f"a ({n}s - {n + 1}s)\n" for n in range(SIZE // 18))),
        ("subtitles", "".join(f"{n // 60}:{n % 60:02d} --> {n // 60}:{n % 60:02d}.5\na\n\n" for n in range(12_000))),
        ("subtitles", "0:00 --> 0:01\n" + "<b " * (SIZE // 3)),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("plain_errors")  # what checks types takes longer than what is checked
def test_long_files_are_read_or_refused_in_time(format, text):
    begun = time.process_time()
    try:
        board = Storyboard.parse(text, format=format)
        chunk_shots(board, fps=8, frames_per_chunk=20, num_chunks=None if board.duration else 1000)
        message = ""
    except ValueError as error:
        message = str(error)
    assert len(message) < 500
    assert time.process_time() - begun < 4
