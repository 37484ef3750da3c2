"""Recipes are whole configs, and a recipe with a sink is sampled with one."""

from dataclasses import replace
from pathlib import Path

import pytest

import storyworld
from bdiff import defaults
from bdiff_train.cli import RECIPES as NAMES
from bdiff_train.transformer import RECIPES, AdversarialConfig, Files, ModelTrainConfig

FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))


def test_the_command_knows_every_recipe_and_each_carries_its_name():
    assert tuple(RECIPES) == NAMES
    for name, recipe in RECIPES.items():
        assert recipe(FILES).recipe == name.replace("-", "_")


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("default", "base", "stage1")])
def test_what_goes_on_from_a_model_asks_for_one(name):
    with pytest.raises(ValueError, match="goes on from a trained transformer: give start_from"):
        RECIPES[name](replace(FILES, start_from=None))


@pytest.mark.parametrize("name", ["sink", "anchor"])
def test_targets_of_a_recipe_with_a_sink_see_the_first_chunk_and_its_model_is_sampled_so(name, make_data):
    config, data = RECIPES[name](FILES), make_data()
    for target in range(data.stories.num_chunks):
        seen = config.memory.select(target, data.stories.similarity(0, target))
        assert set(seen) >= {0, *range(max(0, target - 2), target)} - {target}
        assert len(seen) == min(target, config.batch.context)
    assert config.sampling["num_sink"] == 1
    assert "num_sink" not in RECIPES["stage3"](FILES).sampling


def test_configs_are_whole():
    assert isinstance(RECIPES["block-self-forcing"](FILES), ModelTrainConfig)
    both = RECIPES["block-self-forcing"](FILES)
    assert both.block_forcing is not None
    assert isinstance(both.self_forcing, AdversarialConfig)


def test_the_base_is_at_home_with_no_memory_and_has_a_minute_of_each_kind_of_take():
    config = RECIPES["base"](replace(FILES, start_from=None))
    assert set(config.takes) == set(storyworld.TAKES)
    assert config.memories == tuple(defaults.policy(name) for name in ("semantic", "rolling", "sink", "none"))
    assert config.sampling["latent_frames"] == 8
    frames = 4 * config.latent_frames * config.chunks_per_story - 3
    assert frames / storyworld.FPS == pytest.approx(60, abs=0.5)
    plain = RECIPES["default"](FILES)
    assert (config.schedule, config.level_min, config.level_max) == (plain.schedule, plain.level_min, plain.level_max)
