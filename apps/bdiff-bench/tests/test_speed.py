"""Chunks are timed early and late in a video, and the memory they hold is measured."""

import json

import pytest
import torch

from bdiff_bench.page import write_bench_page
from bdiff_bench.speed import SpeedBenchConfig, bench_speed


def test_speed_bench_writes_its_figures(tiny_model, tmp_path):
    figures = bench_speed(
        SpeedBenchConfig(out=tmp_path / "speed.json", model=tiny_model, num_chunks=9, early=3, late=7, neighbours=2)
    )
    assert json.loads((tmp_path / "speed.json").read_text()) == figures
    rolling, semantic = figures["policies"]["rolling"], figures["policies"]["semantic"]
    assert rolling["bank_bytes"]["early"] <= rolling["bank_bytes"]["late"]
    assert semantic["bank_bytes_a_chunk"] > 0
    assert rolling["times_real_time"] > 0
    write_bench_page(tmp_path / "page.md", title="Speed", world=None, speed=tmp_path / "speed.json")
    page = (tmp_path / "page.md").read_text()
    assert f"| rolling | {rolling['seconds_a_chunk']['median']:.2f}" in page
    assert torch.__version__ in page


def test_chunks_to_compare_must_exist(tmp_path):
    with pytest.raises(ValueError, match="must lie in a video of 50 chunks"):
        SpeedBenchConfig(out=tmp_path / "speed.json", num_chunks=50)
