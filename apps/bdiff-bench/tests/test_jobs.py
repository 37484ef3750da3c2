"""Jobs are all done, each once, and what a stopped run kept is not done again."""

import json
import operator

import pytest

from bdiff_bench.harness.jobs import append_lines, plain_figure, read_lines, run_jobs


def test_jobs_are_done_in_this_process():
    assert list(run_jobs([2, 0], "abc", load=list, work=operator.getitem, workers=1)) == ["c", "a"]


def test_jobs_are_done_by_processes_that_load_once():
    done = run_jobs([2, 0, 1, 2], "abc", load=list, work=operator.getitem, workers=2)
    assert sorted(done) == ["a", "b", "c", "c"]


def test_what_cannot_be_loaded_ends_the_run():
    """And does not make the pool start one process after the other."""
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_jobs([1, 2], "x", load=int, work=operator.add, workers=2))


def test_nothing_is_loaded_for_no_jobs():
    assert list(run_jobs([], "x", load=int, work=operator.add, workers=2)) == []


def test_lines_are_kept_one_by_one(tmp_path):
    file = tmp_path / "lines.jsonl"
    assert read_lines(file) == []
    kept = append_lines(file, ({"n": n} for n in range(3)))
    assert next(kept) == {"n": 0}
    assert read_lines(file) == [{"n": 0}]  # the rest has not been made yet
    assert list(kept) == [{"n": 1}, {"n": 2}]
    assert read_lines(file) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_line_that_was_cut_off_does_not_count(tmp_path, cut):
    file = tmp_path / "lines.jsonl"
    first, second = json.dumps({"n": "é\u2028"}) + "\n", json.dumps({"n": 2}) + "\n"
    file.write_text(first + second[:-cut], encoding="utf-8")
    assert read_lines(file) == [{"n": "é\u2028"}]
    assert list(append_lines(file, [{"n": 3}])) == [{"n": 3}]
    assert read_lines(file) == [{"n": "é\u2028"}, {"n": 3}]


def test_a_figure_has_six_digits_or_is_null():
    assert [plain_figure(value) for value in (2 / 3, 1234567.8, 2e-9 / 3)] == [0.666667, 1234570.0, 6.66667e-10]
    assert [plain_figure(value) for value in (None, float("nan"), float("inf"), -float("inf"))] == [None] * 4
