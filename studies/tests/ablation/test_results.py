"""A run whose JSON has all stories is done, wherever it was made and whatever else a folder holds."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bdiff_train.transformer import FIRST_STORY
from studies.ablation import AblationConfig, run_ablation, tiny_config
from studies.ablation import run as ablation_run
from studies.ablation import training as ablation_training
from studies.ablation.configurations import TRUTH
from studies.ablation.results import Left, what_is_left
from studies.ablation.videos import DRIFTS


class Study:
    """The study with trainings and videos that take no time, and what it did in its last call."""

    stop_after = None
    """Stories for which there is time."""

    def __init__(self, config, monkeypatch):
        self.config, self.trained, self.sampled, self.encoded, self.number = config, [], [], 0, 0
        monkeypatch.setattr(ablation_training, "train_model", self._train)
        monkeypatch.setattr(ablation_run, "encode_stories", self._encode)
        monkeypatch.setattr(ablation_run, "_load", lambda context: None)
        monkeypatch.setattr(ablation_run, "_measure", self._measure)
        for name in ("draw", "draw_questions"):
            monkeypatch.setattr(ablation_run, name, lambda out, summary: {})

    def __call__(self, **options):
        self.config = replace(self.config, **options)
        self.trained, self.sampled, self.encoded = [], [], 0
        return run_ablation(self.config)

    @property
    def stories(self):
        return sorted((job.label, job.story - FIRST_STORY) for job in self.sampled)

    def result(self, name="naive-seed0"):
        return json.loads(self.file(name).read_text())

    def file(self, name="naive-seed0"):
        return self.config.out / "results" / f"{name}.json"

    def carry(self, *names):
        """Leave nothing but what is named: the folder as it comes to another machine."""
        for path in self.config.out.iterdir():
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _train(self, made, *, watch):
        self.number += 1
        self.trained.append(made.out.name)
        (made.out / "transformer").mkdir(exist_ok=True)
        (made.out / "transformer" / "model.safetensors").write_text(str(self.number))
        evaluation = {"held_out_loss": 1.0 / self.number}
        return SimpleNamespace(finished=not watch(1.0), steps=2, seconds=1.0, evaluation=evaluation)

    def _encode(self, config, *, over, on_stories):
        self.encoded += 1
        return True

    def _measure(self, held, job):
        if self.stop_after is not None and len(self.sampled) >= self.stop_after:
            return None
        self.sampled.append(job)
        scores = {"scores": [2.0, 1 / 3], "changes": [0.0, 5 / 6]}
        drift = {metric: {"vde": self.number, "normalized": 1.0} | scores for metric in DRIFTS}
        captions = {
            "visible": 1.0, "direction": 1.0, "place": None, "visible_by_chunk": [1.0, 1.0],
            "direction_by_chunk": [1, 1],
        }  # fmt: skip
        return {
            "cell": job.label, "seed": job.seed, "story": job.story, "weights": job.weights, "drift": drift,
            "frozen": False, "recall": [], "palette": [], "captions": captions, "tokens": 100.0,
            "new_place": [1, 1], "kept": [0.5], "seconds": {"free": 2.0, "given": 1.0, "measuring": 1.0},
        }  # fmt: skip


@pytest.fixture
def study(tiny_model, tmp_path, monkeypatch):
    config = tiny_config(
        AblationConfig(out=tmp_path / "study", tables=("6",), configurations=("naive",), model=tiny_model)
    )
    return Study(config, monkeypatch)


def test_results_and_settings_alone_are_gone_on_from_without_any_work(study):
    study()
    assert (study.trained, len(study.sampled), study.encoded) == (["naive-seed0"], 4, 1)
    before = {file: file.read_bytes() for file in (study.config.out / "results").iterdir()}
    study.carry("results", "settings.json")
    summary, left = study()
    assert (study.trained, study.sampled, study.encoded) == ([], [], 0)
    assert left == Left()
    assert {file: file.read_bytes() for file in (study.config.out / "results").iterdir()} == before
    assert summary["missing"] == {}
    assert list(summary["cells"]) == ["naive", TRUTH]
    study(num_stories=1)  # fewer are there, too
    assert (study.trained, study.sampled) == ([], [])


def test_a_study_goes_on_as_it_began_when_the_model_wants_to_be_sampled_otherwise(study, tmp_path):
    study()
    begun = study.result()["config"]["sampling"]
    model = shutil.copytree(study.config.model, tmp_path / "otherwise")
    (model / "sampling.json").write_text(json.dumps({"shift": 9.0, "guidance": 2.5, "seniority": 0.1}))
    study(num_seeds=2, model=model)
    assert study.trained == ["naive-seed1"]
    assert study.result("naive-seed1")["config"]["sampling"] == begun
    with pytest.raises(ValueError, match="another sampling; choose another folder"):
        study(settings={"steps": 3})


def test_a_story_is_a_line_of_floats_of_four_digits(study):
    study()
    lines = [line for line in study.file().read_text().splitlines() if '"story"' in line]
    assert [json.loads(line.removesuffix(",")) for line in lines] == study.result()["films"]
    assert '"scores":[2.0,0.3333]' in lines[0]
    assert '"changes":[0.0,0.8333]' in lines[0]
    assert study.result()["config"]["training"]["learning_rate"] == 1e-4


def test_lines_of_an_older_version_are_not_taken_for_whole(study):
    study()
    old = study.result()
    for film in old["films"]:
        del film["new_place"]
    study.file().write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"naive-seed0\.json: not a run of this version.*new_place.*remove it"):
        study()


def test_other_seeds_and_configurations_are_all_that_is_made_on_another_machine(study):
    study()
    study.carry("results", "settings.json")
    study(num_seeds=2, configurations=("naive", "self-forcing"))
    assert study.trained == ["self-forcing-seed0", "naive-seed1", "self-forcing-seed1"]
    assert {job.label for job in study.sampled} == {"naive", "self-forcing"}
    assert {(job.label, job.seed) for job in study.sampled if job.label == "naive"} == {("naive", 1)}


def test_the_base_samples_its_stories_with_the_weights_that_training_begins_with(study):
    study(configurations=("base", "naive"))
    assert study.trained == ["naive-seed0"]
    assert {job.label for job in study.sampled} == {"base", "naive", TRUTH}
    training = study.result("base-seed0")["training"]
    assert (training["steps"], training["held_out_loss"]) == (0, None)
    assert training["weights"] == study.result("base-seed0")["config"]["base"]
    assert study.result("base-seed0")["cell"]["loss"] is None


def test_more_stories_without_the_weights_are_a_new_training_and_all_videos_of_it(study):
    study()
    old = study.result()
    study.carry("results", "settings.json")
    assert what_is_left(replace(study.config, num_stories=3), encoded=True) == Left(trainings=1, videos=6)
    study(num_stories=3)
    assert study.trained == ["naive-seed0"]
    assert study.stories == [(label, story) for label in ("naive", TRUTH) for story in range(3)]
    new = study.result()
    assert new["training"]["weights"] != old["training"]["weights"]
    assert [film["drift"]["clarity"]["vde"] for film in new["films"]] == [2, 2, 2]  # of the second training alone
    assert len(study.result(TRUTH)["films"]) == 3


def test_videos_of_deleted_weights_are_not_mixed_with_those_of_a_new_training(study):
    study()
    study.carry("results", "settings.json", "films.jsonl")
    study(num_stories=3)
    assert study.stories == [("naive", 0), ("naive", 1), ("naive", 2), (TRUTH, 2)]
    assert [film["drift"]["clarity"]["vde"] for film in study.result()["films"]] == [2, 2, 2]


def test_more_stories_with_the_weights_are_sampled_by_them(study):
    study()
    study(num_stories=3)
    assert (study.trained, study.encoded) == ([], 0)
    assert study.stories == [("naive", 2), (TRUTH, 2)]
    assert len(study.result()["films"]) == 3


def test_trainings_of_an_older_version_are_not_made_again(study):
    study()
    file = study.config.out / "runs" / "naive-seed0" / "trained.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({name: fact for name, fact in facts.items() if name != "weights"}))
    study(num_stories=3)
    assert (study.trained, study.stories) == ([], [("naive", 2), (TRUTH, 2)])
    assert study.result()["training"] == facts


def test_a_whole_result_stays_until_another_is_whole(study):
    study()
    before = study.file().read_bytes()
    study.carry("results", "settings.json")
    study.stop_after = 3
    _, left = study(num_stories=3)
    assert study.file().read_bytes() == before
    assert left == Left(videos=3)
    study.stop_after = None
    study()
    assert study.trained == []
    assert len(study.result()["films"]) == 3


def test_weights_that_were_deleted_are_no_training(study):
    study()
    shutil.rmtree(study.config.out / "runs" / "naive-seed0" / "transformer")
    study()
    assert (study.trained, study.sampled) == ([], [])
    study(num_stories=3)
    assert study.trained == ["naive-seed0"]
    assert study.result()["training"]["held_out_loss"] == 0.5


def test_a_second_training_that_is_stopped_is_not_taken_for_the_first(study, monkeypatch):
    study()
    folder = study.config.out / "runs" / "naive-seed0"
    shutil.rmtree(folder / "transformer")
    monkeypatch.setattr(ablation_training, "weights_digest", _interrupt)  # weights are there, their facts are not
    with pytest.raises(KeyboardInterrupt):
        study(num_stories=3)
    assert any((folder / "transformer").iterdir())
    assert what_is_left(study.config, encoded=True).trainings == 1


def _interrupt(folder):
    raise KeyboardInterrupt


@pytest.mark.parametrize("kept", [("runs", "films.jsonl"), ("films.jsonl",), ("runs",), ()])
def test_the_facts_of_a_training_are_never_lost(study, kept):
    study()
    study.carry("results", "settings.json", *kept)
    for path in study.config.out.glob("runs/*/trained.json"):
        path.unlink()
    study.stop_after = 0
    study(num_stories=3)
    assert study.result()["training"]["held_out_loss"] == 1.0
    study.stop_after = None
    study()
    assert study.result()["training"]["held_out_loss"] == 0.5
    assert study.result(TRUTH)["training"] is None
