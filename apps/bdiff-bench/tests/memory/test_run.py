"""The memory bench measures what it says, and goes on where it stopped."""

import json
from dataclasses import replace

import pytest
import torch

from bdiff import Sampling
from bdiff.cli.main import main
from bdiff_bench.memory import MemoryBenchConfig, bench_memory, parse_arm
from bdiff_bench.memory import run as memory_run
from bdiff_bench.memory.arms import RANDOM_PLACE, RECONSTRUCTION
from bdiff_bench.page import write_bench_page
from bdiff_core import EncodedText, load_transformer, load_vae
from bdiff_train.transformer import FIRST_STORY, StorySampler, story_sampler

NUM_CHUNKS = 9  # of the first held-out story: 7 and 8 show the place of 0 again


class Encoder:
    """Texts are random numbers that depend on the words alone."""

    def __init__(self, text_length):
        self.text_length = text_length

    def encode(self, prompts):
        tokens = torch.stack([
            torch.randn(self.text_length, 384, generator=torch.Generator().manual_seed(sum(map(ord, prompt))))
            for prompt in prompts
        ])  # fmt: skip
        return EncodedText(tokens=tokens, embedding=torch.nn.functional.normalize(tokens.mean(1), dim=1))


@pytest.fixture
def quick(tiny_model, tmp_path, monkeypatch):
    """Makes configs of a bench of a second."""
    monkeypatch.setattr(story_sampler, "SentenceTextEncoder", Encoder)
    plain = {
        "out": tmp_path / "bench", "model": tiny_model, "num_stories": 1, "num_chunks": NUM_CHUNKS,
        "settings": {"richness": 0, "steps": 1}, "workers": 1,
    }  # fmt: skip
    return lambda **options: MemoryBenchConfig(**plain | options)


@pytest.fixture
def videos(monkeypatch):
    """The videos that are made, as (arm, mode)."""
    made, make = [], memory_run._make
    monkeypatch.setattr(memory_run, "_make", lambda loaded, job: made.append((job.arm, job.mode)) or make(loaded, job))
    return made


def test_a_bench_is_told_on_a_page_and_goes_on(quick, videos, tmp_path, monkeypatch):
    config = quick(modes=("given",))
    whole = bench_memory(config)
    assert sorted(videos) == [(arm, "given") for arm in sorted(["semantic", "rolling", RECONSTRUCTION, RANDOM_PLACE])]
    assert json.loads((config.out / "summary.json").read_text()) == whole
    figures = whole["figures"]["given"]["groups"]
    assert {group: len(figures[group]["colour"]) for group in ("beyond", "within", "gap 5-6")} == {
        "beyond": 4, "within": 4, "gap 5-6": 0,
    }  # fmt: skip
    assert whole["arms"]["rolling"]["tokens"]["kept"] == [1.0, 1.0]
    assert 0.5 < whole["arms"]["semantic"]["tokens"]["kept"][0] < 1.0
    page = (config.out / "page.md").read_text()
    assert f"{figures['beyond']['colour']['semantic']['mean']:.4f} (" in page
    assert "**semantic, rolling** have the same weights" in page
    for picture in ("errors.png", "returns.png", "tokens.png"):
        assert f"]({picture})" in page
        assert (config.out / picture).stat().st_size > 1000

    monkeypatch.setattr(memory_run, "_draw", lambda out, summary: {})  # what is drawn was seen above
    videos.clear()
    cut = (config.out / "films.jsonl").read_text()[:-5]
    (config.out / "films.jsonl").write_text(cut)
    assert bench_memory(config) == whole
    assert len(videos) == 1
    videos.clear()
    more = bench_memory(replace(config, arms=(*config.arms, parse_arm("all=semantic@1"), parse_arm("none=none"))))
    assert videos == [("all", "given"), ("none", "given")]
    assert more["arms"]["all"]["tokens"]["kept"] == [1.0, 1.0]
    assert more["arms"]["none"]["tokens"] == {"kept": None, "shown": 0.0}
    assert more["figures"]["given"]["groups"]["beyond"]["colour"]["rolling"] == figures["beyond"]["colour"]["rolling"]
    with pytest.raises(ValueError, match="another sampling"):
        bench_memory(replace(config, settings={**config.settings, "guidance": 1.5}))
    with pytest.raises(ValueError, match="another semantic"):
        bench_memory(replace(config, arms=(parse_arm("semantic=full"),)))

    write_bench_page(tmp_path / "page.md", title="Memory", world=None, speed=None, memory=config.out / "summary.json")
    assert "](bench/errors.png)" in (tmp_path / "page.md").read_text()


def test_free_videos_differ_by_seed_alone(quick, monkeypatch):
    monkeypatch.setattr(memory_run, "_draw", lambda out, summary: {})
    config = quick(modes=("free",), arms=(parse_arm("one=full"), parse_arm("two=full")), num_seeds=2)
    summary = bench_memory(config)
    read = [json.loads(line) for line in (config.out / "films.jsonl").read_text().splitlines()]
    chunks = {(line["arm"], line["seed"]): line["chunks"] for line in read}
    assert len(chunks) == 6  # a yardstick has one video whatever the seeds
    assert chunks["one", 0] == chunks["two", 0] != chunks["one", 1]
    assert summary["figures"]["free"]["groups"]["beyond"]["palette"]["one"]["chunks"] == 2
    assert summary["against"] is None


def test_given_chunks_are_the_truth_and_others_are_not(tiny_model):
    vae = load_vae(tiny_model)
    model = load_transformer(tiny_model / "transformer", dtype=torch.float32)
    sampling = Sampling.of_model(tiny_model).changed({"steps": 1})
    sampler = StorySampler(model=model, vae=vae, encoder=Encoder(32), sampling=sampling)
    story = sampler.story(FIRST_STORY, 3)
    blind = parse_arm("none=none").make_policy()
    true = sampler.sample(story, policy=blind, given=range(3), seed=1)
    torch.testing.assert_close(true.frames, sampler.reconstruct(story), atol=1e-5, rtol=1e-4)
    made = sampler.sample(story, policy=blind, given=(0,), seed=1)
    assert torch.equal(made.frames[:, :17], true.frames[:, :17])
    assert not torch.allclose(made.frames[:, 17:], true.frames[:, 17:], atol=1e-2)
    assert made.trace[2].chunks == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arm", "semantic"], "expected LABEL=POLICY"),
        (["--arm", "a=full:no/such/folder"], "no/such/folder"),
        (["--richness", "9"], "9 is not in the range 0<=x<=2"),
        (["--against", "rolling", "--arm", "a=full"], "against is 'rolling'"),
    ],
)
def test_the_command_refuses_in_one_line(options, message, quick, tiny_model, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["bench", "memory", "--out", str(tmp_path / "out"), "--model", str(tiny_model), *options])
    err = capsys.readouterr().err
    assert (left.value.code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_summary(quick, tiny_model, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main([
            "bench", "memory", "--out", str(out), "--model", str(tiny_model), "--arm", "window=rolling",
            "--mode", "free", "--num-stories", "1", "--num-chunks", "2", "--richness", "0", "--steps", "1",
            "--workers", "1",
        ])  # fmt: skip
    printed = capsys.readouterr()
    assert left.value.code == 0
    assert json.loads(printed.out) == json.loads((out / "summary.json").read_text())
    assert "3/3 videos done" in printed.err
    assert "No story comes back to a place." in (out / "page.md").read_text()
