"""Folders that bdiff 0.1 wrote, when studies were benches, are gone on with; a configuration was called a cell."""

import json
import shutil
from pathlib import Path

from bdiff_bench.harness import weights_digest
from studies.ablation import AblationConfig, run_ablation, tiny_config
from studies.memory_cost.packed_videos import PackedVideosConfig, measure_packed_videos
from studies.metric_sensitivity import SensitivityConfig, measure_sensitivity

OLD = Path(__file__).with_name("written_by_0.1")
"""Finished folders of small studies with random weights."""
TIMED = ("film_seconds", "training_seconds")


def read(file):
    return json.loads((OLD / file).read_text())


def test_an_ablation_is_gone_on_with(tiny_model, tmp_path, assert_alike):
    """Nothing is trained or sampled: the JSON of runs has all stories."""
    out, model = tmp_path / "ablation", tmp_path / "model"
    shutil.copytree(OLD / "ablation", out)
    shutil.copytree(tiny_model, model)
    (model / "sampling.json").write_text('{"guidance": 1.5, "seniority": 0.15}')
    settings = read("ablation/settings.json")
    settings["autoencoder"] = weights_digest(model)
    settings["bases"] = {"0": weights_digest(model / "transformer")}
    (out / "settings.json").write_text(json.dumps(settings))
    before = {file.name: file.read_bytes() for file in (out / "results").iterdir()}
    config = tiny_config(
        AblationConfig(out=out, model=model, tables=("5",), configurations=("rolling", "semantic-0.98"))
    )
    summary, left = run_ablation(config)
    assert not left
    assert {file.name: file.read_bytes() for file in (out / "results").iterdir()} == before
    assert not (out / "runs").exists()
    assert_alike(summary["cells"], read("ablation/summary.json")["cells"], but=TIMED)


def test_a_study_of_sensitivity_is_gone_on_with(tmp_path, assert_alike, assert_lines_are_kept):
    out = tmp_path / "sensitivity"
    shutil.copytree(OLD / "sensitivity", out)
    config = SensitivityConfig(out=out, clips=("story 61",), faults=("blur",), seconds=2, height=64, num_chunks=2)
    summary = measure_sensitivity(config)
    assert_lines_are_kept(out, OLD / "sensitivity")
    assert_alike(summary["clips"]["story 61"]["faults"]["blur"], read("sensitivity/blur.json"), but=TIMED)


def test_videos_with_a_packed_past_are_not_made_again(tiny_model, tmp_path, assert_alike, assert_lines_are_kept):
    out = tmp_path / "memory_cost"
    shutil.copytree(OLD / "memory_cost", out)
    recipe = read("memory_cost/recipe.json")
    recipe |= {"autoencoder": weights_digest(tiny_model), "transformer": weights_digest(tiny_model / "transformer")}
    (out / "recipe.json").write_text(json.dumps(recipe))
    config = PackedVideosConfig(
        file=out / "films.jsonl",
        model=tiny_model,
        num_chunks=9,
        num_stories=1,
        num_seeds=2,
        settings={"steps": 1, "guidance": 1.0, "scale": 1},
    )
    assert_alike(measure_packed_videos(config), read("memory_cost/figures.json")["video"], but=TIMED)
    assert_lines_are_kept(out, OLD / "memory_cost")
