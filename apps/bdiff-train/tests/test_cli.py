"""What people get wrong with `bdiff train`: one line, exit code 2, and nothing half-written."""

import json
import math
import resource
import shutil
import tarfile

import pytest
import torch
from click.testing import CliRunner

from bdiff.cli.main import cli, main
from bdiff.defaults import WEIGHTS
from bdiff.output import VideoWriter
from bdiff_train.engine import RunResult
from bdiff_train.engine.folder import locked


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(file, fps=8, height=32, width=32) as writer:
        for second in range(5):
            writer.add(torch.full((8, 32, 32, 3), 40 * second, dtype=torch.uint8))
    return file


@pytest.fixture
def place(clip, tmp_path, monkeypatch):
    """A folder to work in, with `t`: three videos and their captions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").mkdir()
    for number in (1, 2, 3):
        shutil.copy(clip, tmp_path / "t" / f"{number}.mp4")
        captions(tmp_path / "t" / f"{number}.json")
    return tmp_path


def captions(file, listed=("a swan (00s - 03s)", "it dips (03s - 06s)")):
    file.write_text(json.dumps({"captions": listed}))


def remove(*names):
    return lambda t: [(t / name).unlink() for name in names]


def write(name, content):
    return lambda t: (t / name).write_bytes(content)


def tarred(t):
    with tarfile.open(t / "shard.tar", "w") as archive:
        for file in sorted(t.glob("[123].*")):
            archive.add(file, file.name)
    data = (t / "shard.tar").read_bytes()
    (t / "shard.tar").write_bytes(data[: len(data) // 3])


def manifest(*lines):
    return lambda t: (t / "m.jsonl").write_text("".join(line + "\n" for line in lines))


ENTRY = '{"video": "%s.mp4", "chunks": ["a swan (00s - 03s)"]}'


MISTAKES = {
    "no captions": (remove("2.json"), [], "2.json: no such file"),
    "two videos": (remove("2.json", "2.mp4"), [], "2 videos; expected at least 3"),
    "no videos": (lambda t: [file.unlink() for file in t.iterdir()], [], "no videos"),
    "an empty video": (write("2.mp4", b""), [], "2.mp4: "),
    "a text for a video": (write("2.mp4", b"no video\n" * 99), [], "2.mp4: "),
    "captions cut off": (write("2.json", b'{"captions": ["a swan (00s - 03s)", "it'), [], "2.json"),
    "captions of another kind": (write("2.json", b'{"caption": 3}'), [], "2.json"),
    "no captions in the list": (lambda t: captions(t / "2.json", []), [], "2.json"),
    "captions out of order": (
        lambda t: captions(t / "2.json", ["a (03s - 06s)", "b (00s - 03s)"]),
        [],
        "2.json",
    ),
    "captions in no encoding": (write("2.json", b"\xff\xe9\xe9\xe9"), [], "2.json"),
    "excerpts too long": (
        lambda t: None,
        ["--chunks-per-story", "40"],
        "videos is long enough: 1.mp4 has 40 frames at 8 fps; an excerpt of 40 chunks needs 797",
    ),
    "a video for a folder": (lambda t: None, ["--videos", "t/1.mp4"], "t/1.mp4"),
    "a folder that is not there": (lambda t: None, ["--videos", "nowhere"], "nowhere"),
    "sides that do not divide": (lambda t: None, ["--width", "50"], "expected sides that 16 divides"),
    "a file for --out": (lambda t: (t.parent / "o").write_text("mine"), [], "cannot write to o: file exists"),
    "a tar cut off": (tarred, [], "shard.tar"),
    "a manifest of missing videos": (
        manifest(*(ENTRY % name for name in "123789")),
        ["--videos", "t/m.jsonl"],
        "no such file",
    ),
    "a manifest cut off": (manifest(ENTRY % 1, '{"video": "2.'), ["--videos", "t/m.jsonl"], "m.jsonl, line 2"),
    "a manifest of videos that no tar holds": (
        manifest('{"video": "s.tar/1.mp4", "chunks": ["a swan (00s - 03s)"]}'),
        ["--videos", "t/m.jsonl"],
        "s.tar/1.mp4: no such file",
    ),
    "an empty manifest": (manifest(), ["--videos", "t/m.jsonl"], "m.jsonl: is empty"),
}


MODEL_MISTAKES = {
    "no weights to start from": (["--start-from", "nowhere"], "nowhere"),
    "an autoencoder that is not there": (["--vae", "nowhere"], "nowhere"),
    "an autoencoder that is none": (["--vae", "t/1.mp4"], "t/1.mp4"),
    "a video of stories": (["--stories", "t/1.mp4"], "cannot write to t/1.mp4"),
    "a rate that is no number": (["--learning-rate", "nan"], "--learning-rate"),
}


def refused(words, capsys, place):
    """The one line on stderr; nothing was written."""
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        main(words)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("bdiff: ")
    after = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    encoded = {path for path in after if path.parent == place / "s"}  # whole shards of other videos
    assert {path: time for path, time in after.items() if path not in encoded} == before
    assert all(path.suffix == ".safetensors" and path.name[0] != "." for path in encoded)
    assert not (place / "o").is_dir()
    return err


@pytest.mark.parametrize("command", ["vae", "model"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_folder_of_videos_is_one_line(place, capsys, vae_file, command, mistake):
    make, options, said = MISTAKES[mistake]
    make(place / "t")
    words = ["train", command, "--videos", "t", "--chunks-per-story", "2", "--max-steps", "2", "--out", "o"]
    words += ["--vae", str(vae_file), "--stories", "s"] if command == "model" else []
    assert said in refused([*words, *options], capsys, place)


@pytest.mark.parametrize("mistake", MODEL_MISTAKES)
def test_a_mistake_in_the_options_of_a_model_is_one_line(place, capsys, vae_file, mistake):
    options, said = MODEL_MISTAKES[mistake]
    words = ["train", "model", "--videos", "t", "--chunks-per-story", "2", "--max-steps", "2", "--out", "o"]
    words += ["--vae", str(vae_file), "--stories", "s"]
    assert said in refused([*words, *options], capsys, place)


def test_a_checkpoint_that_is_cut_off_is_one_line_and_stays(place, capsys):
    words = ["train", "vae", "--videos", "t", "--chunks-per-story", "1", "--max-steps", "1", "--out", "o"]
    (place / "o").mkdir()
    (place / "o" / "checkpoint.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(SystemExit) as stopped:
        main(words)
    err = capsys.readouterr().err
    assert (stopped.value.code, err.count("\n")) == (2, 1)
    assert "o/checkpoint.pt is cut off; delete it to train from the start" in err
    assert [path.name for path in (place / "o").iterdir()] == ["checkpoint.pt"]


@pytest.fixture(scope="module")
def vae_file(tiny_model):
    return tiny_model / "vae.safetensors"


def test_a_folder_of_something_else_is_not_trained_in(place, capsys, tiny_model):
    words = ["train", "vae", "--videos", "t", "--chunks-per-story", "1", "--max-steps", "1", "--out"]
    (place / "m").mkdir()
    shutil.copy(tiny_model / "vae.safetensors", place / "m")
    assert "m holds vae.safetensors and no checkpoint to go on from" in refused([*words, "m"], capsys, place)
    (place / "r" / "state").mkdir(parents=True)
    (place / "r" / "state" / "script.json").write_text("{}")
    assert "r holds a run of bdiff sample; give another --out" in refused([*words, "r"], capsys, place)


def test_one_process_at_a_time_trains_in_a_folder(place, capsys):
    words = ["train", "vae", "--videos", "t", "--chunks-per-story", "1", "--max-steps", "1", "--out", "m"]
    (place / "m").mkdir()
    with locked(place / "m"):
        before = sorted(path.name for path in (place / "m").iterdir())
        with pytest.raises(SystemExit) as stopped:
            main(words)
        err = capsys.readouterr().err
        assert (stopped.value.code, err.count("\n")) == (2, 1)
        assert "another process trains in m; wait for it, stop it, or give another --out" in err
        assert sorted(path.name for path in (place / "m").iterdir()) == before
    assert not list((place / "m").iterdir())


def test_a_full_disk_while_training_is_one_line_and_leaves_no_half_checkpoint(place, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ["train", "vae", "--videos", "t", "--chunks-per-story", "1", "--max-steps", "1", "--out", "o"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, limits[1]))
    try:
        with pytest.raises(SystemExit) as stopped:
            main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert (stopped.value.code, err.count("\n")) == (2, 1)
    assert "o/checkpoint.pt: " in err
    assert not [path for path in (place / "o").iterdir() if path.suffix in (".pt", ".tmp")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fps", "8"], "--fps is a setting of --videos"),
        (["--videos", ".", "--richness", "1"], "--richness is a setting of rendered stories"),
        (["--videos", ".", "--takes", "place"], "--takes is a setting of rendered stories"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "vae", "--out", str(tmp_path), *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


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


TAKES_MISTAKES = {
    "an unknown kind": (["--takes", "story,ride", "--richness", "2"], "expected some of story, place, walk, each once"),
    "a kind twice": (["--takes", "walk,walk", "--richness", "2"], "expected some of story, place, walk, each once"),
    "no name": (["--takes", "story,", "--richness", "2"], "expected some of story, place, walk, each once"),
    "another richness": (["--takes", "story,place"], "takes of kind place have richness 2: give --richness 2"),
}
POLICY_MISTAKES = {
    "an unknown policy": (["--policy", "semantic,ring"], "policy is 'ring'; expected one of semantic, rolling, sink"),
    "a policy twice": (["--policy", "sink,sink"], "policies are sink,sink; expected each once"),
    "too much to see": (["--policy", "semantic,full"], "policy full shows 24 chunks; BatchConfig.context is 4"),
    "a chunk too short": (["--latent-frames", "1"], "latent_frames is 1; expected at least 2"),
    "a base of another richness": (["--recipe", "base", "--richness", "1"], "takes of kind place have richness 2"),
}


@pytest.mark.parametrize("mistake", TAKES_MISTAKES)
def test_a_mistake_in_takes_is_one_line(place, capsys, mistake):
    options, said = TAKES_MISTAKES[mistake]
    assert said in refused(["train", "vae", "--max-steps", "1", "--out", "o", *options], capsys, place)


@pytest.mark.parametrize("mistake", [*TAKES_MISTAKES, *POLICY_MISTAKES])
def test_a_mistake_in_takes_or_policies_of_a_model_is_one_line(place, capsys, vae_file, mistake):
    options, said = (TAKES_MISTAKES | POLICY_MISTAKES)[mistake]
    words = ["train", "model", "--max-steps", "1", "--out", "o", "--vae", str(vae_file), "--stories", "s"]
    assert said in refused([*words, *options], capsys, place)


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """The config that a command line comes to."""

    def call(*options):
        seen = []

        def train(config):
            seen.append(config)
            return RunResult(steps=0, seconds=0.0, evaluation={}, finished=True)

        monkeypatch.setattr("bdiff_train.transformer.train.train_model", train)
        files = ["--vae", str(WEIGHTS / "vae.safetensors"), "--stories", str(tmp_path), "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(cli, ["train", "model", *files, *options])
        assert done.exit_code == 0, done.output
        (config,) = seen
        return config

    return call


def test_names_are_given_with_commas_between_them(configured):
    config = configured("--takes", "walk,story", "--richness", "2", "--policy", "rolling, none", "--latent-frames", "3")
    assert (config.takes, config.latent_frames) == (("walk", "story"), 3)
    assert (config.policy, config.more_policies) == ("rolling", ("none",))


def test_one_policy_replaces_the_mixture_of_a_recipe(configured):
    config = configured("--recipe", "base", "--policy", "sink")
    assert (config.policy, config.more_policies, len(config.takes)) == ("sink", (), 3)


def test_chunks_of_videos_have_the_length_that_is_given_or_that_of_the_recipe(configured, place):
    lengths = [
        configured("--videos", str(place / "t"), *options).videos.latent_frames
        for options in ((), ("--latent-frames", "1"), ("--recipe", "base"))
    ]
    assert lengths == [5, 1, 8]


@pytest.mark.parametrize(
    ("ends", "minutes"), [([], 60.0), (["--max-steps", "7"], math.inf), (["--max-steps", "7", "--minutes", "5"], 5.0)]
)
def test_a_number_of_steps_alone_is_the_only_end(ends, minutes, configured):
    assert configured(*ends).minutes == minutes
