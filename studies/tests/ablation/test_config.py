"""A wrong config is refused, and settings of older versions are read."""

import json
from pathlib import Path

import pytest

from bdiff import Sampling
from studies.ablation import AblationConfig, PostTraining
from studies.ablation.config import joined_settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tables": ("7",)}, "tables are .'7'.*expected some of 5, 6, claim"),
        ({"num_seeds": 0}, "num_seeds is 0; expected at least 1"),
        ({"num_chunks": 1}, "num_chunks is 1; expected at least 2"),
        ({"bases": (Path("one"),)}, "1 bases for 3 seeds"),
        ({"configurations": ("none",)}, "no configuration 'none' here"),
    ],
)
def test_a_wrong_config_is_told(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        AblationConfig(out=tmp_path, **options)


def test_a_wrong_post_training_is_told():
    with pytest.raises(ValueError, match="video_chunks is 9, chunks 6"):
        PostTraining(video_chunks=9, chunks=6)
    with pytest.raises(ValueError, match="steps is 0"):
        PostTraining(steps=0)


def test_settings_of_an_older_version_are_those_of_this_one(tiny_model, tmp_path):
    """It called the age bonus seniority; the names of post-training are as they were."""
    config = AblationConfig(out=tmp_path, model=tiny_model, settings={"steps": 2}, num_seeds=2)
    written = json.dumps(joined_settings(config, tmp_path / "none.json"))
    assert {"film_chunks", "film_steps", "steps"} <= set(json.loads(written)["training"])
    (tmp_path / "settings.json").write_text(written.replace("age_bonus", "seniority"))
    more = AblationConfig(out=tmp_path, model=tiny_model, num_seeds=1)
    assert more.sampling == Sampling.of_model(tiny_model).changed({"steps": 2})
    assert joined_settings(more, tmp_path / "settings.json") == json.loads(written)


def test_the_settings_of_the_published_study_are_read():
    published = Path(__file__).parents[3] / "docs" / "results" / "ablation_2-core-epyc_202611"
    sampling = AblationConfig(out=published).sampling
    training = json.loads((published / "settings.json").read_text())["training"]
    assert (sampling.age_bonus, sampling.num_sink) == (0.0, 0)
    assert PostTraining().to_json().keys() == training.keys()
