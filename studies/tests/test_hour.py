"""The study of long videos, on a short one."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from bdiff.run import RunState, SampleConfig, make_spec
from bdiff_core import Storyboard
from studies.command import run_study, study
from studies.hour import HourConfig, measure_hour
from studies.hour import run as hour_run
from studies.hour.page import summarise


def chunk(number, *, seconds=1.0, anonymous=100):
    return {"chunk": number, "seconds": seconds, "anonymous_bytes": anonymous, "memory_bytes": 7 * number}


def test_growth_is_that_after_the_settled_chunks():
    sizes = [100] * 10 + [200] * 9 + [900] * 2 + [300] * 9 + [210] * 10
    chunks = [chunk(n, anonymous=sizes[n], seconds=2.0 if n >= 30 else 1.0) for n in range(40)]
    found = summarise(chunks, settled=10)
    assert found["anonymous_growth"] == pytest.approx(10 / 200)
    assert found["anonymous_bytes"]["most"] == 900
    assert found["late_over_early"] == 2.0
    assert found["memory_bytes"] == 7 * 39


def test_a_stopped_video_goes_on(tiny_model, tmp_path, monkeypatch):
    config = HourConfig(out=tmp_path / "video", model=tiny_model, num_chunks=8, settled=2)
    plain, count = hour_run.anonymous_bytes, iter(range(100))

    def stop():
        if next(count) == 3:
            raise KeyboardInterrupt
        return plain()

    monkeypatch.setattr(hour_run, "anonymous_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        measure_hour(config)
    monkeypatch.setattr(hour_run, "anonymous_bytes", plain)
    summary = measure_hour(config)
    assert summary["video"]["chunks"] == 8
    assert json.loads((config.out / "figures.json").read_text()) == summary
    assert (config.out / "endurance.png").stat().st_size > 5000
    page = (config.out / "page.md").read_text()
    assert f"| growth | **{100 * summary['anonymous_growth']:.1f}%** |" in page
    for name, size in (("endurance.png", None), ("moments.png", (1024, 256))):
        assert f"]({name})" in page
        with Image.open(config.out / name) as picture:
            assert size in (None, picture.size)
    assert not (config.out / "drift.json").exists()


@pytest.mark.parametrize("change", ["policy", "num_chunks", "model", "weights"])
def test_another_video_in_the_folder_is_not_taken_for_the_one_asked_for(tiny_model, tmp_path, change):
    model, other = tmp_path / "model", tmp_path / "other"
    shutil.copytree(tiny_model, model)
    config = HourConfig(out=tmp_path / "video", model=model, num_chunks=8, settled=2)
    captions = [f"a fox in place {number}" for number in range(config.num_chunks)]
    asked = SampleConfig(storyboard=Storyboard.from_prompts(captions), out=config.out, model=model)
    RunState(config.out).begin(make_spec(asked))
    changed, said = {
        "policy": ({"policy": "rolling"}, "a video of policy semantic, not rolling"),
        "num_chunks": ({"num_chunks": 9}, "a video of num_chunks 8, not 9"),
        "model": ({"model": other}, f"a video of model {model}, not {other}"),
        "weights": ({}, "sampling.json has changed since this video began"),
    }[change]
    (model / "sampling.json").write_text('{"steps": 1}')
    with pytest.raises(ValueError, match=re.escape(said)):
        measure_hour(replace(config, **changed))


def test_a_video_that_another_process_makes_is_refused_in_one_line(tiny_model, tmp_path, capsys):
    out, board = tmp_path / "video", Storyboard.from_prompts([f"a fox in place {number}" for number in range(202)])
    RunState(out).begin(make_spec(SampleConfig(storyboard=board, out=out, model=tiny_model)))
    arguments = ["--model", str(tiny_model), "--num-chunks", "202", "--out", str(out)]
    with RunState(out).held(), pytest.raises(SystemExit) as stopped:
        run_study(study("hour"), "studies.hour", arguments)
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert "another process is at work on" in error


def test_a_video_too_short_to_judge_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_chunks is 100; expected at least 202"):
        HourConfig(out=tmp_path, num_chunks=100)


def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_study(study("hour"), "studies.hour", ["--model", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert "none" in error


def test_tiny_has_a_length_of_its_own(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_study(study("hour"), "studies.hour", ["--tiny", "--num-chunks", "300", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "--tiny has sizes of its own: leave out --num-chunks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
