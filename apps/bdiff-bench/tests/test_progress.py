"""How far a bench is, in lines where there is no terminal, and in files of other processes."""

from bdiff_bench.harness.progress import FractionFile, TimeLimit, progress_bar, watched_files


def test_another_process_reads_how_far_a_training_is(tmp_path):
    FractionFile(tmp_path).write(0.25)
    assert FractionFile(tmp_path).read() == 0.25
    assert FractionFile(tmp_path / "nowhere").read() == 0.0
    FractionFile(tmp_path).remove()
    assert FractionFile(tmp_path).read() == 0.0


def test_a_time_limit_that_is_none_never_ends():
    assert not TimeLimit(None).over()
    assert TimeLimit(0.0).over()


def test_counts_are_lines_where_there_is_no_terminal():
    said = []
    with progress_bar("videos", 25, say=said.append) as update:
        update(3, "story 7")
        update(3.5, "")
    assert said == ["videos: 3/25 done, story 7"]


def test_files_are_looked_at_until_the_block_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("bdiff_bench.harness.progress._EVERY", 0.01)
    (file := FractionFile(tmp_path)).write(0.5)
    seen = []
    with watched_files([file], done=lambda: 2, update=lambda done, what: seen.append(done)):
        while not seen:
            pass
    count = len(seen)
    assert seen[0] == 2.5
    assert len(seen) == count
