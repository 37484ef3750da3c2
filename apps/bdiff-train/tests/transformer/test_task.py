"""What `fit` gets of a training: its losses, the names of its batches and its workload."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bdiff_train.engine import step_generator
from bdiff_train.transformer import RECIPES, BatchConfig, Files, ModelTask, make_batch
from bdiff_train.transformer import task as task_module
from bdiff_train.transformer.loss import fidelity_loss
from bdiff_train.transformer.rollouts import Window
from bdiff_train.transformer.task import EvaluationSet, rollout_generator
from kvbank import Rolling, Sink

CHUNKS, FRAMES, TOKENS = 5, 2, 8


FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))


def test_estimated_context_is_part_of_the_loss(make_data, small_model):
    data = make_data()
    losses = []
    for share in (0.0, 1.0):
        config = replace(
            RECIPES["default"](FILES), batch=BatchConfig(stories=8, early_share=0.0, estimated_share=share)
        )
        task = ModelTask(config=config, data=data)
        losses.append(task.loss(small_model(), 0, step_generator(0, 3))[0].item())
    assert losses[0] != losses[1]


def test_a_batch_is_named_by_its_stories_and_chunks(make_data, objectives, make_task):
    data = make_data()
    config = replace(RECIPES["default"](FILES), batch=data.batch)
    task = ModelTask(config=config, data=data)
    named = task.batch_name(4, step_generator(0, 4))
    made = make_batch(
        data.stories,
        data.levels,
        data.policy,
        config=data.batch,
        tokens_per_chunk=TOKENS,
        generator=step_generator(0, 4),
    )
    assert named == {"stories": list(made.stories), "chunks": list(made.targets)}
    _, objective = next(objectives())
    rolled_out = make_task(objective.config, objective).batch_name(4, step_generator(0, 4))
    window = Window.draw(data.stories, 3, generator=rollout_generator(step_generator(0, 4)))
    assert rolled_out["stories"] == [window.story]
    assert rolled_out["chunks"] == [window.start, window.start + 1, window.start + 2]


def test_the_workload_is_three_passes_over_the_gathered_chunks(make_data, small_model):
    data = make_data()
    config = replace(RECIPES["default"](FILES), batch=data.batch)
    task = ModelTask(config=config, data=data)
    workload = task.workload(small_model().config, rate=1e9)
    assert workload.tokens == 2 * 6 * TOKENS
    model = small_model()
    by_weights = 6 * sum(p.numel() for p in model.blocks[0].parameters() if p.ndim == 2) * workload.tokens
    assert workload.flops > by_weights / 2
    figures = workload.figures(2, 4.0)
    assert figures["tokens_per_second"] == workload.tokens / 2
    assert figures["matmul_share"] == pytest.approx(workload.flops / 2 / 1e9)


@pytest.fixture
def evaluate(make_data, small_model, monkeypatch, tmp_path):
    """The figures of an evaluation on some kinds of held-out stories."""
    monkeypatch.setattr(task_module, "write_preview", lambda *args, **rest: None)

    def call(stories):
        data = make_data()
        config = replace(RECIPES["default"](FILES), batch=data.batch, out=tmp_path)
        used = EvaluationSet(stories=stories, preview=None, vae=None, encoder=None)
        return ModelTask(config=config, data=data, evaluation_set=used).evaluate(small_model())

    return call


def test_the_held_out_loss_of_one_kind_is_the_mean_of_eight_batches(evaluate, make_data, small_model):
    data, losses = make_data(), []
    for step in range(8):
        batch = make_batch(
            data.stories,
            data.levels,
            data.policy,
            config=data.batch,
            tokens_per_chunk=TOKENS,
            generator=step_generator(1, step),
        )
        velocity = data.velocity(small_model(), batch)
        losses.append(fidelity_loss(velocity, batch, frames_per_chunk=FRAMES, motion=5.0)[0].item())
    assert evaluate({"story": data.stories}) == {"held_out_loss": math.fsum(losses) / 8}


def test_each_kind_has_the_held_out_loss_that_it_has_alone(evaluate, make_data):
    story = make_data().stories
    place = replace(story, latents=story.latents.flip(1))
    alone = [evaluate({kind: stories})["held_out_loss"] for kind, stories in (("story", story), ("place", place))]
    assert alone[0] != alone[1]
    figures = evaluate({"story": story, "place": place})
    assert figures == {
        "held_out_loss": sum(alone) / 2,
        "held_out_loss.story": alone[0],
        "held_out_loss.place": alone[1],
    }


def test_batches_of_a_training_draw_from_all_its_memories(make_data):
    data = replace(make_data(), policies=(Sink(0, 0), Rolling(1)))
    config = replace(RECIPES["default"](FILES), batch=BatchConfig(stories=64, early_share=0.0))
    batch = ModelTask(config=config, data=data)._batch(data.stories, step_generator(0, 0))
    late = torch.tensor(batch.targets) > 0
    shown = batch.gather.slots[late].lt(0).sum(1)
    assert shown.unique().tolist() == [0, 1]
    assert data.policy == Sink(0, 0)
