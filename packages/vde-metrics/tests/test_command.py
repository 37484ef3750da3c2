import json
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest
import torch

from vde_metrics import measure
from vde_metrics.command_line import main


def run(capsys, *args):
    code = main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_line(err):
    assert err.startswith("vde: ")
    assert err.count("\n") == 1
    return err


def test_json_of_one_video_is_its_report(capsys, clip):
    code, out, err = run(capsys, clip, "--json", "--num-chunks", 4, "--weights", "log")
    assert (code, err) == (0, "")
    assert json.loads(out) == measure(clip, num_chunks=4, weights="log").to_dict()


def test_several_videos_give_an_array_and_one_page(capsys, clip, tmp_path):
    page = tmp_path / "drift.html"
    code, out, _ = run(capsys, clip, clip, "--json", "--metric", "motion-smoothness", "--num-chunks", 3, "--html", page)
    assert code == 0
    assert [list(report["metrics"]) for report in json.loads(out)] == [["motion_smoothness"]] * 2
    assert page.read_text().count("<polyline") == 2


def test_text_is_the_markdown_report(capsys, clip):
    code, out, _ = run(capsys, clip)
    assert code == 0
    assert out.strip() == measure(clip).to_markdown().strip()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.mp4"], "none.mp4: no such file"),
        ([], "Missing argument 'VIDEO...'"),
        (["x.mp4", "--weights", "cubic"], "'cubic' is not one of 'linear', 'log'"),
        (["x.mp4", "--num-chunks", "1"], "1 is not in the range"),
        (["x.mp4", "--num-chunks", "many"], "not a valid int"),
        (["x.mp4", "--html", "no/such/folder/page.html"], "folder no/such/folder does not exist"),
        (["x.mp4", "--frobnicate"], "--frobnicate"),
        (["x.mp4", "--html", "."], "is a directory"),
        (["x.mp4", "--markdown", ""], "expected the name of a file"),
        ([""], "the name of a video is empty"),
        (["x.mp4", "--metric", "subject", "--device", "banana"], "device is 'banana', which torch cannot use here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, args, message):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert message in one_line(err)


def test_bad_files_are_named(capsys, tmp_path, clip):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing to see")
    code, out, err = run(capsys, bad)
    assert (code, out) == (2, "")
    assert f"{bad}: cannot be decoded" in one_line(err)
    for count in (25, 10**20):
        code, out, err = run(capsys, clip, "--num-chunks", count)
        assert (code, out) == (2, "")
        assert f"{clip}: 24 frames are too few for {count} chunks" in one_line(err)


def test_good_videos_are_measured_beside_bad_ones(capsys, clip):
    code, out, err = run(capsys, "none.mp4", clip, "--json")
    assert code == 2
    assert [report["video"] for report in json.loads(out)] == ["clip.mp4"]
    assert "none.mp4" in one_line(err)


def test_an_infinite_error_is_a_warning_not_a_failure(capsys, tools, tmp_path):
    frames = tools.panning(24, 32, 32).numpy()
    frames[:12] = 90
    video = tools.write_video(tmp_path / "late.mp4", frames)
    code, out, err = run(capsys, video, "--metric", "motion", "--num-chunks", 4, "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["motion"]["vde"] == "inf"
    assert "warning" in one_line(err)
    assert "motion: the first chunk scores 0" in err


def test_help_and_import_load_nothing_heavy():
    script = (
        "import sys, vde_metrics; from vde_metrics.command_line import main; code = main(['--help']);"
        "heavy = {'torch', 'cv2', 'av', 'numpy', 'transformers'} & sys.modules.keys();"
        "sys.exit(f'loaded {heavy}, code {code}' if heavy or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "VIDEO..." in done.stdout


def test_using_every_public_name_loads_no_video_library():
    script = (
        "import sys, vde_metrics as v; [getattr(v, name) for name in v.__all__]; v.Clarity(); v.Motion();"
        "v.Background(); heavy = {'cv2', 'av', 'transformers', 'PIL'} & sys.modules.keys();"
        "sys.exit(str(heavy or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def models(tools, tmp_path_factory):
    """Two folders with two videos of the same names; those of the second fade."""
    folder = tmp_path_factory.mktemp("models")
    for model, fading in (("steady", 0.0), ("fading", 0.6)):
        (folder / model / "deep").mkdir(parents=True)
        for i, name in enumerate(("cat.mp4", "deep/dog.mp4")):
            frames = tools.panning(16, 32, 32, seed=i).float()
            light = 1 - fading * torch.arange(16.0)[:, None, None, None] / 15
            tools.write_video(folder / model / name, (frames * light).byte().numpy())
    return folder


def test_folders_and_patterns_are_searched(capsys, models):
    common = ["--json", "--metric", "clarity", "--num-chunks", 4]
    _, out, _ = run(capsys, models / "steady", *common)
    assert [report["video"] for report in json.loads(out)] == ["cat.mp4", "dog.mp4"]
    _, out, _ = run(capsys, models / "*" / "cat.mp4", *common)
    assert [report["video"] for report in json.loads(out)] == ["fading/cat.mp4", "steady/cat.mp4"]
    empty = models / "steady" / "deep" / "none"
    empty.mkdir(exist_ok=True)
    code, _, err = run(capsys, empty, *common)
    assert (code, "no videos in this folder" in one_line(err)) == (2, True)
    code, _, err = run(capsys, models / "*.avi", *common)
    assert (code, "no file matches this pattern" in one_line(err)) == (2, True)


def test_models_are_compared_video_by_video(capsys, models, tmp_path):
    page, text = tmp_path / "drift.html", tmp_path / "drift.md"
    common = ["--compare", "--metric", "clarity", "--num-chunks", 4, "--html", page, "--markdown", text]
    code, out, err = run(capsys, models / "steady", models / "fading", *common, "--json")
    assert (code, err) == (0, "")
    (metric,) = json.loads(out)["comparison"]["metrics"]
    (difference,) = metric["differences"]
    assert (difference["label"], difference["is_paired"]) == ("fading", True)
    assert difference["estimate"]["low"] > 0.1
    assert difference["estimate"]["mean"] == pytest.approx(
        metric["groups"]["fading"]["mean"] - metric["groups"]["steady"]["mean"]
    )
    assert page.read_text().count("<polyline") == 6  # four videos, two means
    assert page.read_text().count("<img") == 16
    assert "fading minus steady" in text.read_text()


def test_saved_reports_are_read_and_those_of_other_encoders_refused(capsys, clip, models, tmp_path):
    _, out, _ = run(capsys, models / "steady", "--json", "--num-chunks", 4)
    ours = tmp_path / "ours.json"
    ours.write_text(out)
    code, again, _ = run(capsys, ours, "--json")
    assert (code, json.loads(again)) == (0, json.loads(out))
    theirs = tmp_path / "theirs.json"
    theirs.write_text(out.replace("DIS fast", "RAFT large"))
    code, out, err = run(capsys, "--compare", ours, theirs, "--json")
    assert (code, out) == (2, "")
    assert "was measured with flow DIS fast" in one_line(err)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ([], []),
        ([], [{}]),
        (["weights"], "cubic"),
        (["chunk_frames"], [0, 24]),
        (["chunk_frames"], [0, 9, 9, 12, 24]),
        (["still_pairs"], [0.0]),
        (["metrics"], {}),
        (["metrics", "clarity", "scores"], [1.0, 2.0]),
        (["metrics", "clarity", "scores"], [None] * 4),
        (["metrics", "clarity", "vde"], "nan"),
        (["metrics", "clarity", "worst_chunk"], 4),
    ],
)
def test_what_no_measurement_wrote_is_refused(capsys, clip, tmp_path, path, value):
    report = measure(clip, num_chunks=4).to_dict()
    if path:
        place = report
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(report if path else value))
    code, out, err = run(capsys, saved)
    assert (code, out) == (2, "")
    assert re.search(f"^vde: {saved}: (is not a drift report|holds no reports)", one_line(err))


def test_an_output_is_whole_or_not_there(capsys, clip, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("yesterday's")
    assert run(capsys, clip, "--html", page, "--metric", "clarity")[0] == 0
    assert page.read_text().endswith("</html>\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert run(capsys, clip, "--markdown", pipe, "--metric", "clarity")[0] == 0
    assert reader.communicate(timeout=60)[0].startswith("## clip.mp4")
    assert stat.S_ISFIFO(pipe.stat().st_mode)  # a file in its place would have been a surprise
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "pipe"]


def test_a_model_without_videos_is_named(capsys, clip):
    code, _, err = run(capsys, "--compare", clip, "none.mp4", "--metric", "clarity")
    assert code == 2
    assert err.splitlines() == [
        "vde: none.mp4: no such file",
        "vde: none.mp4: none of its videos could be measured, so nothing is compared",
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["x.mp4", "--metric", "dynamic-degree"], "dynamic-degree is not a metric of the protocol paper"),
        (["x.mp4", "--model", "dino"], "'dino'; expected ROLE=WEIGHTS"),
        (["--compare", "x.mp4"], "--compare needs two arguments"),
    ],
)
def test_options_that_do_not_fit(capsys, args, message):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert message in one_line(err)


def test_missing_weights_are_named_with_their_place(capsys, clip, tmp_path):
    for metric, role, message in (
        ("subject-consistency", "dino", "should be a folder with config.json"),
        ("imaging-quality", "musiq", "put musiq_spaq_ckpt-358bb6af.pth"),
        ("dynamic-degree", "raft", "put raft_large_C_T_V1-22a6c225.pth"),
        ("aesthetic-quality", "laion", "put sa_0_4_vit_l_14_linear.pth"),
    ):
        missing = f"{role}={tmp_path / 'none'}"
        code, _, err = run(capsys, clip, "--protocol", "released", "--metric", metric, "--model", missing)
        assert (code, message in one_line(err)) == (2, True)


NAMES = [
    "12:30:00.mp4",
    "http:__x",
    "pipe:1.mp4",
    "%03d.mp4",
    "[a].mp4",
    "~x.mp4",
    "日本.mp4",
    "a\nb.mp4",
    "caf\udce9.mp4",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("form", ["--json", "--html"])
def test_a_file_is_measured_whatever_it_is_called(clip, tmp_path, monkeypatch, capsys, name, form):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    assert main([name, "--num-chunks", "3", form, *(["page.html"] if form == "--html" else [])]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    out.encode("utf-8")
    if form == "--json":
        assert json.loads(out)["video"].isprintable()
    else:
        assert "clarity" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_shows_the_report(clip, tmp_path, encoding):
    path = shutil.copy(clip, tmp_path / "日本.mp4")
    command = [sys.executable, "-m", "vde_metrics", str(path), "--num-chunks", "3"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"clarity" in done.stdout


IDLE = [
    (["--model", "dino=weights"], "none of clarity, motion uses it; it is for subject-consistency"),
    (["--metric", "subject", "--model", "laion=x"], "it is for aesthetic and aesthetic-quality"),
    (["--device", "meta"], "--device says where models run, but clarity, motion use no model"),
    (["--metric", "background", "--device", "cuda"], "--device says where models run"),
]


@pytest.mark.parametrize(("options", "said"), IDLE)
def test_options_that_would_change_nothing_are_refused(capsys, clip, options, said):
    code, out, err = run(capsys, clip, *options)
    assert (code, out) == (2, "")
    assert said in one_line(err)


@pytest.mark.parametrize(
    "options",
    [
        *(["--num-chunks", "4"], ["--chunk-seconds", "1"], ["--weights", "linear"], ["--protocol", "paper"]),
        *(["--metric", "clarity"], ["--device", "cpu"], ["--cache", "kept"], ["--model", "encoder=x"]),
    ],
)
def test_saved_reports_are_not_measured_again(capsys, clip, tmp_path, options):
    saved = tmp_path / "saved.json"
    saved.write_text(run(capsys, clip, "--json", "--num-chunks", 4)[1])
    assert run(capsys, saved)[0] == 0
    code, out, err = run(capsys, saved, *options)
    assert (code, out) == (2, "")
    assert "saved reports are read as they are" in one_line(err) or "uses it; it is for" in err
    if options[0] not in ("--model", "--device", "--cache"):
        assert run(capsys, saved, clip, *options)[0] == 0


def test_what_is_measured_is_not_written_over(capsys, clip, tmp_path):
    video = tmp_path / "clip.mp4"
    video.write_bytes(clip.read_bytes())
    for options in (["--html", video], ["--markdown", tmp_path / "." / "clip.mp4"]):
        code, out, err = run(capsys, video, "--num-chunks", 4, *options)
        assert (code, out) == (2, "")
        assert "one of the videos; give another file" in one_line(err)
    code, out, err = run(capsys, video, "--num-chunks", 4, "--html", tmp_path / "x", "--markdown", tmp_path / "x")
    assert (code, out) == (2, "")
    assert "the file of --markdown, too; give another file" in one_line(err) or "the file of --html" in err
    assert video.read_bytes() == clip.read_bytes()
    assert not (tmp_path / "x").exists()
