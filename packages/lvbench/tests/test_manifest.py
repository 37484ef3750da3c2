import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvbench import CaptionedChunk, Manifest, ManifestEntry, read_captions, read_release

SWAN = """"captions": [
  "A swan glides across a lake (00s - 03s).",
  "It dips its “head” (04s–07s).", “It rests (0:08 - 1:02)”
]"""

times = st.lists(st.floats(0.1, 9), min_size=1, max_size=8)
words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30).filter(
    str.strip
)


def chunks_of(lengths, text="a swan"):
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    return tuple(CaptionedChunk(start=a, end=b, caption=text) for a, b in pairwise(starts))


def entry(video="a.mp4", lengths=(3.0, 3.0)):
    return ManifestEntry(video=video, chunks=chunks_of(lengths))


def named(count):
    return Manifest(entries=tuple(entry(f"{i:04d}.mp4") for i in range(count)))


def test_captions_are_read_as_the_paper_prints_them(tmp_path):
    (tmp_path / "swan.txt").write_text(SWAN)
    assert read_captions(tmp_path / "swan.txt") == (
        CaptionedChunk(start=0, end=3, caption="A swan glides across a lake."),
        CaptionedChunk(start=4, end=7, caption="It dips its “head”."),
        CaptionedChunk(start=8, end=62, caption="It rests"),
    )
    (tmp_path / "swan.json").write_text(json.dumps({"captions": ["A swan\n(00s - 03s)"]}))
    assert read_captions(tmp_path / "swan.json") == (CaptionedChunk(start=0, end=3, caption="A swan"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"captions": none', "swan.txt, line 1: expected a list in brackets"),
        ('["A (0s - 3s)",\n"B"]', r"line 2: 'B' does not end with a range of seconds"),
        ('["A (0s - 3s)",\nB]', "line 2: expected a caption in quotes, got 'B]'"),
        ('["A (3s - 3s)"]', "line 1: the range 3 to 3 seconds is empty"),
        ('["A (0s - 3s)",\n\n"B (2s - 5s)"]', "line 3: the range starts at 2 seconds, before the previous one ends"),
        ('[" (0s - 3s)"]', "line 1: the caption is empty"),
        ('["A \\q (0s - 3s)"]', "line 1: .* wrong escape"),
        ("[]", "the list is empty"),
    ],
)
def test_wrong_captions_are_named_by_their_line(tmp_path, text, message):
    (tmp_path / "swan.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_captions(tmp_path / "swan.txt")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-zé]{1,8}/[a-z0-9]{1,8}\.mp4", fullmatch=True),
            times,
            words,
            st.none() | words,
            st.sampled_from([None, "humans", "animals", "environment"]),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda one: one[0],
    )
)
def test_manifests_survive_being_saved(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("manifest") / "m.jsonl"
    entries = [
        ManifestEntry(video=video, chunks=chunks_of(lengths, text), source=source, object_class=kind)
        for video, lengths, text, source, kind in drawn
    ]
    manifest = Manifest(entries=tuple(entries))
    manifest.save(path)
    assert Manifest.load(path) == manifest
    assert [file.name for file in path.parent.iterdir()] == ["m.jsonl"]


def test_a_manifest_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.jsonl"
    named(2).save(path)
    broken = Manifest(entries=(ManifestEntry(video="a.mp4", chunks=chunks_of((3.0,), "a\ud800")),))
    with pytest.raises(UnicodeEncodeError):
        broken.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]
    assert Manifest.load(path) == named(2)


def test_a_manifest_holds_videos_and_none_twice():
    with pytest.raises(ValueError, match="the manifest has no videos"):
        Manifest(entries=())
    with pytest.raises(ValueError, match=r"the video a\.mp4 is in the manifest twice"):
        Manifest(entries=(entry(), entry()))


GOOD = {"video": "a.mp4", "chunks": ["A (0s - 3s)", {"start": 4, "end": 7.5, "caption": "B"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": "/a.mp4"}, "video is '/a.mp4'; expected a path below"),
        ({"video": "../a.mp4"}, "expected a path below"),
        ({"video": None}, "video is None"),
        ({"video": "."}, "expected a path below"),
        ({"chunks": []}, "chunks is []; expected a list"),
        ({"chunks": ["A"]}, "chunk 0: 'A' does not end with a range"),
        ({"chunks": [{"start": 0, "end": 1}]}, "chunk 0: expected start, end and caption"),
        ({"chunks": [{"start": "soon", "end": 1, "caption": "A"}]}, "chunk 0: start is 'soon'; expected seconds"),
        ({"chunks": [{"start": 0, "end": 10**400, "caption": "A"}]}, "chunk 0: end is inf; expected seconds"),
        ({"chunks": [{"start": 0, "end": 10**350, "caption": "A"}]}, "chunk 0: end is a number of more than 20 digits"),
        ({"chunks": ["A\x07 (0s - 3s)"]}, "chunk 0: the caption holds the character U+0007; take it out"),
        ({"chunks": [{"start": 0, "end": None, "caption": "A"}, "B (3s - 4s)"]}, "before the previous one ends at inf"),
        ({"source": "a\u202eb"}, "the source holds the character U+202E"),
        ({"video": "a\ud800.mp4"}, "the name of the video holds the character U+D800"),
        ({"chunks": [{"start": 0, "end": 1, "caption": 5}]}, "chunk 0: caption is 5; expected text"),
        ({"chunks": ["A (0s - 3s)", "B (1s - 5s)"]}, "chunk 1: the range starts at 1 seconds"),
        ({"object_class": "cars"}, "object_class is 'cars'; expected one of humans, animals, environment"),
        ({"source": 3}, "source is 3; expected a word"),
        ({"fps": 8}, "unknown field 'fps'; known are video, chunks"),
    ],
)
def test_wrong_lines_are_named(tmp_path, changes, message):
    path = tmp_path / "m.jsonl"
    path.write_text("\n" + json.dumps(GOOD | {"video": "b.mp4"}) + "\n" + json.dumps(GOOD | changes))
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 3")) as caught:
        Manifest.load(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"chunks": ' + '{"a":' * 100_000, "{"])
def test_lines_that_are_no_json_are_named(tmp_path, line):
    (tmp_path / "m.jsonl").write_text("\n" + line)
    with pytest.raises(ValueError, match=r"m.jsonl, line 2: (cannot be read as|not valid) JSON"):
        Manifest.load(tmp_path / "m.jsonl")


def test_wrong_files_are_named(tmp_path):
    path = tmp_path / "m.jsonl"
    with pytest.raises(FileNotFoundError, match="no such file; expected a manifest"):
        Manifest.load(path)
    for text, message in (
        ("", "is empty"),
        ("{", "line 1: not valid JSON: .* at column 2"),
        ("[1]", "line 1: expected an object"),
        ('{"video": "a.mp4", "video": "b.mp4"}', "line 1: 'video' is given twice"),
        ('{"video": "a.mp4", "chunks": [{"start": 0, "start": 1}]}', "line 1: 'start' is given twice"),
        ('{"video": "a.mp4", "chunks": ' + "9" * 5000 + "}", "line 1: chunks is inf; expected a list"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD), r"line 2: a\.mp4 is also on line 1"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Manifest.load(path)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 5))
def test_the_split_is_8_to_2_and_does_not_depend_on_the_order(count, seed):
    manifest = named(count)
    split = manifest.split(seed)
    assert len(split.train) == round(0.8 * count)
    assert {*split.train} | {*split.evaluation} == {*manifest.entries}
    turned = Manifest(entries=manifest.entries[::-1]).split(seed)
    assert {*turned.train} == {*split.train}


def test_seeds_split_differently():
    assert named(100).split(0).evaluation != named(100).split(1).evaluation


def test_boundaries_close_the_gaps_of_inclusive_ranges():
    one = ManifestEntry(
        video="a.mp4",
        chunks=(CaptionedChunk(start=0, end=3, caption="a"), CaptionedChunk(start=4, end=7, caption="b")),
    )
    assert one.boundaries(70, 8.0) == [0, 32, 70]
    with pytest.raises(ValueError, match=r"a\.mp4: chunk 1 would be frames 32 to 30; .* too few for its captions"):
        one.boundaries(30, 8.0)


def test_the_release_is_read_from_its_folders(tmp_path):
    videos = tmp_path / "hub" / "Video_datasets"
    for name in ("GOT-10k/0001.mp4", "GOT-10k/0002.mp4", "DanceTrack/x/9.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
        (videos / name).with_suffix(".json").write_text('{"captions": ["A (00s - 03s)"]}')
    manifest = read_release(tmp_path / "hub")
    assert [(one.video, one.source) for one in manifest.entries] == [
        ("DanceTrack/x/9.mp4", "DanceTrack"),
        ("GOT-10k/0001.mp4", "GOT-10k"),
        ("GOT-10k/0002.mp4", "GOT-10k"),
    ]
    assert read_release(videos) == manifest
    (videos / "GOT-10k/0002.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"0002\.json: no such file, nor 0002\.txt, 0002\.srt, 0002\.vtt"):
        read_release(tmp_path / "hub")
    with pytest.raises(FileNotFoundError, match="no videos here"):
        read_release(tmp_path / "none")


def test_files_of_systems_and_tools_are_left_out(tmp_path):
    for name in ("a.mp4", "._a.mp4", ".hidden/b.mp4", ".cache/huggingface/c.mp4", "x/.d.mp4", "x/e.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a.txt", "x/e.txt", "._a.txt", ".DS_Store"):
        (tmp_path / name).write_text("A swan.")
    assert [entry.video for entry in read_release(tmp_path).entries] == ["a.mp4", "x/e.mp4"]
    hidden = tmp_path / ".cache"  # a folder that is asked for by its name is read
    (hidden / "huggingface/c.txt").write_text("A swan.")
    assert [entry.video for entry in read_release(hidden).entries] == ["huggingface/c.mp4"]


def test_a_caption_of_the_whole_video_lasts_to_its_end(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "a.txt").write_text("A swan\nglides.\n")
    (tmp_path / "b.json").write_text('["A (0:00 - 0:03)"]')
    manifest = read_release(tmp_path)
    assert manifest.entries[0].chunks == (CaptionedChunk(start=0, end=float("inf"), caption="A swan glides."),)
    assert manifest.entries[0].boundaries(70, 8.0) == [0, 70]
    manifest.save(tmp_path / "m.jsonl")
    assert Manifest.load(tmp_path / "m.jsonl") == manifest
    assert "Infinity" not in (tmp_path / "m.jsonl").read_text()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_manifests_are_read_in_any_unicode_encoding_with_a_mark(tmp_path, encoding):
    (tmp_path / "m.jsonl").write_text(json.dumps(GOOD, ensure_ascii=False) + "\n", encoding=encoding)
    assert Manifest.load(tmp_path / "m.jsonl").entries[0].chunks[0].caption == "A"
