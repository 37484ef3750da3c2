"""A comparison goes on where it stopped, and its page shows its figures, at toy size."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from bdiff.cli.main import cli
from bdiff_bench.page import write_bench_page
from bdiff_bench.peers import PeersConfig, bench_peers, check, rounds
from bdiff_bench.peers.config import YARDSTICK
from bdiff_bench.peers.rounds import make_contestant, measure_video
from bdiff_bench.peers.shapes import toy


def config(out, **more):
    plain = {"shapes": ("toy",), "num_chunks": 5, "repeats": 1, "context": 2, "threads": 1, "steps": 2}
    return PeersConfig(out=out, **plain | more)


def test_ours_runs_without_diffusers_in_half_precision_and_compiled(tmp_path, monkeypatch):
    """What a machine with a GPU runs, at toy size; graphs are traced and not turned into machine code here."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work: plain(work, backend="eager"))
    settings = config(tmp_path, contestants=("dense", "semantic"), dtype="bfloat16", compile=True)
    check(settings)
    eager = make_contestant(replace(settings, compile=False), toy(), "dense")
    for name in settings.contestants:
        video = measure_video(make_contestant(settings, toy(), name), settings, toy())
        assert len(video["arrivals"]) == 5
    assert measure_video(eager, settings, toy())["flops"] > 0
    torch.compiler.reset()


def test_diffusers_is_asked_for(tmp_path, monkeypatch):
    from bdiff_bench.peers import run

    monkeypatch.setattr(run, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="synchronous need diffusers: pip install diffusers"):
        check(config(tmp_path, contestants=("dense", "synchronous")))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"shapes": ("huge",)}, "shapes are huge; expected some of default"),
        ({"contestants": ("dense", "dense")}, "contestants are dense, dense; expected"),
        ({"coverage": 1.5}, r"coverage is 1.5; expected a share in \(0, 1\]"),
        ({"context": 1}, "context is 1; expected at least 2"),
    ],
)
def test_bad_settings_are_refused(tmp_path, more, told):
    with pytest.raises(ValueError, match=told):
        config(tmp_path, **more)


class Here:
    """A worker without a process, for tests."""

    def __init__(self, settings, shape, name):
        self._held = (settings, name)
        self.made = None if name == YARDSTICK else make_contestant(settings, toy(), name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def finish_loading(self):
        pass

    def sample(self):
        sizes = {"loaded_bytes": 1_000_000, "peak_bytes": 2_000_000}
        if self.made is None:
            return rounds.measure_machine("cpu", torch.float32, seconds=0.0) | sizes
        return measure_video(self.made, self._held[0], toy()) | sizes


def test_a_comparison_goes_on_and_its_page_shows_its_figures(tmp_path, monkeypatch):
    pytest.importorskip("diffusers", reason="the pipelines are in diffusers")
    monkeypatch.setattr(rounds, "Worker", Here)
    videos = []
    bench_peers(config(tmp_path, contestants=("dense", "synchronous")), on_video=videos.append)
    assert [video["contestant"] for video in videos] == [YARDSTICK, "dense", "synchronous"]
    figures = bench_peers(config(tmp_path, contestants=("dense", "synchronous", "anyflow")), on_video=videos.append)
    assert [video["contestant"] for video in videos[3:]] == ["anyflow"]  # only what was missing
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    toy_figures = figures["shapes"]["toy"]
    assert set(toy_figures["contestants"]) == {"dense", "synchronous", "anyflow"}
    assert {"diffusers", "torch", "commit", "device", "threads"} <= figures["machine"].keys()
    page = (tmp_path / "page.md").read_text()
    assert f"{toy_figures['contestants']['dense']['fps']['median']:,.2f} (" in page
    assert f"{toy_figures['ratios']['dense']['anyflow']['fps']['median']:,.2f} (" in page
    assert "the last of the one before, encoded again" in page
    assert (tmp_path / "page_toy.png").stat().st_size > 5000
    write_bench_page(tmp_path / "results.md", title="All", world=None, speed=None, peers=tmp_path / "figures.json")
    assert "page_toy" not in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results_toy.png").exists()
    with pytest.raises(ValueError, match="holds videos with steps 2; this run has 3"):
        check(config(tmp_path, steps=3))


def test_no_round_is_begun_that_would_end_too_late(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "Worker", Here)
    videos = []
    bench_peers(config(tmp_path, contestants=("dense",), repeats=3, minutes=1e-9), on_video=videos.append)
    assert [(video["contestant"], video["round"]) for video in videos] == [(YARDSTICK, 0), ("dense", 0)]


def test_everybody_has_a_turn_at_every_place():
    turns = [rounds._turns(["a", "b", "c"], number) for number in range(4)]
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_the_command_runs_ours_in_a_process_of_its_own(tmp_path):
    out = tmp_path / "speed"
    options = ["--shape", "toy", "--contestant", "dense", "--num-chunks", "3", "--repeats", "1", "--threads", "1"]
    result = CliRunner().invoke(cli, ["bench", "peers", "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    dense = json.loads((out / "figures.json").read_text())["shapes"]["toy"]["contestants"]["dense"]
    assert dense["rounds"] == 1
    if sys.platform == "linux":
        assert dense["peak_bytes"] >= dense["loaded_bytes"] > 10_000_000
