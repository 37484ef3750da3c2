import shutil
from pathlib import Path

import pytest

from vde_metrics.command_line.selection import distinct_names, group_labels, select_videos


def test_dot_files_in_a_folder_are_left_out(clip, tmp_path, capsys):
    for name in ("b.mp4", "._b.mp4", ".hidden.mp4", ".cache/x.mp4", "in/.c.mp4", "in/c.mp4", "._cover.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    assert [selected.name for selected in select_videos([str(tmp_path)])] == ["b.mp4", "c.mp4"]
    assert [selected.name for selected in select_videos([str(tmp_path / ".cache")])] == ["x.mp4"]
    assert [selected.name for selected in select_videos([str(tmp_path / ".hidden.mp4")])] == [".hidden.mp4"]
    (tmp_path / "only").mkdir()
    shutil.copy(clip, tmp_path / "only" / "._b.mp4")
    with pytest.raises(FileNotFoundError, match="no videos in this folder"):
        select_videos([str(tmp_path / "only")])


def test_names_differ_where_files_do():
    paths = [Path("a/x/clip.mp4"), Path("b/x/clip.mp4"), Path("b/x/other.mp4"), Path("a/x/clip.mp4")]
    assert distinct_names(paths) == ["a/x/clip.mp4", "b/x/clip.mp4", "other.mp4", "a/x/clip.mp4"]
    assert group_labels(["runs/ours", "runs/theirs"]) == {"runs/ours": "ours", "runs/theirs": "theirs"}
    assert group_labels(["one/x", "two/x"]) == {"one/x": "one/x", "two/x": "two/x"}
