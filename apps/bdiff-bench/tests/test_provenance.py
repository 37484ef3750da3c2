"""Lines of another recipe are refused, and recipes of older versions are read."""

import json
from dataclasses import asdict

import pytest

from bdiff import Sampling
from bdiff_bench.harness import keep_recipe


def test_settings_that_a_recipe_knew_nothing_of_were_as_they_are_by_default(tmp_path):
    lines = tmp_path / "lines.jsonl"
    recipe = {"sampling": asdict(Sampling()), "seed": 0}
    keep_recipe(lines, recipe | {"seed": 1})
    keep_recipe(lines, recipe)  # nothing was made with the other one
    lines.write_text("{}\n")
    old = {name: value for name, value in recipe["sampling"].items() if name != "age_bonus"}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe | {"sampling": old}))
    keep_recipe(lines, recipe)
    with pytest.raises(ValueError, match="different: age_bonus, seed"):
        keep_recipe(lines, {"sampling": asdict(Sampling(age_bonus=0.1)), "seed": 1})


def test_a_recipe_with_the_names_of_an_older_version_is_the_same_recipe(tmp_path):
    """The age bonus was called seniority."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text("{}\n")
    sampling = asdict(Sampling(age_bonus=0.1))
    old = {**sampling, "seniority": sampling["age_bonus"]}
    del old["age_bonus"]
    (tmp_path / "recipe.json").write_text(json.dumps({"sampling": old, "seed": 0}))
    keep_recipe(lines, {"sampling": sampling, "seed": 0})
    assert json.loads((tmp_path / "recipe.json").read_text()) == {"sampling": sampling, "seed": 0}
