import json
import subprocess
import sys

import pytest

from vde_metrics import measure
from vde_metrics.cli import main


def run(capsys, *args):
    code = main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_line(err):
    assert err.startswith("vde: ")
    assert err.count("\n") == 1
    return err


def test_json_of_one_video_is_its_report(capsys, film):
    code, out, err = run(capsys, film, "--json", "--num-chunks", 4, "--weights", "log")
    assert (code, err) == (0, "")
    assert json.loads(out) == measure(film, num_chunks=4, weights="log").to_dict()


def test_several_videos_give_an_array_and_one_page(capsys, film, tmp_path):
    page = tmp_path / "drift.html"
    code, out, _ = run(capsys, film, film, "--json", "--metric", "motion-smoothness", "--num-chunks", 3, "--html", page)
    assert code == 0
    assert [list(report["metrics"]) for report in json.loads(out)] == [["motion_smoothness"]] * 2
    assert page.read_text().count("<polyline") == 2


def test_text_is_the_markdown_report(capsys, film):
    code, out, _ = run(capsys, film)
    assert code == 0
    assert out.strip() == measure(film).to_markdown().strip()


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
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, args, message):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert message in one_line(err)


def test_bad_files_are_named(capsys, tmp_path, film):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing to see")
    code, out, err = run(capsys, bad)
    assert (code, out) == (2, "")
    assert f"{bad}: cannot be decoded" in one_line(err)
    code, out, err = run(capsys, film, "--num-chunks", 25)
    assert (code, out) == (2, "")
    assert f"{film}: 24 frames are too few for 25 chunks" in one_line(err)


def test_good_videos_are_measured_beside_bad_ones(capsys, film):
    code, out, err = run(capsys, "none.mp4", film, "--json")
    assert code == 2
    assert [report["video"] for report in json.loads(out)] == ["film.mp4"]
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
        "import sys, vde_metrics; from vde_metrics.cli import main; code = main(['--help']);"
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
