"""Planted drift is where it should be, scores are those of vde_metrics, and the page says what is seen."""

import json
import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storyworld import TAKES
from studies.takes import TakesConfig, measure_takes, tiny_config
from studies.takes import run as takes_run
from studies.takes.faults import RATES, with_fault
from studies.takes.figures import drift_error, first_over_later, score_change, seen_from, share_in_order, takes_figures
from studies.takes.measuring import METRICS, chunk_scores, frame_features, metrics_of
from studies.takes.page import takes_parts
from studies.takes.run import LINES, planned, write_takes_page
from studies.takes.swap import matching_frames, swap_from
from studies.takes.videos import FIRST_SEED, Length, donor_seed, facing, load_take, starts, whole
from vde_metrics import Background, Clarity, GivenMasks, Motion, Subject, measure, vde

LENGTH = Length(num_chunks=3, first_chunk_frames=5, chunk_frames=8)


class MeanColour:
    """An encoder that takes no time."""

    name, dim = "mean colour", 3

    def encode(self, crops):
        return torch.stack([crop.float().mean((0, 1)) for crop in crops])


@pytest.fixture(scope="module")
def take():
    return load_take("place", FIRST_SEED, size=64, length=LENGTH)


@pytest.fixture(scope="module")
def donor():
    return load_take("place", donor_seed("place", FIRST_SEED), size=64, length=LENGTH)


@pytest.mark.parametrize("count", [3, 2])
def test_scores_are_those_of_the_package(take, count):
    metrics = metrics_of(take.truth.subject, MeanColour())
    found = chunk_scores(frame_features(take.frames, metrics), metrics, count)
    masks = GivenMasks(take.truth.subject)
    for name, metric in {
        "clarity": Clarity(),
        "motion": Motion(),
        "motion_smoothness": Motion(form="smoothness"),
        "background": Background(subject=masks),
        "background_camera": Background(subject=masks, compensate_camera=True),
    }.items():
        (expected,) = measure(take.frames, metrics=[metric], num_chunks=count, fps=8.0).metrics
        assert found[name] == list(expected.scores)
    assert set(found) == set(METRICS)


def test_the_subject_is_that_of_every_fourth_frame(take):
    metrics = metrics_of(take.truth.subject, MeanColour())
    found = chunk_scores(frame_features(take.frames, metrics), metrics, 2)["subject"]
    thinned = Subject(encoder=MeanColour(), crops=GivenMasks(take.truth.subject[::4]))
    report = measure(take.frames[::4], metrics=[thinned], chunk_frames=[0, 3, 6])  # frames 0, 4, 8 and 12, 16, 20
    assert found == list(report.scores["subject"])


@pytest.mark.parametrize("first", [6, 8, 9])
def test_only_what_changed_is_measured_again(take, first):
    changed = take.frames.clone()
    changed[first:] = 255 - changed[first:]
    metrics = metrics_of(take.truth.subject, MeanColour())
    known = frame_features(take.frames, metrics)
    again = frame_features(changed, metrics, first=first, known=known)
    for name, whole_video in frame_features(changed, metrics).items():
        torch.testing.assert_close(again[name], whole_video, equal_nan=True)
        assert not torch.equal(again[name].nan_to_num(), known[name].nan_to_num()) or name == "motion_smoothness"


@pytest.mark.parametrize("fault", ["blur", "colour"])
def test_faults_spare_the_first_chunk_and_grow(take, fault):
    made = [with_fault(take, fault, rate, num_chunks=3).frames for rate in (*RATES[fault][-2:], 2 * RATES[fault][-1])]
    for frames in made:
        assert torch.equal(frames[:7], take.frames[:7])
    changes = [(frames.float() - take.frames.float()).abs().mean((1, 2, 3)) for frames in made]
    assert all(a.sum() < b.sum() for a, b in pairwise(changes))
    assert changes[-1][-1] > changes[-1][10] > 0


def test_blur_is_of_the_same_share_of_any_picture(take):
    """A picture of 64 has a quarter of the sigma: 4 pixels of 256 leave the mean and take most of the detail."""
    blurred = with_fault(take, "blur", 4.0, num_chunks=3).frames[-1:].float()
    sharp = take.frames[-1:].float()
    assert blurred.mean() == pytest.approx(sharp.mean().item(), abs=0.5)
    assert 0.05 < Clarity().score(blurred.byte()) / Clarity().score(sharp.byte()) < 0.5


@pytest.mark.parametrize(("share", "first"), [(1 / 15, 14), (1 / 3, 14), (2 / 3, 7)])
def test_a_swap_begins_with_a_chunk_and_takes_the_share_that_was_asked_for(take, donor, share, first):
    faulty = with_fault(take, "swap", share, num_chunks=3, donor=donor)
    assert faulty.first == first
    assert torch.equal(faulty.frames[:first], take.frames[:first])
    assert torch.equal(faulty.subject[:first], take.truth.subject[:first])
    pairs = zip(faulty.frames[first:], take.frames[first:], strict=True)
    assert all((after != before).any() for after, before in pairs)


def test_a_swap_changes_only_where_the_two_protagonists_are(take, donor):
    frames, masks = swap_from(take, donor, 7)
    changed = (frames.int() - take.frames.int()).abs().amax(-1) > 8
    either = (masks | take.truth.subject)[:, None].float()
    near = torch.nn.functional.max_pool2d(either, 7, stride=1, padding=3)[:, 0] > 0
    assert not (changed & ~near).any()


def test_the_old_protagonist_is_gone_and_the_new_one_has_its_own_colours(take, donor):
    frames, masks = swap_from(take, donor, 7)
    later = range(7, len(frames))
    place = ((take.truth.background_at(later).permute(0, 2, 3, 1) + 1) * 127.5).float()
    sky = torch.arange(64)[:, None] < 48  # above the shadow of the feet
    left = take.truth.subject[7:] & ~masks[7:] & ~take.truth.companion_mask[7:] & sky
    assert left.sum() > 100
    misses, before = ((one[7:].float() - place).abs().mean(-1)[left].mean() for one in (frames, take.frames))
    assert misses < 0.35 * before
    colours = [one.frames[10][mask[10]].float().mean(0) for one, mask in ((donor, donor.truth.subject),)]
    new = frames[10][masks[10]].float().mean(0)
    old = take.frames[10][take.truth.subject[10]].float().mean(0)
    assert (new - colours[0]).abs().mean() < (new - old).abs().mean()


def test_the_new_protagonist_stands_where_the_old_one_stood(take, donor):
    _, masks = swap_from(take, donor, 7)
    for frame in (8, 14, 20):
        rows = masks[frame].any(1).nonzero()
        assert rows[-1].item() == pytest.approx(take.truth.position[frame, 1].item(), abs=3)
        middle = masks[frame].any(0).nonzero().float().mean()
        assert middle.item() == pytest.approx(take.truth.position[frame, 0].item(), abs=8)


def test_poses_have_the_action_and_the_direction_of_the_video():
    length = Length(num_chunks=8, first_chunk_frames=5, chunk_frames=8)
    own, other = (load_take("place", seed, size=32, length=length) for seed in (FIRST_SEED, FIRST_SEED + 7))
    poses = matching_frames(own, other)
    assert len(poses) == len(own.frames)
    usable = whole(other.truth.subject)
    for frame, (pose, mirrored) in enumerate(poses):
        chunk, donor_chunk = (int(one.truth.chunk_of_frame[at]) for one, at in ((own, frame), (other, pose)))
        assert usable[pose]
        if own.truth.actions[chunk] in other.truth.actions and usable.all():
            assert other.truth.actions[donor_chunk] == own.truth.actions[chunk]
        if usable.all():
            assert mirrored == (facing(own.truth)[chunk] != facing(other.truth)[donor_chunk])
    assert starts(own.truth)[:3] == [0, 5, 13]


@pytest.mark.parametrize("kind", TAKES)
def test_donors_are_of_another_species(kind):
    seed = donor_seed(kind, FIRST_SEED)
    one, other = (load_take(kind, number, size=32, length=LENGTH) for number in (FIRST_SEED, seed))
    assert one.truth.species != other.truth.species


def test_what_cannot_be_planted_is_refused(take):
    with pytest.raises(ValueError, match="fault is 'rain'; expected one of blur"):
        with_fault(take, "rain", 1.0, num_chunks=3)
    with pytest.raises(ValueError, match="swap needs a donor"):
        with_fault(take, "swap", 0.5, num_chunks=3)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=9))
def test_errors_are_those_of_the_package(scores):
    assert drift_error(scores) == pytest.approx(vde(scores, normalize=True))
    assert drift_error(scores, normalize=False) == pytest.approx(vde(scores))


def test_chunks_without_a_score_do_not_count():
    assert drift_error([2.0, None, 3.0]) == pytest.approx(0.5)
    assert drift_error([2.0, 3.0, None, 2.0]) == pytest.approx(0.5 * 3 / 4)
    assert drift_error([0.0, 1.0]) == float("inf")
    assert score_change([2.0, None, 3.0], [1.0, 1.0, 0.0]) == 1.0
    assert share_in_order([1.0, 2.0, 2.0, 3.0, 1.0]) == 0.5
    assert share_in_order([1.0, None]) is None
    assert first_over_later([3.0, 1.0, None, 2.0]) == 2.0
    assert first_over_later([None, 1.0]) is None


def lines_of(response, *, seeds=(1, 2, 3)):
    """Lines whose clarity falls in the last chunk by a response to the rate, beside 1% for each seed."""
    found = []
    for kind in TAKES:
        for seed in seeds:
            for change, rates in {"true": (0.0,), "small": (0.0,), **RATES}.items():
                for rate in rates:
                    scores = [1.0, 1.0 - 0.01 * seed - response(change, rate)]
                    own = {"2": dict.fromkeys(METRICS, scores)}
                    found.append({"kind": kind, "seed": seed, "change": change, "rate": rate, "scores": own})
    return found


def test_figures_say_what_is_seen_and_whether_the_order_is_right():
    def response(change, rate):
        return {"blur": 0.01 * rate, "colour": -rate / 100, "swap": 0.3}.get(change, 0.0) * (rate > 0)

    found = takes_figures(lines_of(response), counts=(2,))
    true = found["true"]["place"]["large"]["2"]["clarity"]
    assert true["normalized"]["mean"] == pytest.approx(0.02)
    assert true["spread"] == pytest.approx(0.01)
    assert true["most"] == pytest.approx(0.03)
    assert true["first_over_later"] == pytest.approx((1 / 0.99 + 1 / 0.98 + 1 / 0.97) / 3)
    blur, colour, swap = (found["planted"]["walk"][fault]["clarity"] for fault in RATES)
    assert blur["added_spreads"] == pytest.approx([0.5, 1.0, 2.0, 4.0], rel=1e-4)
    assert (blur["pairs_in_order"], blur["least_spearman"]) == (1.0, 1.0)
    assert seen_from(blur, RATES["blur"]) == 2.0
    assert (colour["pairs_in_order"], colour["score_pairs_in_order"]) == (0.0, 1.0)
    assert colour["least_spearman"] == -1.0
    assert seen_from(colour, RATES["colour"]) is None
    assert swap["pairs_in_order"] == 0.25
    assert seen_from(swap, RATES["swap"]) == RATES["swap"][0]


def test_the_page_says_misses_first(tmp_path):
    def response(change, rate):
        return {"blur": 0.01 * rate, "colour": -rate / 100}.get(change, 0.1 * (change == "swap"))

    config = TakesConfig(out=tmp_path, num_seeds=3, num_planted=3, num_chunks=2, fewer_chunks=2)
    summary = {
        "config": {name: getattr(config, name) for name in config.__slots__},
        "seeds": [1, 2, 3],
        "world": "abc",
        "machine": dict.fromkeys(("processor", "threads", "python", "torch", "bdiff", *takes_run.PACKAGES), "x"),
        **takes_figures(lines_of(response), counts=(2,)),
    }
    text = "\n\n".join(takes_parts(summary, pictures=dict.fromkeys(("kinds", "faults", "drift"), "x.png")))
    assert text.startswith("## Misses first")
    assert "True videos of kind *place* are near zero by every metric." in text
    assert "*colour* up to 20% is not seen by clarity, motion," in text
    assert "*colour* of 20% lowers the error of clarity," in text
    assert "*blur* up to 4 pixels" not in text
    assert "*swap* is seen but its rates are not always in order by clarity," in text
    assert "*blur* is seen by clarity from 2 pixels (story), 2 pixels (place), 2 pixels (walk) on." in text


def test_a_small_run_resumes_and_shows_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(takes_run, "_encoder", MeanColour)
    takes_run._features.cache_clear()
    config = tiny_config(TakesConfig(out=tmp_path))
    jobs = planned(config)
    assert len(jobs) == 3 * (2 + sum(map(len, RATES.values())))
    summary = measure_takes(config)
    takes_run._features.cache_clear()
    assert json.loads((tmp_path / "figures.json").read_text()) == summary
    assert str(tmp_path) not in json.dumps(summary)
    page = (tmp_path / "page.md").read_text()
    for name in ("kinds", "faults", "drift"):
        assert f"]({name}.png)" in page
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 500
    path = tmp_path / LINES
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:30])
    done = []
    assert measure_takes(config, on_job=lambda number, total: done.append((number, total))) == summary
    takes_run._features.cache_clear()
    assert done == [(len(jobs), len(jobs))]
    (tmp_path / "named").mkdir()
    write_takes_page(tmp_path / "named.md", summary, pictures=tmp_path / "named")
    assert (tmp_path / "named.md").read_text() == re.sub(r"\]\((\w+).png\)", r"](named/\1.png)", page)
    assert (tmp_path / "named" / "kinds.png").read_bytes() == (tmp_path / "kinds.png").read_bytes()
    monkeypatch.setattr(takes_run, "world_digest", lambda: "another")
    with pytest.raises(ValueError, match="holds figures of other settings"):
        measure_takes(config)


def test_more_videos_with_faults_than_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_planted is 4; expected at most num_seeds, which is 2"):
        TakesConfig(out=tmp_path, num_seeds=2)
