"""Recipes are whole configs; what each adds to flow matching is what it says, and takes its turns."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from bdiff.cli.main import cli, main
from bdiff.defaults import WEIGHTS
from bdiff_core import ChunkDiT, ModelConfig
from bdiff_train.cli import RECIPES as NAMES
from bdiff_train.data.stories import StorySet
from bdiff_train.engine.config import RunConfig, RunResult, Task
from bdiff_train.engine.loop import fit, step_generator
from bdiff_train.transformer.adversarial import Adversarial, AdversarialGame, Distillation, DistillationGame, Stage
from bdiff_train.transformer.batches import GatherConfig, make_batch
from bdiff_train.transformer.config import ModelTrainConfig
from bdiff_train.transformer.loss import BlockForcing, copies_velocity, fidelity_loss
from bdiff_train.transformer.recipes import RECIPES, Files
from bdiff_train.transformer.rollouts import RolloutConfig, Window, roll_out
from bdiff_train.transformer.task import ModelTask, films_generator
from bdiff_train.transformer.train import recipe_json, run_config
from forcing_losses import block_forcing_objective, semantic_reference
from kvbank import SemanticSparse
from noisesched import chunk_levels

CHUNKS, FRAMES, TOKENS = 5, 2, 8
TINY = ModelConfig(
    dim=24, num_layers=1, num_heads=2, ffn_dim=24, in_channels=4, out_channels=4, text_dim=6, text_length=3
)
FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))
ROLLOUT = RolloutConfig(chunks=3, given=1, steps=2)


def small_model(seed=0):
    torch.manual_seed(seed)
    model = ChunkDiT(TINY)
    nn.init.normal_(model.head.project.weight, std=0.2)
    return model


def make_stage():
    generator = torch.Generator().manual_seed(0)
    stories = StorySet(
        latents=torch.randn(3, CHUNKS * FRAMES, 4, 4, 4, generator=generator),
        caption=torch.arange(CHUNKS).remainder(2).expand(3, -1),
        tokens=torch.randn(2, 3, 6, generator=generator),
        embedding=torch.eye(2),
    )
    batch = GatherConfig(stories=2, copies=2)
    return Stage(
        stories=stories,
        levels=chunk_levels(CHUNKS, level_min=0.5, level_max=0.8),
        policy=SemanticSparse(),
        batch=batch,
        tokens_per_chunk=TOKENS,
        bfloat16=False,
    )


def make_task(self_forcing, game, **changes):
    plain = RECIPES["default"](FILES)
    config = replace(plain, self_forcing=self_forcing, batch=game.stage.batch, **changes)
    return ModelTask(config=config, stage=game.stage, game=game)


def test_the_command_knows_every_recipe_and_each_carries_its_name():
    assert tuple(RECIPES) == NAMES
    for name, recipe in RECIPES.items():
        assert recipe(FILES).recipe == name.replace("-", "_")


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("default", "stage1")])
def test_what_goes_on_from_a_model_asks_for_one(name):
    with pytest.raises(ValueError, match="goes on from a trained transformer: give start_from"):
        RECIPES[name](replace(FILES, start_from=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"self_forcing": Distillation(), "start_from": None}, "distillation needs start_from"),
        ({"fidelity_weight": 0.0}, "expected at least 0 beside Self Forcing, and 1 without"),
        ({"batch": GatherConfig(estimated_passes=0)}, "estimated_passes is 0; expected at least 1"),
        ({"batch": GatherConfig(tint=-0.1)}, "tint is -0.1; expected a number from 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPES["default"](FILES), **changes)


def test_block_forcing_is_the_two_part_objective_of_each_target_that_has_a_past():
    stage, model = make_stage(), small_model()
    made = make_batch(
        stage.stories,
        stage.levels,
        stage.policy,
        config=GatherConfig(stories=16, copies=2),
        tokens_per_chunk=TOKENS,
        generator=step_generator(0, 0),
        reference_chunks=2,
    )
    assert 0 < made.targets.count(0) < 16
    forcing = BlockForcing(weight=0.3, gamma=0.7, top_l=2)
    velocity = copies_velocity(model, made, frames_per_chunk=FRAMES)
    loss, figures = fidelity_loss(velocity, made, frames_per_chunk=FRAMES, block_forcing=forcing)
    expected = []
    for row, (story, target) in enumerate(zip(made.stories, made.targets, strict=True)):
        chunks = stage.stories.latents[story].unflatten(0, (CHUNKS, FRAMES)).transpose(1, 2)
        similarity = [float((c - target) % 2 == 0) for c in range(target)]
        reference = None
        if target:
            reference = semantic_reference(chunks[:target], torch.tensor(similarity), top_l=2, num_frames=FRAMES)
            reference = torch.cat([reference[None]] * 2, dim=2)
        one = slice(row, row + 1)
        expected.append(
            block_forcing_objective(velocity[one], made.clean[one], made.noise[one], reference, gamma=0.7, weight=0.3)
        )
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert figures["flow_matching"] + 0.3 * figures["block_forcing"] == pytest.approx(loss.item(), rel=1e-5)


def test_a_reference_changes_no_draw():
    stage, options = make_stage(), {"config": GatherConfig(stories=3), "tokens_per_chunk": TOKENS}
    plain, with_reference = (
        make_batch(
            stage.stories, stage.levels, stage.policy, generator=step_generator(0, 1), reference_chunks=count, **options
        )
        for count in (0, 2)
    )
    assert plain.reference is None
    assert torch.equal(plain.latents, with_reference.latents)


def test_estimated_context_is_part_of_the_loss():
    stage = make_stage()
    losses = []
    for share in (0.0, 1.0):
        config = replace(
            RECIPES["default"](FILES), batch=GatherConfig(stories=8, early_share=0.0, estimated_share=share)
        )
        task = ModelTask(config=config, stage=stage)
        losses.append(task.loss(small_model(), 0, step_generator(0, 3))[0].item())
    assert losses[0] != losses[1]


def test_a_roll_out_keeps_what_is_given_and_is_a_function_of_its_window():
    stage, model = make_stage(), small_model()
    window = Window.draw(stage.stories, 3, generator=step_generator(0, 0))
    films = [roll_out(model, stage.stories, window, config=ROLLOUT, policy=stage.policy) for _ in range(2)]
    assert torch.equal(films[0].made, films[1].made)
    assert torch.equal(films[0].made[:, :, :FRAMES], films[0].real[:, :, :FRAMES])
    assert not torch.equal(films[0].made[:, :, FRAMES:], films[0].real[:, :, FRAMES:])
    first = window.start * FRAMES
    truth = stage.stories.latents[window.story, first : first + 3 * FRAMES].transpose(0, 1)
    assert torch.equal(films[0].real[0], truth)
    films[0].made.sum().backward()
    assert model.head.project.weight.grad.any()


def games():
    stage, teacher = make_stage(), small_model(7).requires_grad_(False)
    adversarial = Adversarial(rollout=ROLLOUT, width=16, layers=1)
    yield AdversarialGame.players(small_model(), adversarial), AdversarialGame(config=adversarial, stage=stage)
    for score in ("dmd", "sid"):
        distillation = Distillation(rollout=ROLLOUT, score=score, judge_steps=1)
        game = DistillationGame(config=distillation, stage=stage, teacher=teacher)
        yield DistillationGame.players(small_model(), teacher), game


@pytest.mark.parametrize("number", range(3))
def test_player_and_judge_take_turns_and_a_killed_run_goes_on_exactly(tmp_path, number):
    def run(out, *, dies_at=None, steps=4):
        players, game = list(games())[number]
        task = make_task(game.config, game)
        before = {name: value.clone() for name, value in players.state_dict().items()}

        def loss(module, step, generator):
            if step == dies_at:
                raise KeyboardInterrupt
            return task.loss(module, step, generator)

        config = RunConfig(out=tmp_path / out, max_steps=steps, learning_rate=1e-3, checkpoint_minutes=0, ema_decay=0.0)
        fit(players, config, Task(loss=loss, part=task.part, draws=task.draws, batch_name=task.batch_name))
        return before, players.state_dict()

    before, after = run("judge", steps=1)
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"judge"}
    judged = after
    _, after = run("judge", steps=2)
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, judged[name])}
    assert changed == {"model"}
    _, whole = run("whole")
    line = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[0])
    for name in ("loss", "gradient"):  # a line is of as many steps of one as of the other
        assert line[name] == pytest.approx((line[f"model.{name}"] + line[f"judge.{name}"]) / 2, rel=1e-4)
    with pytest.raises(KeyboardInterrupt):
        run("parts", dies_at=3)
    _, parts = run("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_player_whose_fidelity_counts_minimises_the_sum():
    players, game = next(games())
    task = make_task(game.config, game, fidelity_weight=0.5)
    loss, figures = task.loss(players, 1, step_generator(0, 1))
    expected = game.config.weight * figures["game"] + 0.5 * figures["fidelity"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_player_sees_the_real_videos_that_as_many_steps_without_a_judge_see():
    players, game = next(games())
    task = make_task(game.config, game, fidelity_weight=1.0)
    plain = replace(task, config=replace(task.config, self_forcing=None), game=None)
    turns = game.config.judge_steps + 1
    for turn in range(3):
        step = turn * turns + game.config.judge_steps
        assert task.draws(step) == plain.draws(turn) == turn
        _, figures = task.loss(players, step, step_generator(0, task.draws(step)))
        alone, _ = plain.loss(players.model, turn, step_generator(0, turn))
        assert figures["fidelity"] == alone.item()
    drawn = [task.draws(step) for step in range(6 * turns)]
    assert len(set(drawn)) == len(drawn)


def test_ranks_gather_the_whole_model_where_they_call_it_unequally_often():
    stage, model = make_stage(), small_model()
    sharding = {}
    for name in ("stage2", "stage3", "sink", "anchor"):
        config = RECIPES[name](FILES)
        sharding[name] = run_config(config, ModelTask(config=config, stage=stage), model).sharding
    assert sharding == {"stage2": "blocks", "stage3": "whole", "sink": "whole", "anchor": "whole"}


@pytest.mark.parametrize("name", ["sink", "anchor"])
def test_targets_of_a_recipe_with_a_sink_see_the_first_chunk_and_its_model_is_sampled_so(name):
    config, stage = RECIPES[name](FILES), make_stage()
    for target in range(stage.stories.num_chunks):
        seen = config.memory.select(target, stage.stories.similarity(0, target))
        assert set(seen) >= {0, *range(max(0, target - 2), target)} - {target}
        assert len(seen) == min(target, config.batch.context)
    assert config.sampling["num_sink"] == 1
    assert "num_sink" not in RECIPES["stage3"](FILES).sampling


def test_a_batch_is_named_by_its_stories_and_chunks():
    stage = make_stage()
    config = replace(RECIPES["default"](FILES), batch=stage.batch)
    task = ModelTask(config=config, stage=stage)
    named = task.batch_name(4, step_generator(0, 4))
    made = make_batch(
        stage.stories,
        stage.levels,
        stage.policy,
        config=stage.batch,
        tokens_per_chunk=TOKENS,
        generator=step_generator(0, 4),
    )
    assert named == {"stories": list(made.stories), "chunks": list(made.targets)}
    _, game = next(games())
    film = make_task(game.config, game).batch_name(4, step_generator(0, 4))
    window = Window.draw(stage.stories, 3, generator=films_generator(step_generator(0, 4)))
    assert film["stories"] == [window.story]
    assert film["chunks"] == [window.start, window.start + 1, window.start + 2]


def test_work_is_three_passes_over_the_gathered_chunks():
    stage = make_stage()
    config = replace(RECIPES["default"](FILES), batch=stage.batch)
    task = ModelTask(config=config, stage=stage)
    work = task.work(TINY, rate=1e9)
    assert work.tokens == 2 * 6 * TOKENS
    model = small_model()
    by_weights = 6 * sum(p.numel() for p in model.blocks[0].parameters() if p.ndim == 2) * work.tokens
    assert work.flops > by_weights / 2
    figures = work.figures(2, 4.0)
    assert figures["tokens_per_second"] == work.tokens / 2
    assert figures["matmul_share"] == pytest.approx(work.flops / 2 / 1e9)


def test_a_roll_out_longer_than_the_stories_is_refused():
    with pytest.raises(ValueError, match="a roll-out has 9 chunks; the stories have 5"):
        Window.draw(make_stage().stories, 9, generator=step_generator(0, 0))


def test_the_command_says_what_is_missing_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    def refused(*options):
        with pytest.raises(SystemExit) as stopped:
            main(["train", "model", *options])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    files = ["--vae", "vae", "--stories", str(tmp_path), "--out", str(tmp_path / "out")]
    assert "distill goes on from a trained transformer: give start_from" in refused("--recipe", "distill", *files)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "micro_batches is 1; 2 ranks divide them, so it must be a multiple of 2" in refused(*files)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ends", "minutes"), [([], 60.0), (["--max-steps", "7"], math.inf), (["--max-steps", "7", "--minutes", "5"], 5.0)]
)
def test_a_number_of_steps_alone_is_the_only_end(ends, minutes, tmp_path, monkeypatch):
    seen = []

    def train(config):
        seen.append(config)
        return RunResult(steps=0, seconds=0.0, evaluation={}, finished=True)

    monkeypatch.setattr("bdiff_train.transformer.train.train_model", train)
    files = ["--vae", str(WEIGHTS / "vae.safetensors"), "--stories", str(tmp_path), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["train", "model", *files, *ends])
    assert done.exit_code == 0, done.output
    assert [config.minutes for config in seen] == [minutes]


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_are_written_in_strict_json(name):
    def refuse(constant):
        raise AssertionError(constant)

    config = replace(RECIPES[name](FILES), max_steps=3, minutes=math.inf)
    written = json.loads(recipe_json(config), parse_constant=refuse)
    assert (written["recipe"], written["minutes"], written["max_steps"]) == (config.recipe, None, 3)
    assert written["batch"]["estimated_passes"] == config.batch.estimated_passes


def test_configs_are_whole():
    assert isinstance(RECIPES["block-self-forcing"](FILES), ModelTrainConfig)
    both = RECIPES["block-self-forcing"](FILES)
    assert both.block_forcing is not None
    assert isinstance(both.self_forcing, Adversarial)
