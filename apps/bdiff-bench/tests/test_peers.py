"""The comparison with diffusers, at toy size. No time is asserted anywhere."""

import json
import math
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bdiff.cli.main import cli
from bdiff_bench.page import write_bench_page
from bdiff_bench.peers import PeersConfig, bench_peers, check, rounds
from bdiff_bench.peers.config import YARDSTICK
from bdiff_bench.peers.figures import durations, growth, spread, summarise
from bdiff_bench.peers.rounds import make_contestant, measure_film
from bdiff_bench.peers.shapes import make_transformer, toy
from bdiff_core import generate_overlap

SETTING = {
    "num_chunks": 6,
    "context": 1,
    "chunk": {"frames": 2, "height": 8, "width": 8},
    "weight_bytes": 1000,
    "token_bytes": 10,
}


def line(contestant, number, arrivals, **more):
    told = {"flops": 600, "passes": 2, "tokens_read": 4, "shown": 32.0}
    sizes = {"loaded_bytes": 100, "peak_bytes": 150 + number, "device_bytes": 0}
    return {
        "shape": "default",
        "contestant": contestant,
        "round": number,
        "arrivals": arrivals,
        **told,
        **sizes,
        **more,
    }


def machine(number, rate=200.0):
    rates = {"flops_per_second": rate, "bytes_per_second": 500.0}
    return {"shape": "default", "contestant": YARDSTICK, "round": number, **rates}


def made_up():
    """Three rounds; we take 6, 12 and 6 s, the others twice, 1.5 times and three times as long."""
    steady = [[float(chunk) for chunk in range(1, 7)], [2.0 * chunk for chunk in range(1, 7)]]
    ours = [steady[0], steady[1], steady[0]]
    theirs = [[6.0, 6.0, 6.0, 9.0, 9.0, 12.0], [9.0] * 3 + [18.0] * 3, [9.0] * 3 + [18.0] * 3]
    return [
        *(line("dense", number, arrivals) for number, arrivals in enumerate(ours)),
        *(line("synchronous", number, arrivals, flops=900) for number, arrivals in enumerate(theirs)),
        *(machine(number, rate) for number, rate in enumerate((200.0, 100.0, 200.0))),
    ]


def test_ratios_are_those_of_films_of_the_same_round():
    found = summarise(made_up(), setting=SETTING, name="default")
    ratio = found["ratios"]["dense"]["synchronous"]
    assert ratio["rounds"] == 3
    assert ratio["fps"] == {"median": 2.0, "low": 1.75, "high": 2.5}  # of 2, 1.5 and 3
    assert ratio["first"] == {"median": 6.0, "low": 5.25, "high": 7.5}  # of 6, 4.5 and 9
    assert [(row["what"], row["found"], row["met"]) for row in found["wanted"]] == [
        ("fps", 2.0, True),
        ("first", 6.0, True),
    ]


def test_figures_of_a_contestant():
    dense = summarise(made_up(), setting=SETTING, name="default")["contestants"]["dense"]
    assert dense["fps"]["median"] == 45 / 6  # 6 chunks of 2 latent frames are 4 * 12 - 3 frames
    assert dense["first_chunk_seconds"]["median"] == 1.0
    assert dense["seconds_a_chunk"]["median"] == 1.0
    assert dense["seconds_by_chunk"] == [1.0] * 6
    assert dense["share_of_matmul"]["median"] == 0.5  # 600 operations in 6 s at 200, or in 12 s at 100
    assert dense["share_of_roofline"]["high"] == pytest.approx(2040 / 500 / 6)  # weights twice, 4 tokens of 10 bytes
    assert dense["late_over_early"]["median"] == 1.0
    assert (dense["flops_a_chunk"], dense["peak_bytes"], dense["rounds"]) == (100, 152, 3)


def test_one_film_is_its_own_median():
    assert spread([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}
    found = summarise([line("dense", 0, [1.0, 2.0]), machine(0)], setting=SETTING, name="toy")
    assert found["contestants"]["dense"]["late_over_early"] is None
    assert found["wanted"] == []


def test_chunks_that_come_together_share_their_time():
    assert durations([6.0, 6.0, 6.0, 10.0, 10.0, 11.0]) == [2.0, 2.0, 2.0, 2.0, 2.0, 1.0]


def test_growth_compares_whole_windows():
    slower = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0]  # a window of 3, then windows of 2 new chunks
    assert growth(slower, window=3) == 2.0
    assert growth(slower[:6], window=3) is None


def config(out, **more):
    plain = {"shapes": ("toy",), "num_chunks": 5, "repeats": 1, "context": 2, "threads": 1, "steps": 2}
    return PeersConfig(out=out, **plain | more)


@pytest.fixture(scope="module")
def contestant(tmp_path_factory):
    """Makes a contestant of the toy shape, once each."""
    made = {}

    def make(name, **more):
        key = (name, *more.items())
        if key not in made:
            made[key] = make_contestant(config(tmp_path_factory.mktemp("peers"), **more), toy(), name)
        return made[key]

    return make


def linear_flops(x, weight, *_, **__):
    """Operations of a linear layer by oneDNN, given shapes; the counter does not know it either."""
    return 2 * math.prod(x) * weight[0]


def counted(film):
    # The counter does not know the CPU's fused attention; written as matrix products it counts the same work.
    own = {torch.ops.mkldnn._linear_pointwise: linear_flops}
    with FlopCounterMode(display=False, custom_mapping=own) as counter, sdpa_kernel(SDPBackend.MATH):
        made = film()
    return counter, made


def test_operations_of_our_loop_are_those_counted(contestant):
    counter, film = counted(lambda: contestant("dense").film(5, 2))
    assert len(film.arrivals) == 5
    assert list(film.arrivals) == sorted(film.arrivals)
    assert film.work.flops == pytest.approx(counter.get_total_flops(), rel=1e-3)
    assert film.work.passes == 5 * 2 + 4  # the last chunk is not remembered
    assert film.shown == 2 * toy().tokens


def test_the_work_of_a_sparse_memory_is_that_of_the_tokens_it_shows(contestant):
    shape = toy()
    semantic = contestant("semantic", coverage=0.6).film(5, 1)
    dense = contestant("dense", context=4).film(5, 1)
    assert 0 < semantic.shown < dense.shown == 4 * shape.tokens
    assert semantic.work.tokens_read < dense.work.tokens_read
    assert semantic.work.flops < dense.work.flops


@pytest.mark.parametrize("name", ["synchronous", "asynchronous"])
def test_operations_of_the_diffusion_forcing_are_those_counted(contestant, name):
    pytest.importorskip("diffusers", reason="the pipelines are in diffusers")
    counter, film = counted(lambda: contestant(name).film(5, 2))
    assert len(film.arrivals) == 5
    # Windows of chunks 0-2 and 2-4, in the asynchronous mode each chunk a step later.
    rows = 2 + 2 if name == "synchronous" else (2 + 2) + (2 + 1)
    assert film.work.passes == rows
    shape = toy()
    masked = 0
    if name == "asynchronous":  # what is masked is computed all the same
        masked = rows * 3 * 4 * shape.tokens**2 * shape.config.dim * shape.config.num_layers
    assert film.work.flops + masked == pytest.approx(counter.get_total_flops(), rel=2e-3)


def test_operations_of_anyflow_are_those_counted_beside_attention(contestant, monkeypatch):
    diffusers = pytest.importorskip("diffusers", reason="the pipeline is in diffusers")
    shape = toy()
    # The counter cannot follow flex attention: without any, what is left is counted.
    module = sys.modules[diffusers.AnyFlowFARTransformer3DModel.__module__]
    monkeypatch.setattr(module, "dispatch_attention_fn", lambda query, *_, **__: query)
    counter, film = counted(lambda: contestant("anyflow").film(5, 2))
    linear = counter.get_total_flops()
    # Attention: each chunk's steps see what the cache holds, the pass that fills it is causal; both see the text.
    near, distant = shape.tokens, 2 * 2 * 2
    attended = 0
    for index in range(5):
        past = [distant] * max(0, index - 2) + [near] * min(index, 2)
        attended += 2 * near * (near + sum(past) + shape.config.text_length)
        if index < 4:
            sizes = [distant] * max(0, index - 1) + [near] * min(index + 1, 2)
            attended += sum(
                size * (sum(sizes[: place + 1]) + shape.config.text_length) for place, size in enumerate(sizes)
            )
    attention = 4 * attended * shape.config.dim * shape.config.num_layers
    assert film.work.flops - attention == pytest.approx(linear, rel=2e-3)
    assert len(film.arrivals) == 5
    assert film.work.passes == 5 * 2 + 4


def test_diffusers_has_our_weights(contestant):
    """The same latents come out of its transformer and of ours."""
    pytest.importorskip("diffusers", reason="the transformer is in diffusers")
    shape = toy()
    theirs = contestant("synchronous")._pipeline.transformer
    ours = make_transformer(shape, device="cpu", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 4, 8, 8, generator=generator)
    text = torch.randn(1, shape.config.text_length, shape.config.text_dim, generator=generator)
    levels = torch.rand(1, 4, generator=generator)
    with torch.no_grad():
        expected = theirs(latents, levels * 1000, text, enable_diffusion_forcing=True).sample
        found = ours(latents, levels, text)
    assert found.abs().mean() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("lag", [0, 2])
def test_windows_are_those_of_our_own_overlap_sampler(lag, monkeypatch):
    from bdiff_bench.peers import ours, published

    shape, model = toy(), make_transformer(toy(), device="cpu", dtype=torch.float32)
    passes, plain = [], type(model).forward

    def watch(self, latents, *args, **kwargs):
        passes.append(latents.shape[2] // shape.chunk.frames)
        return plain(self, latents, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", watch)
    plan = ours._prompts(shape.config, 6, device="cpu")
    stream = ours.NoiseStream((16, 8, 8), shape.chunk.frames, seed=0)
    with torch.no_grad():
        films = generate_overlap(model, plan, noise=stream, grid=[1.0, 0.7, 0.3, 0.0], window=3, overlap=1, lag=lag)
        arrived = [len(passes) for _ in films]
    rows = list(published.window_rows(6, 3, window=3, lag=lag))
    assert [seen for seen, _ in rows] == passes
    assert [1 + next(at for at, (_, done) in enumerate(rows) if done > chunk) for chunk in range(6)] == arrived


def test_ours_runs_without_diffusers_in_half_precision_and_compiled(tmp_path, monkeypatch):
    """What a machine with a GPU runs, at toy size; graphs are traced and not turned into machine code here."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work: plain(work, backend="eager"))
    settings = config(tmp_path, contestants=("dense", "semantic"), dtype="bfloat16", compile=True)
    check(settings)
    eager = make_contestant(replace(settings, compile=False), toy(), "dense")
    for name in settings.contestants:
        film = measure_film(make_contestant(settings, toy(), name), settings, toy())
        assert len(film["arrivals"]) == 5
    assert measure_film(eager, settings, toy())["flops"] > 0
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

    def film(self):
        sizes = {"loaded_bytes": 1_000_000, "peak_bytes": 2_000_000}
        if self.made is None:
            return rounds.measure_machine("cpu", torch.float32, seconds=0.0) | sizes
        return measure_film(self.made, self._held[0], toy()) | sizes


def test_a_comparison_goes_on_and_its_page_shows_its_figures(tmp_path, monkeypatch):
    pytest.importorskip("diffusers", reason="the pipelines are in diffusers")
    monkeypatch.setattr(rounds, "Worker", Here)
    films = []
    bench_peers(config(tmp_path, contestants=("dense", "synchronous")), on_film=films.append)
    assert [film["contestant"] for film in films] == [YARDSTICK, "dense", "synchronous"]
    figures = bench_peers(config(tmp_path, contestants=("dense", "synchronous", "anyflow")), on_film=films.append)
    assert [film["contestant"] for film in films[3:]] == ["anyflow"]  # only what was missing
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
    with pytest.raises(ValueError, match="holds films with steps 2; this run has 3"):
        check(config(tmp_path, steps=3))


def test_no_round_is_begun_that_would_end_too_late(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "Worker", Here)
    films = []
    bench_peers(config(tmp_path, contestants=("dense",), repeats=3, minutes=1e-9), on_film=films.append)
    assert [(film["contestant"], film["round"]) for film in films] == [(YARDSTICK, 0), ("dense", 0)]


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
