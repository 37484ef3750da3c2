"""What `fit` gets of a training: its losses, the names of its batches and its workload."""

from dataclasses import replace
from pathlib import Path

import pytest

from bdiff_train.engine import step_generator
from bdiff_train.transformer import RECIPES, BatchConfig, Files, ModelTask, make_batch
from bdiff_train.transformer.rollouts import Window
from bdiff_train.transformer.task import rollout_generator

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
