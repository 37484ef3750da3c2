"""A page shows what benches measured, and nothing else."""

import pytest

from bdiff_bench.page import write_bench_page


def test_a_page_needs_figures(tmp_path):
    with pytest.raises(ValueError, match="nothing to show"):
        write_bench_page(tmp_path / "page.md", title="Empty", world=None, speed=None)
    (tmp_path / "speed.json").write_text('{"machine": 1}')
    with pytest.raises(ValueError, match="not the figures of a bench"):
        write_bench_page(tmp_path / "page.md", title="Broken", world=None, speed=tmp_path / "speed.json")
    assert not (tmp_path / "page.md").exists()
