"""What is measured on one story: the truth has no error, and each fault shows in its own measure."""

import json
from types import SimpleNamespace

import pytest
import torch

import storyworld
from bdiff_bench.memory import at_places
from bdiff_train.transformer import FIRST_STORY
from kvbank import RecallTrace
from studies.ablation import videos
from studies.ablation.configurations import TRUTH
from studies.ablation.results import compact
from studies.ablation.videos import StoryJob, changes, forgetful, video_line
from vde_metrics import Clarity, vde


@pytest.fixture(scope="module")
def story():
    return storyworld.render(FIRST_STORY, 9, richness=0)  # chunks 7 and 8 show the place of 0 again


@pytest.fixture(scope="module")
def true(story):
    return video_line(story.frames, story.frames, story, StoryJob(label=TRUTH, seed=0, story=FIRST_STORY))


def test_the_truth_recalls_everything_and_is_as_prompted(story, true):
    assert [record["gap"] for record in true["recall"]] == [7, 1]
    assert all(record["colour"] == 0 for record in true["recall"])
    assert (true["captions"]["visible"], true["captions"]["direction"]) == (1.0, 1.0)
    assert true["captions"]["direction_by_chunk"] == [1] * 9
    scores = [
        Clarity().score(story.frames[:, torch.as_tensor(story.truth.chunk_of_frame == chunk)]) for chunk in range(9)
    ]
    assert true["drift"]["clarity"]["scores"] == pytest.approx(scores, rel=1e-5)
    assert true["drift"]["clarity"]["vde"] == pytest.approx(vde(scores), rel=1e-5)
    assert true["drift"]["clarity"]["normalized"] == pytest.approx(vde(scores, normalize=True), rel=1e-5)


def test_a_video_that_forgets_shows_another_place_on_each_return_and_nothing_else(story):
    other, back = forgetful(story), story.truth.chunk_of_frame >= 7
    assert torch.equal(other.frames[:, ~back], story.frames[:, ~back])
    places = story.truth.backgrounds.shape[0]
    elsewhere = at_places(story.truth, (story.truth.place + 1) % places).background_at(range(len(back))).transpose(0, 1)
    actors = (story.truth.subject & story.truth.visible[:, None, None]) | story.truth.companion_mask
    assert torch.equal(other.frames[:, back], torch.where(actors, story.frames, elsewhere)[:, back])
    line = video_line(other.frames, other.frames, story, StoryJob(label=TRUTH, seed=0, story=FIRST_STORY))
    assert all(record["colour"] > 0.05 for record in line["recall"])
    assert line["captions"]["place"] == 0.0
    assert (line["captions"]["visible"], line["captions"]["direction"]) == (1.0, 1.0)


def test_a_video_knows_which_of_its_places_are_new(story, true):
    assert true["places"] == story.truth.place.tolist()
    assert true["new_place"] == [1] * 7 + [0] * 2


def test_changes_are_shares_of_the_first_score():
    assert changes([None, 2.0, 1.0, None, 5.0]) == [None, 0.0, 0.5, None, 1.5]
    assert changes([0.0, 2.0]) == changes([None, None]) == [None, None]


def test_what_a_video_was_shown_is_kept_by_layer_and_by_chunk():
    """Two layers and chunks of 10 tokens: the third chunk is shown 5 + 10 by one layer, 2 + 4 by the other."""
    trace = [
        RecallTrace(index=index, chunks=chunks, kinds=("recent",) * len(chunks), similarity=(None,) * len(chunks),
                    spans=spans, shares=(), kept=())
        for index, chunks, spans in ((0, (), ()), (1, (0,), ((5,), (3,))), (2, (0, 1), ((5, 10), (2, 4))))
    ]  # fmt: skip
    sampler = SimpleNamespace(
        vae=SimpleNamespace(config=SimpleNamespace(spatial_stride=8)),
        model=SimpleNamespace(config=SimpleNamespace(num_tokens=lambda frames, height, width: 10)),
        sampling=SimpleNamespace(latent_frames=5),
    )
    story = SimpleNamespace(frames=torch.zeros(3, 1, 64, 64))
    shown = videos._shown(sampler, story, SimpleNamespace(trace=trace), window=2)
    assert shown["tokens_by_chunk"] == [0.0, 4.0, 10.5]
    assert shown["tokens"] == 10.5
    assert shown["chunks_by_chunk"] == [[], [0], [0, 1]]
    assert shown["kept"] == pytest.approx([(5 + 5 + 10) / 30, (3 + 2 + 4) / 30])


def test_another_protagonist_is_drift_of_the_subject_and_no_error_of_recall(story, true):
    frames, late = story.frames.clone(), story.truth.chunk_of_frame >= 3
    masks = (story.truth.subject & late[:, None, None])[None].expand_as(frames)
    frames[masks] = -frames[masks]
    line = video_line(frames, frames, story, StoryJob(label="rolling", seed=0, story=FIRST_STORY))
    assert line["drift"]["subject"]["vde"] > 1.5 * true["drift"]["subject"]["vde"]
    assert [record["colour"] for record in line["recall"]] == [0.0, 0.0]
    assert line["drift"]["subject"]["scores"][:3] == true["drift"]["subject"]["scores"][:3]
    assert line["captions"]["visible"] < 0.7


def test_a_run_of_32_videos_of_12_chunks_is_a_small_file(true):
    line = true | {"kept": [1 / 3] * 6, "tokens_by_chunk": [1 / 3] * 12, "chunks_by_chunk": [[1, 2, 3, 4]] * 12}
    assert len(json.dumps(compact(line), separators=(",", ":"))) * 12 / 9 * 32 < 70_000
