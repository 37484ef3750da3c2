"""A model is sampled as it wants, unless settings say otherwise."""

from dataclasses import replace

import pytest

from bdiff import defaults
from bdiff_bench.world import WorldBenchConfig


def test_a_model_is_sampled_as_it_wants(tmp_path):
    (tmp_path / "sampling.json").write_text('{"steps": 5, "shift": 2.0, "guidance": 1.5, "noise": "shared"}')
    plain = WorldBenchConfig(out=tmp_path, model=tmp_path).sampling
    assert (plain.steps, plain.shift, plain.guidance, plain.noise) == (5, 2.0, 1.5, "shared")
    settings = {"steps": 3, "guidance": 1.0, "age_bonus": 0.2, "num_sink": 1}
    changed = WorldBenchConfig(out=tmp_path, model=tmp_path, settings=settings)
    assert changed.sampling == replace(plain, **settings)
    assert changed.memories == {"semantic": defaults.policy("semantic", age_bonus=0.2, num_sink=1)}


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown setting 'num_steps'"):
        _ = WorldBenchConfig(out=tmp_path, model=tmp_path, settings={"num_steps": 3}).sampling


def test_age_bonus_and_sink_are_settings_of_the_semantic_memory(tmp_path):
    settings = {"age_bonus": 0.2, "num_sink": 1}
    config = WorldBenchConfig(out=tmp_path, model=tmp_path, settings=settings, policies=("rolling", "semantic"))
    assert config.memories == {
        "rolling": defaults.policy("rolling"),
        "semantic": defaults.policy("semantic", **settings),
    }
    assert [job.policy for job in config.jobs[:3]] == ["rolling", "semantic", "rolling"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"takes": ("film",)}, "takes is film; expected some of story, place, walk, each once"),
        ({"takes": ()}, "takes is empty; expected some of story, place, walk"),
        ({"takes": ("walk", "walk")}, "takes is walk, walk; expected"),
        ({"policies": ("sink", "sink")}, "policies is sink, sink; expected some of semantic, rolling, "),
        ({"policies": ("all",)}, "policies is all; expected"),
    ],
)
def test_kinds_and_memories_that_do_not_exist_or_stand_twice_are_refused(tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        WorldBenchConfig(out=tmp_path, **asked)
