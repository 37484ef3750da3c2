"""Tables of several models come of their videos, and a stopped bench goes on."""

import json
import shutil

import numpy as np
import pytest

from bdiff.cli.main import main
from bdiff.files import write_whole
from bdiff_bench.lvbench import LVBenchConfig, bench_lvbench, find_videos
from bdiff_bench.lvbench.page import lvbench_parts


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A manifest of five videos; two models made them, the second one fades and lacks a video."""
    av = pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("lvbench")
    names = [f"GOT-10k/{i}.mp4" for i in range(5)]
    lines = [{"video": name, "chunks": ["A swan (00s - 01s)", "It rests (01s - 02s)"]} for name in names]
    write_whole(folder / "manifest.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    for model, fading in (("fading", 0.6), ("steady", 0.0)):
        for i, name in enumerate(names):
            if (model, i) != ("fading", 0):
                path = folder / "videos" / model / name
                path.parent.mkdir(parents=True, exist_ok=True)
                encode(av, path, moving(i, fading))
    return folder


def moving(seed, fading):
    random = np.random.default_rng(seed).integers(0, 256, (24, 32, 3))
    light = 1 - fading * np.arange(16) / 15
    return np.stack([np.roll(random, t, 1) * light[t] for t in range(16)]).astype(np.uint8)


def encode(av, path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "mpeg4", rate=8)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 24, 32, "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def config(bench, out, **changes):
    return LVBenchConfig(
        **{
            "manifest": bench / "manifest.jsonl",
            "videos": bench / "videos",
            "out": out,
            "metrics": ("clarity",),
            "num_chunks": 4,
            "split": "all",
        }
        | changes
    )


def test_tables_show_the_models_of_the_folders(bench, tmp_path):
    summary = bench_lvbench(config(bench, tmp_path))
    assert [(name, one["videos"]) for name, one in summary["methods"].items()] == [("fading", 4), ("steady", 5)]
    assert summary["methods"]["fading"]["missing"] == ["GOT-10k/0.mp4"]
    vde = {name: one["vde"]["clarity"] for name, one in summary["methods"].items()}
    assert vde["fading"]["low"] > vde["steady"]["high"]
    page = (tmp_path / "page.md").read_text()
    assert "| Method | VDE Subject | VDE Background | VDE Motion | VDE Aesthetic | VDE Clarity |" in page
    assert "| steady | - | - | - | - | " in page
    assert "Dynamic Degree" in page
    assert "Videos of fading that are missing: 1, such as GOT-10k/0.mp4." in page
    parts = lvbench_parts(json.loads((tmp_path / "summary.json").read_text()))
    assert page == "\n\n".join(["# LV-Bench", *parts]) + "\n"


def test_a_stopped_bench_goes_on_and_refuses_other_settings(bench, tmp_path):
    whole = bench_lvbench(config(bench, tmp_path))
    path = tmp_path / "videos.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:40])
    done = []
    again = bench_lvbench(config(bench, tmp_path), on_video=lambda number, total: done.append((number, total)))
    assert done == [(number, 9) for number in range(4, 10)]
    assert again == whole
    with pytest.raises(ValueError, match=r"holds figures of other settings \(different: num_chunks\)"):
        bench_lvbench(config(bench, tmp_path, num_chunks=5))


def test_figures_of_another_folder_of_videos_are_not_taken_for_those_asked_for(bench, tmp_path):
    """A folder of one model has the same label whatever it is called."""
    bench_lvbench(config(bench, tmp_path, videos=bench / "videos" / "steady"))
    with pytest.raises(ValueError, match=r"holds figures of other settings \(different: videos\)"):
        bench_lvbench(config(bench, tmp_path, videos=bench / "videos" / "fading"))


def test_a_bad_video_does_not_stop_the_others(bench, tmp_path):
    summary = bench_lvbench(config(bench, tmp_path, num_chunks=17))
    assert all(len(one["problems"]) == 5 - len(one["missing"]) for one in summary["methods"].values())
    assert "could not be measured" in (tmp_path / "page.md").read_text()


def test_a_bad_video_that_was_replaced_is_measured_when_the_bench_goes_on(bench, tmp_path):
    videos, done = tmp_path / "videos", []
    shutil.copytree(bench / "videos" / "steady", videos)
    bad, out = videos / "GOT-10k" / "2.mp4", tmp_path / "out"
    whole = bad.read_bytes()
    bad.write_bytes(b"no video")
    out.mkdir()

    def again():
        done.clear()
        settings = config(bench, out, videos=videos)
        return bench_lvbench(settings, on_video=lambda number, total: done.append((number, total)))["methods"]["."]

    for expected in (5, 1):
        assert list(again()["problems"]) == ["GOT-10k/2.mp4"]
        assert len(done) == expected
    assert done == [(5, 5)]
    bad.write_bytes(whole)
    found = again()
    assert (found["videos"], found["problems"], len(done)) == (5, {}, 1)
    assert again() == found
    assert done == []


def test_the_split_and_a_single_model(bench, tmp_path):
    jobs, missing = find_videos(config(bench, tmp_path, videos=bench / "videos" / "steady", split="evaluation"))
    assert [job.method for job in jobs] == ["."]
    assert missing == {".": []}
    with pytest.raises(ValueError, match="holds none of the 5 videos of the split all"):
        find_videos(config(bench, tmp_path, videos=tmp_path))
    alone = tmp_path / "alone.jsonl"
    alone.write_text((bench / "manifest.jsonl").read_text().split("\n")[0])
    with pytest.raises(ValueError, match="of 1 videos none is left for the split evaluation"):
        find_videos(config(bench, tmp_path, manifest=alone, split="evaluation"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("sharpness",)}, "sharpness is not a metric of the protocol paper"),
        ({"metrics": ("subject-consistency",)}, "subject-consistency is not a metric of the protocol paper"),
        ({"plain": ("clarity",)}, "clarity is not a metric of the protocol released"),
        ({"device": "banana"}, "device is 'banana', which torch cannot use here"),
    ],
)
def test_what_is_wrong_for_every_video_stops_before_the_first(bench, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        bench_lvbench(config(bench, tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong_in_one_line(bench, tmp_path, capsys):
    arguments = ["bench", "lvbench", "--videos", str(bench / "videos"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--manifest", str(tmp_path / "none.jsonl")])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "none.jsonl: no such file; expected a manifest" in err
