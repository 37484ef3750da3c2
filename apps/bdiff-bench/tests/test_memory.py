"""The memory bench measures what it says, compares pairs, and goes on where it stopped."""

import json
import math
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import storyworld
from bdiff.cli.main import main
from bdiff_bench.memory import MemoryBenchConfig, bench_memory, parse_arm
from bdiff_bench.memory import run as memory_run
from bdiff_bench.memory.arms import RANDOM_PLACE, RECONSTRUCTION
from bdiff_bench.memory.colours import (
    MARGIN,
    REGIONS,
    palette,
    palette_distance,
    region_errors,
    region_masks,
    subject_errors,
)
from bdiff_bench.memory.figures import Tally, draw_stories, gap_groups, interval, summarise
from bdiff_bench.memory.measures import MEASURES, given_chunks, measure, measure_random_place, token_shares
from bdiff_bench.memory.visits import first_visits, returns
from bdiff_bench.page import write_bench_page
from bdiff_core import EncodedText, load_transformer, load_vae
from bdiff_train.transformer import story_sampler as telling
from bdiff_train.transformer.story_sampler import FIRST_STORY, Teller, sampling_of
from kvbank import DynamicSparse, Rolling, SemanticSparse
from storyworld import plan_story

NUM_CHUNKS = 9  # of the first held-out story: 7 and 8 show the place of 0 again


@pytest.fixture(scope="module")
def story():
    return storyworld.render(FIRST_STORY, NUM_CHUNKS)


def frames_of(story, chunk):
    starts = [0, *torch.tensor(story.chunk_frames).cumsum(0).tolist()]
    return slice(starts[chunk], starts[chunk + 1])


# Visits


@pytest.mark.parametrize("seed", range(8))
def test_every_chunk_is_of_a_first_visit_or_of_a_return(seed):
    places = [chunk.place for chunk in plan_story(seed, 25).chunks]
    first = {chunk for visit in first_visits(places).values() for chunk in visit}
    back = returns(places)
    assert sorted([*first, *(r.chunk for r in back)]) == list(range(25))
    for r in back:
        assert r.place == places[r.chunk]
        assert r.gap == next(gap for gap in range(1, 25) if places[r.chunk - gap] == r.place)
    for one, other in pairwise(back):
        if other.gap == 1:
            assert other.away == one.away
        else:
            assert other.away == other.gap


def test_visits_of_a_small_story():
    places = [0, 0, 1, 0, 2, 2, 1]
    assert first_visits(places) == {0: range(2), 1: range(2, 3), 2: range(4, 6)}
    assert [(r.chunk, r.gap, r.away) for r in returns(places)] == [(3, 2, 2), (6, 4, 4)]
    assert given_chunks("given", places) == (0, 1, 2, 4, 5)
    assert given_chunks("free", places) == (0,)


# Colours


@pytest.mark.parametrize("richness", [0, 1])
def test_the_truth_has_no_error(richness):
    story = storyworld.render(FIRST_STORY, NUM_CHUNKS, richness=richness)
    records = measure(story.frames, story, "given")
    assert [r["chunk"] for r in records] == [7, 8]
    for record in records:
        assert record["colour"] == record["subject"] == 0.0
        assert math.isnan(record["landmark"]) == (richness == 0)
    for record in measure(story.frames, story, "free"):
        assert record["palette"] < 0.005 < 0.05 < record["elsewhere"]  # the actor hides different parts of a gradient
        assert record["subject"] == 0.0


def test_a_shift_of_all_colours_is_the_error(story):
    """Frames are in [-1, 1], errors in [0, 1]."""
    for record in measure(story.frames + 0.2, story, "given"):
        for name in (*REGIONS, "colour", "subject"):
            assert record[name] == pytest.approx(0.1, abs=1e-4)


def test_an_error_stays_in_its_region(story):
    span = frames_of(story, 7)
    masks = region_masks(story.truth, span)
    for number in range(3):
        frames = story.frames[:, span].clone()
        frames[0] += 0.6 * masks[number]  # one channel of three
        errors = region_errors(frames, story.frames[:, span], masks)
        assert errors.tolist() == pytest.approx([0.1 if r == number else 0.0 for r in range(3)], abs=1e-5)


def test_regions_leave_the_protagonist_out(story):
    """With two pixels around; whatever is painted there is no error."""
    span = frames_of(story, 0)
    masks, subject = region_masks(story.truth, span), story.truth.subject[span]
    assert MARGIN == 2
    near = torch.zeros_like(subject)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near |= torch.roll(subject, (dy, dx), (1, 2))  # it stays away from the picture's edges
    regions = story.truth.regions[story.truth.place[0]]
    for number in range(3):
        assert torch.equal(masks[number], (regions == number)[None] & ~near)


def test_a_region_without_pixels_has_no_error(story):
    masks = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    masks[0] = True
    errors = region_errors(torch.ones(3, 1, 64, 64), -torch.ones(3, 1, 64, 64), masks)
    assert errors[0] == 1.0
    assert errors[1:].isnan().all()


@pytest.mark.parametrize(("mirrored", "shift"), [(False, (0, 0)), (False, (-7, 5)), (True, (-3, -4))])
def test_the_protagonist_is_found_wherever_it_is(story, mirrored, shift):
    span = frames_of(story, 1)
    true, subject = story.frames[:, span][:, 5::5], story.truth.subject[span][5::5]  # away from the edges
    drawn, where = (true.flip(-1), subject.flip(-1)) if mirrored else (true, subject)
    moved, mask = torch.roll(drawn, shift, (2, 3)), torch.roll(where, shift, (1, 2))
    frames = torch.where(mask, moved, torch.zeros_like(moved))
    assert subject_errors(frames, true, subject).max() < 1e-6
    reddish = torch.tensor([0.3, 0.0, 0.0])[:, None, None, None]
    painted = torch.where(mask, moved + reddish, torch.zeros_like(moved))
    assert subject_errors(painted, true, subject).tolist() == pytest.approx([0.05] * len(subject), abs=1e-3)


def test_a_protagonist_that_is_not_drawn_is_an_error(story):
    span = frames_of(story, 1)
    true, subject = story.frames[:, span], story.truth.subject[span]
    empty = story.truth.background_at(range(span.start, span.stop)).transpose(0, 1)
    assert subject_errors(empty, true, subject).min() > 0.1
    assert subject_errors(true, true, torch.zeros_like(subject)).isnan().all()


def test_a_palette_is_the_mean_colour_of_each_region():
    frames, masks = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0.0, -1.0, 1.0])
    masks[0, 0, 0] = True
    masks[1, 0, 1] = True
    colours = palette(frames, masks)
    torch.testing.assert_close(colours[:2], torch.tensor([[0.75, 0.0, 0.75], [0.5, 0.5, 0.5]]))
    assert colours[2].isnan().all()
    other = colours + torch.tensor([[0.3], [0.1], [0.0]])
    assert palette_distance(colours, other) == pytest.approx(0.2)


def test_a_return_in_other_colours_is_its_distance(story):
    """Free: only the change since the first visit counts, not the distance to the truth."""
    frames = story.frames + 0.4
    for plain, moved in zip(measure(story.frames, story, "free"), measure(frames, story, "free"), strict=True):
        assert moved["palette"] == pytest.approx(plain["palette"], abs=1e-5)
    for chunk in (7, 8):
        frames[:, frames_of(story, chunk)] += 0.2
    for record in measure(frames, story, "free"):
        assert record["palette"] == pytest.approx(0.1, abs=5e-3)


def test_a_broken_film_is_refused(story):
    broken = story.frames.clone()
    broken[0, 3] = float("nan")
    for film in (broken, story.frames[:, 1:]):
        with pytest.raises(ValueError, match="expected the same, and finite"):
            measure(film, story, "given")


def test_a_random_place_is_the_mean_over_the_other_places(story):
    records = measure_random_place(story, "given")
    truth, span = story.truth, frames_of(story, 7)
    own = int(truth.place[7])
    masks = region_masks(truth, span)
    errors = []
    for other in range(len(truth.places)):
        if other != own:
            difference = (truth.backgrounds[other] - truth.backgrounds[own]).abs().mean(0) / 2
            errors.append(torch.stack([difference.expand(masks[0].shape)[mask].mean() for mask in masks]).nanmean())
    assert records[0]["colour"] == pytest.approx(torch.stack(errors).mean().item(), abs=1e-5)
    assert records[0]["colour"] > 0.05
    free = measure_random_place(story, "free")[0]
    assert free["palette"] > 0.05
    assert math.isnan(free["elsewhere"])


def test_shares_of_tokens():
    reads = [
        SimpleNamespace(index=0, chunks=(), spans=()),
        SimpleNamespace(index=1, chunks=(0,), spans=((8,), (4,))),
        SimpleNamespace(index=2, chunks=(0, 1), spans=((8, 6), (4, 2))),
    ]
    shares = token_shares(reads, tokens_per_chunk=8, window=2)
    assert shares["kept"] == pytest.approx([22 / 24, 10 / 24])
    assert shares["shown"] == pytest.approx((14 + 6) / 2)
    assert token_shares(reads[:1], tokens_per_chunk=8, window=2) == {"kept": None, "shown": 0.0}


# Figures


def tally(*stories):
    return Tally(
        total=torch.tensor([sum(s) for s in stories]).numpy(),
        count=torch.tensor([float(len(s)) for s in stories]).numpy(),
    )


def test_the_mean_is_over_chunks_and_the_interval_over_stories():
    found = interval(lambda mean: mean, tally([0.1] * 30, [0.4]), draws=draw_stories(2))
    assert found["mean"] == pytest.approx(3.4 / 31)
    assert (found["low"], found["high"]) == (pytest.approx(0.1), pytest.approx(0.4))  # a story drawn twice
    several = interval(lambda mean: mean, tally(*([0.1 * n] for n in range(10))), draws=draw_stories(10))
    assert 0.2 < several["low"] < 0.45 < several["high"] < 0.7
    assert interval(lambda mean: mean, tally([], []), draws=draw_stories(2)) is None


def test_differences_are_paired():
    """Two arms whose own intervals overlap widely differ by the same amount in every story."""
    draws = draw_stories(12)
    one = tally(*([0.05 * n] * (1 + n % 3) for n in range(1, 13)))
    other = Tally(total=one.total + 0.1 * one.count, count=one.count)
    double = Tally(total=2 * one.total, count=one.count)
    wide = interval(lambda mean: mean, one, draws=draws)
    assert wide["high"] - wide["low"] > 0.1
    difference = interval(lambda a, b: a - b, other, one, draws=draws)
    ratio = interval(lambda a, b: a / b, double, one, draws=draws)
    assert list(difference.values()) == pytest.approx([0.1] * 3)
    assert list(ratio.values()) == pytest.approx([2.0] * 3)


@pytest.mark.parametrize("gap", range(1, 20))
@pytest.mark.parametrize("away", [2, 5])
def test_every_gap_is_in_one_group(gap, away):
    record = {"gap": gap, "away": away if gap == 1 else gap}
    assert sum(inside(record) for inside in gap_groups(4).values()) == 1


def lines(errors, mode="given"):
    """For each label its errors beyond and within, the same in three stories but for a story's own 0.01."""
    records = [
        {
            "arm": label, "mode": mode, "story": story, "seed": 0,
            "chunks": [
                {"chunk": gap, "place": gap, "gap": gap, "away": gap}
                | dict.fromkeys(MEASURES[mode], None if e is None else e + 0.01 * story)
                for gap, e in zip((7, 3), both, strict=True)
            ],
        } for label, both in errors.items() for story in range(3)
    ]  # fmt: skip
    return summarise(records, labels=list(errors), against="rolling", window=4, num_chunks=9)[mode]


def test_a_summary_tells_beyond_from_within():
    errors = {"semantic": (0.04, 0.05), "rolling": (0.14, 0.05), RECONSTRUCTION: (0.0, 0.0), RANDOM_PLACE: (0.19, 0.19)}
    found = lines(errors)
    assert found["stories"] == 3
    figure = found["groups"]["beyond"]["colour"]["rolling"]
    assert (figure["mean"], figure["chunks"], figure["stories"]) == (pytest.approx(0.15), 3, 3)
    assert found["groups"]["within"]["colour"]["semantic"]["mean"] == pytest.approx(0.06)
    row = found["comparisons"]["semantic"]
    assert row["beyond_ratio"]["mean"] == pytest.approx(1 / 3)
    assert row["beyond_difference"] == pytest.approx({"mean": -0.1, "low": -0.1, "high": -0.1})
    assert row["beyond_to_random_place"]["mean"] == pytest.approx(0.25)
    assert row["within_relative_difference"] == pytest.approx({"mean": 0.0, "low": 0.0, "high": 0.0})
    assert row["beyond_disjoint"] is True
    assert "beyond_ratio" not in found["comparisons"]["rolling"]
    assert lines(errors | {"semantic": (0.13, 0.05)})["comparisons"]["semantic"]["beyond_disjoint"] is False


def test_a_place_that_was_once_lost_is_not_held_any_more():
    chain = [(5, 0, 3), (6, 0, 1), (9, 1, 6), (10, 1, 1), (14, 0, 8), (16, 0, 2), (17, 1, 4)]  # chunk, place, gap
    records = [
        {
            "arm": label, "mode": "given", "story": story, "seed": 0,
            "chunks": [
                {"chunk": chunk, "place": place, "gap": gap, "away": gap}
                | dict.fromkeys(MEASURES["given"], chunk / 100)
                for chunk, place, gap in chain
            ],
        } for label in ("rolling", RANDOM_PLACE) for story in range(2)
    ]  # fmt: skip
    groups = summarise(records, labels=["rolling", RANDOM_PLACE], against=None, window=4, num_chunks=25)["given"][
        "groups"
    ]
    held = groups["held"]["colour"]["rolling"]
    assert held["chunks"] == 2 * 2
    assert held["mean"] == pytest.approx((0.05 + 0.06) / 2)
    assert groups["within"]["colour"]["rolling"]["chunks"] == 2 * 5


def grown(slopes, *, num_chunks=25, mode="free", noise=0.0):
    """The growth of films whose errors rise by so much a chunk from 0.1 on, told by every second chunk."""
    draw = random.Random(0)
    records = [
        {
            "arm": label, "mode": mode, "story": story, "seed": 0,
            "chunks": [
                {"chunk": chunk, "place": 0, "gap": 3, "away": 3}
                | dict.fromkeys(MEASURES[mode], 0.1 + slope * chunk + noise * draw.gauss(0, 1))
                for chunk in range(story, num_chunks, 2)
            ],
        } for label, slope in slopes.items() for story in range(4)
    ]  # fmt: skip
    return summarise(records, labels=list(slopes), against=None, window=4, num_chunks=num_chunks)[mode]["growth"]


def test_what_rises_by_a_hundredth_a_chunk_grows_by_so_much_from_chunk_5_to_the_last():
    found = grown({"rolling": 0.01, "semantic": 0.0, RECONSTRUCTION: -0.002, RANDOM_PLACE: 0.0})
    assert set(found) == {"palette", "subject"}
    for by_label in found.values():
        assert by_label["rolling"] == pytest.approx({"mean": 0.19, "low": 0.19, "high": 0.19})
        assert by_label["semantic"] == pytest.approx({"mean": 0, "low": 0, "high": 0}, abs=1e-12)
        assert by_label[RECONSTRUCTION]["mean"] == pytest.approx(-0.038)
    assert set(grown({"rolling": 0.01, RANDOM_PLACE: 0.0}, mode="given")) == {"subject"}


def test_growth_has_an_interval_that_holds_what_is_there():
    found = grown({"rolling": 0.004, "semantic": 0.0, RANDOM_PLACE: 0.0}, noise=0.02)["palette"]
    assert 0 < found["rolling"]["low"] < 0.076 < found["rolling"]["high"]
    assert found["semantic"]["low"] < 0 < found["semantic"]["high"]


def test_a_film_too_short_to_grow_has_no_growth():
    assert grown({"rolling": 0.01, RANDOM_PLACE: 0.0}, num_chunks=6)["palette"] == {}


def test_what_could_not_be_measured_is_left_out():
    found = lines({"rolling": (None, 0.1), RECONSTRUCTION: (None, 0.1), RANDOM_PLACE: (None, 0.1)})
    assert found["groups"]["beyond"]["colour"] == {}
    assert found["comparisons"]["rolling"]["beyond_to_random_place"] is None
    assert found["groups"]["within"]["colour"]["rolling"]["chunks"] == 3


# Arms


def test_an_arm_is_read():
    arm = parse_arm("sparse=semantic@0.97:runs/one:two")
    assert (arm.label, arm.folder) == ("sparse", Path("runs/one:two"))
    assert arm.make_policy() == SemanticSparse(top_l=2, num_recent=2, coverage=0.97)
    assert parse_arm("last=rolling").make_policy() == Rolling(num_chunks=4)
    assert parse_arm("d=dynamic@0.5").make_policy() == DynamicSparse(num_chunks=4, coverage=0.5)
    assert parse_arm("n=none").make_policy().select(9) == ()


def test_an_arm_finds_its_transformer(tmp_path):
    (tmp_path / "trained" / "transformer").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    assert parse_arm(f"a=full:{tmp_path / 'bare'}").transformer(tmp_path) == tmp_path / "bare"
    assert parse_arm(f"a=full:{tmp_path / 'trained'}").transformer(tmp_path) == tmp_path / "trained" / "transformer"
    assert parse_arm("a=full").transformer(tmp_path / "trained") == tmp_path / "trained" / "transformer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("semantic", "expected LABEL=POLICY"),
        ("a=:folder", "expected LABEL=POLICY"),
        ("a/b=full", "letters, digits"),
        ("a=forgetful", "expected one of semantic"),
        ("a=semantic@much", "expected a number"),
        ("a=semantic@1.5", "expected a fraction"),
        ("a=rolling@0.9", "keeps all tokens"),
        (f"{RANDOM_PLACE}=full", "a yardstick"),
    ],
)
def test_a_wrong_arm_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        parse_arm(text)


def test_a_wrong_config_is_told(tmp_path):
    for options, message in (
        ({"arms": ()}, "at least one"),
        ({"arms": (parse_arm("a=full"), parse_arm("a=none"))}, "no label twice"),
        ({"against": "none"}, "expected one of semantic, rolling"),
        ({"modes": ("dear",)}, "expected some of given, free"),
        ({"num_stories": 0}, "num_stories is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            MemoryBenchConfig(out=tmp_path, **options)
    assert MemoryBenchConfig(out=tmp_path).baseline == "rolling"
    assert MemoryBenchConfig(out=tmp_path, arms=(parse_arm("a=full"),)).baseline is None


# The whole


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
    monkeypatch.setattr(telling, "SentenceTextEncoder", Encoder)
    plain = {
        "out": tmp_path / "bench", "model": tiny_model, "num_stories": 1, "num_chunks": NUM_CHUNKS, "richness": 0,
        "steps": 1, "workers": 1,
    }  # fmt: skip
    return lambda **options: MemoryBenchConfig(**plain | options)


@pytest.fixture
def films(monkeypatch):
    """The films that are made, as (arm, mode)."""
    made, make = [], memory_run._make
    monkeypatch.setattr(memory_run, "_make", lambda parts, job: made.append((job.arm, job.mode)) or make(parts, job))
    return made


def test_a_bench_is_told_on_a_page_and_goes_on(quick, films, tmp_path, monkeypatch):
    config = quick(modes=("given",))
    whole = bench_memory(config)
    assert sorted(films) == [(arm, "given") for arm in sorted(["semantic", "rolling", RECONSTRUCTION, RANDOM_PLACE])]
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
    films.clear()
    cut = (config.out / "films.jsonl").read_text()[:-5]
    (config.out / "films.jsonl").write_text(cut)
    assert bench_memory(config) == whole
    assert len(films) == 1
    films.clear()
    more = bench_memory(replace(config, arms=(*config.arms, parse_arm("all=semantic@1"), parse_arm("none=none"))))
    assert films == [("all", "given"), ("none", "given")]
    assert more["arms"]["all"]["tokens"]["kept"] == [1.0, 1.0]
    assert more["arms"]["none"]["tokens"] == {"kept": None, "shown": 0.0}
    assert more["figures"]["given"]["groups"]["beyond"]["colour"]["rolling"] == figures["beyond"]["colour"]["rolling"]
    with pytest.raises(ValueError, match="another sampling"):
        bench_memory(replace(config, guidance=1.5))
    with pytest.raises(ValueError, match="another semantic"):
        bench_memory(replace(config, arms=(parse_arm("semantic=full"),)))

    write_bench_page(tmp_path / "page.md", title="Memory", world=None, speed=None, memory=config.out / "summary.json")
    assert "](bench/errors.png)" in (tmp_path / "page.md").read_text()


def test_free_films_differ_by_seed_alone(quick, monkeypatch):
    monkeypatch.setattr(memory_run, "_draw", lambda out, summary: {})
    config = quick(modes=("free",), arms=(parse_arm("one=full"), parse_arm("two=full")), num_seeds=2)
    summary = bench_memory(config)
    read = [json.loads(line) for line in (config.out / "films.jsonl").read_text().splitlines()]
    chunks = {(line["arm"], line["seed"]): line["chunks"] for line in read}
    assert len(chunks) == 6  # a yardstick has one film whatever the seeds
    assert chunks["one", 0] == chunks["two", 0] != chunks["one", 1]
    assert summary["figures"]["free"]["groups"]["beyond"]["palette"]["one"]["chunks"] == 2
    assert summary["against"] is None


def test_given_chunks_are_the_truth_and_others_are_not(tiny_model):
    vae = load_vae(tiny_model)
    model = load_transformer(tiny_model / "transformer", dtype=torch.float32)
    teller = Teller(model=model, vae=vae, encoder=Encoder(32), sampling=sampling_of(tiny_model, steps=1))
    story = teller.story(FIRST_STORY, 3)
    blind = parse_arm("none=none").make_policy()
    true = teller.tell(story, policy=blind, given=range(3), seed=1)
    torch.testing.assert_close(true.frames, teller.reconstruct(story), atol=1e-5, rtol=1e-4)
    made = teller.tell(story, policy=blind, given=(0,), seed=1)
    assert torch.equal(made.frames[:, :17], true.frames[:, :17])
    assert not torch.allclose(made.frames[:, 17:], true.frames[:, 17:], atol=1e-2)
    assert made.trace[2].chunks == ()


def test_the_model_says_how_it_is_sampled(tiny_model, tmp_path):
    (tmp_path / "sampling.json").write_text('{"steps": 7, "guidance": 1.5, "noise": "shared"}')
    assert sampling_of(tmp_path).steps == 7
    changed = sampling_of(tmp_path, steps=3, noise="fresh")
    assert (changed.steps, changed.guidance, changed.noise) == (3, 1.5, "fresh")
    with pytest.raises(ValueError, match="guidance is 0"):
        sampling_of(tmp_path, guidance=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arm", "semantic"], "expected LABEL=POLICY"),
        (["--arm", "a=full:no/such/folder"], "no/such/folder"),
        (["--richness", "9"], "richness is 9"),
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
    assert "film 3/3" in printed.err
    assert "No story comes back to a place." in (out / "page.md").read_text()
