"""A study goes on where it stopped, and its pages come of the JSON alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bdiff_bench.harness import TimeLimit
from studies.ablation import AblationConfig, run_ablation, tiny_config
from studies.ablation import results as ablation_results
from studies.ablation import run as ablation_run
from studies.ablation.configurations import BASELINE, OURS, TRUTH
from studies.ablation.run_files import origins, read_runs
from studies.ablation.write_page import command as page_command
from studies.command import run_study, study


@pytest.fixture
def tiny(tiny_model, tmp_path):
    return tiny_config(AblationConfig(out=tmp_path / "whole", tables=("claim",), model=tiny_model))


def without_times(folder):
    """The JSON of every run, but for how long things took and what was checked out meanwhile."""
    runs = read_runs(folder)
    for run in runs:
        del run["commit"]
        for name in ("seconds", "commit"):
            (run["training"] or {}).pop(name, None)
        for line in run["films"]:
            line.pop("seconds")
            line.pop("call")
    return runs


class Countdown(TimeLimit):
    """Time is over when it has been asked for so many times."""

    def __init__(self, asked):
        super().__init__(None)
        self.left = asked

    def over(self):
        self.left -= 1
        return self.left < 0


def test_a_bench_that_is_stopped_twice_ends_with_the_figures_of_one_that_is_not(tiny, monkeypatch):
    summary, left = run_ablation(tiny)
    assert not left
    assert str(left) == "nothing"
    assert list(summary["cells"]) == [OURS, BASELINE, TRUTH]
    parts = replace(tiny, out=tiny.out.with_name("parts"))
    lefts = []
    for asked in (6, 14, 10_000):
        monkeypatch.setattr(ablation_run, "TimeLimit", lambda minutes, asked=asked: Countdown(asked))
        lefts.append(run_ablation(parts)[1])
    # stopped in the first training, and in the middle of the videos
    assert [(left.trainings, bool(left)) for left in lefts] == [(2, True), (0, True), (0, False)]
    assert 0 < lefts[1].videos < lefts[0].videos == 6
    assert str(lefts[0]) == "2 post-trainings, 6 videos"
    whole = without_times(tiny.out)
    assert [run["cell"]["label"] for run in whole] == [BASELINE, OURS, TRUTH]
    assert without_times(parts.out) == whole
    with pytest.raises(ValueError, match="another num_chunks; choose another folder"):
        run_ablation(replace(parts, num_chunks=4))
    before = json.loads((parts.out / "settings.json").read_text())
    del before["sampling"]["age_bonus"]  # as an earlier version wrote it
    (parts.out / "settings.json").write_text(json.dumps(before))
    monkeypatch.undo()
    results = {file: file.read_bytes() for file in (parts.out / "results").iterdir()}
    made = origins(read_runs(parts.out))
    monkeypatch.setattr(ablation_results, "commit", lambda: "later")
    monkeypatch.setattr(ablation_results, "describe_machine", lambda: {"processor": "another"})
    summary, _ = run_ablation(parts)
    assert {file: file.read_bytes() for file in results} == results
    assert {"machines": summary["machines"], "commits": summary["commits"]} == made
    summary, _ = run_ablation(replace(parts, configurations=("naive",), tables=("6",), minutes=1e-9))
    assert summary["missing"] == {"naive": [0]}


def test_the_command_measures_two_configurations_and_pages_come_of_the_json_alone(tiny_model, tmp_path, capsys):
    out = tmp_path / "bench"
    with pytest.raises(SystemExit) as ended:
        run_study(study("ablation"), "studies.ablation", [
            "--tiny", "--table", "5", "--table", "6", "--configuration", "naive", "--cells", "overlap",
            "--model", str(tiny_model), "--out", str(out),
        ])  # fmt: skip
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((out / "summary.json").read_text())
    assert "videos: 6/6 done" in printed.err
    run = json.loads((out / "results" / "naive-seed0.json").read_text())
    assert run["seed"] == 0
    assert "commit" in run
    assert run["cell"]["loss"] == "flow-matching"
    assert run["config"]["training"]["steps"] == run["training"]["steps"] == 2
    assert len(run["films"]) == 2
    for shown in run["films"]:
        assert len(shown["kept"]) == 2
        assert all(0 < share <= 1 for share in shown["kept"])
        assert shown["chunks_by_chunk"] == [[], [0]]
        assert shown["tokens_by_chunk"][0] == 0 < shown["tokens_by_chunk"][1]
        assert shown["seconds"]["free"] > 0
    assert len({shown["call"] for shown in run["films"]}) == 1
    films = json.loads((out / "results" / "overlap-seed0.json").read_text())["films"]
    assert all(line["kept"] == [1.0, 1.0] and line["chunks_by_chunk"] == [[], [0]] for line in films)
    true = json.loads((out / "results" / "truth.json").read_text())["films"][0]
    assert true["kept"] is true["tokens_by_chunk"] is true["tokens"] is None
    assert not (out / "runs" / "naive-seed0" / "checkpoint.pt").exists()
    own = (out / "page.md").read_text()
    mean = json.loads(printed.out)["cells"]["naive"]["measures"]["clarity"]["mean"]
    assert f"{mean:.4g} (" in own
    assert "VDE aesthetic is not measured" in own
    assert own.index("**Claim**") < own.index("## ")

    page = tmp_path / "page.md"
    with pytest.raises(SystemExit) as ended:
        run_study(page_command, "p", [str(page), "--title", "Ablation", "--summary", str(out / "summary.json")])
    assert ended.value.code == 0
    asked = (out / "questions.md").read_text().split("\n\n", 1)[1]
    both = page.read_text().split("\n\n", 1)[1].replace("](page_", "](")
    assert both == own.split("\n\n", 1)[1] + "\n" + asked
    assert "](questions-phases.png)" in asked
    assert "**Not measured yet**: `rolling-self-forcing`, `self-forcing`, `rolling`, `semantic-0.98`." in asked
    assert (tmp_path / "page_questions-phases.png").stat().st_size > 1000
    assert (tmp_path / "page_table-6-curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "rollin"], "no configuration 'rollin' here; expected some of overlap, rolling"),
        (["--base", "nowhere"], "1 bases for 3 seeds"),
        (["--base", "nowhere", "--num-seeds", "1"], "nowhere"),
        (["--model", "nowhere"], "nowhere"),
        (["--minutes", "0"], "not in the range"),
        (["--tiny", "--num-chunks", "9"], "--tiny has sizes of its own: leave out --num-chunks"),
        (["--table", "4"], "'4' is not one of"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_study(study("ablation"), "studies.ablation", ["--out", "bench", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("bench").exists()


def test_runs_that_are_none_are_refused(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "naive-seed0.json").write_text('{"cell": {}}')
    with pytest.raises(ValueError, match=r"naive-seed0\.json: not a run of this version of studies.ablation"):
        read_runs(tmp_path)
