"""Settings of a training that do not fit are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from bdiff_train.transformer import RECIPES, BatchConfig, DistillationConfig, Files
from kvbank import Rolling

FILES = Files(out=Path("out"), vae=Path("vae"), stories=Path("stories"), start_from=Path("start"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"self_forcing": DistillationConfig(), "start_from": None}, "distillation needs start_from"),
        ({"fidelity_weight": 0.0}, "expected at least 0 beside Self Forcing, and 1 without"),
        ({"batch": BatchConfig(estimated_passes=0)}, "estimated_passes is 0; expected at least 1"),
        ({"batch": BatchConfig(tint=-0.1)}, "tint is -0.1; expected a number from 0"),
        ({"takes": ()}, "takes is ''; expected some of story, place, walk, each once"),
        ({"takes": ("story", "ride")}, "takes is 'story,ride'; expected some of story, place, walk, each once"),
        ({"takes": ("place",)}, "richness is 1; takes of kind place have richness 2: give --richness 2"),
        ({"latent_frames": 1}, "latent_frames is 1; expected at least 2"),
        ({"more_policies": ("rolling", "semantic")}, "policies are semantic,rolling,semantic; expected each once"),
        ({"more_policies": ("ring",)}, "policy is 'ring'; expected one of semantic, rolling"),
        ({"more_policies": ("rolling", "full")}, "policy full shows 24 chunks; BatchConfig.context is 4"),
        ({"num_sink": 1}, "policy semantic shows 5 chunks; BatchConfig.context is 4"),
        (
            {"policy": "rolling", "more_policies": ("none",), "age_bonus": 0.1},
            "only the semantic memory does; leave out --policy rolling,none",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPES["default"](FILES), **changes)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="policy is 'ring'; expected one of semantic, rolling"):
        replace(RECIPES["default"](FILES), policy="ring")


def test_only_the_semantic_memory_of_a_mixture_has_a_sink_and_an_age_bonus():
    config = replace(
        RECIPES["default"](FILES),
        policy="rolling",
        more_policies=("semantic", "none"),
        num_sink=1,
        age_bonus=0.1,
        batch=BatchConfig(context=5),
    )
    rolling, semantic, none = config.memories
    assert config.memory == rolling == Rolling(4)
    assert (semantic.num_sink, semantic.age_bonus) == (1, 0.1)
    assert none.select(7) == ()


def test_the_coverage_is_that_of_the_first_memory():
    config = replace(RECIPES["default"](FILES), more_policies=("rolling", "dynamic"), coverage=0.5)
    assert [memory.coverage for memory in config.memories] == [0.5, None, 0.98]


def test_a_model_is_sampled_with_chunks_of_the_length_it_was_trained_on():
    plain = RECIPES["default"](FILES)
    assert "latent_frames" not in plain.sampling
    assert replace(plain, latent_frames=8).sampling == {**plain.sampling, "latent_frames": 8}
