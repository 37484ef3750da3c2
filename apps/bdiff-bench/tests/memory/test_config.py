"""A config refuses what it cannot do; folders of older versions are gone on with."""

import json
from dataclasses import asdict

import pytest

from bdiff_bench.memory import MemoryBenchConfig, parse_arm
from bdiff_bench.memory.config import MemoryRecipe


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


def test_a_recipe_of_an_older_version_is_gone_on_with(tiny_model, tmp_path):
    """It called the age bonus seniority, in the settings and in the texts of policies."""
    config = MemoryBenchConfig(out=tmp_path, model=tiny_model, settings={"steps": 3})
    new = MemoryRecipe.of(config)
    old = json.loads(json.dumps(asdict(new)).replace("age_bonus", "seniority"))
    policy = "SemanticSparse(top_l=2, num_recent=2, coverage=0.98, drop=0.0, seniority=0.0, num_sink=0)"
    assert old["arms"]["semantic"]["policy"] == policy
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(old | {"arms": {"semantic": old["arms"]["semantic"]}}))
    assert new.join(file) == new
    file.write_text(json.dumps(old).replace("seniority=0.0", "seniority=0.5"))
    with pytest.raises(ValueError, match="another semantic; choose another folder or label"):
        new.join(file)


def test_the_model_says_how_it_is_sampled(tmp_path):
    (tmp_path / "sampling.json").write_text('{"steps": 7, "guidance": 1.5, "noise": "shared"}')

    def sampling(**settings):
        return MemoryBenchConfig(out=tmp_path, model=tmp_path, settings=settings).sampling

    assert sampling().steps == 7
    changed = sampling(steps=3, noise="fresh", guidance=None)
    assert (changed.steps, changed.guidance, changed.noise) == (3, 1.5, "fresh")
    with pytest.raises(ValueError, match="guidance is 0"):
        sampling(guidance=0.0)
