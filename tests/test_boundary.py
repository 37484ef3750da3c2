"""Every command keeps one rule: what a user gets wrong is one line on stderr and exit code 2."""

import importlib.util
from contextlib import suppress
from pathlib import Path

import click
import pytest

from bdiff.cli.terminal import Name, NamedPath, output_folder

_SPEC = importlib.util.spec_from_file_location("fuzz_options", Path(__file__).with_name("fuzz_options.py"))
fuzz_options = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz_options)

COMMANDS = sorted(fuzz_options.all_commands(), key=lambda found: found[0])
WORDS = [path for path, _ in COMMANDS]
NAMES = [(path, p) for path, c in COMMANDS for p in c.params if isinstance(p.type, Name | NamedPath)]


def run(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        fuzz_options.call([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_all_commands_are_walked():
    assert len(COMMANDS) > 20
    assert {("sample",), ("train", "model"), ("bench", "drift"), ("resume",), ("studies.hour",)} <= set(WORDS)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_says_that_standard_output_is_full(words, capsys, monkeypatch):
    with suppress(OSError), open("/dev/full", "w") as full:  # which cannot be closed in peace, either
        monkeypatch.setattr("sys.stdout", full)
        code, _, err = run([*words, "--help"], capsys)
    assert (code, err) == (
        2,
        f"{fuzz_options.name(words)}: standard output cannot be written to: no space left on device\n",
    )


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_refuses_what_it_does_not_know(words, capsys):
    code, out, err = run([*words, "--no-such-option"], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{fuzz_options.name(words)}: ")


@pytest.mark.parametrize(("words", "parameter"), NAMES, ids=lambda x: " ".join(x) if isinstance(x, tuple) else x.name)
@pytest.mark.parametrize("name", ["", "  "])
def test_no_name_is_empty(words, parameter, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [parameter.opts[0], name] if isinstance(parameter, click.Option) else [name] * 2
    code, out, err = run([*words, *given], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is empty; '.' is the folder you are in" in err
    assert not list(tmp_path.iterdir())


def test_names_of_folders_to_write_are_utf_8(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(["sample", "--prompt", "the fox", "--seconds", "1", "--out", "r\udcff"], capsys)
    assert (code, err) == (2, "bdiff: the name 'r\\udcff' is not UTF-8; give another\n")
    assert not list(tmp_path.iterdir())


def output_folder_of(write):
    def wrapped(folder, *arguments):
        with output_folder(folder):
            write(folder, *arguments)

    return wrapped


def test_folders_that_stayed_empty_go_after_an_error(tmp_path):
    @output_folder_of
    def write(folder, leave):
        if leave:
            (folder / "x").touch()
        raise ValueError("no")

    def fail(folder, *, leave=False):
        with pytest.raises(ValueError, match="no"):
            write(folder, leave)

    fail(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").mkdir()
    fail(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()
    fail(tmp_path / "c", leave=True)
    assert (tmp_path / "c" / "x").exists()


TRAIN_MODEL = ["train", "model", "--out", "o", "--vae", "v", "--stories", "s"]
MEMORY_COST = ["studies.memory_cost", "--out", "o"]
PEERS = ["bench", "peers", "--out", "o", "--contestant", "dense"]
IDLE = [
    (["sample", "--policy", "rolling", "--seniority", "5"], "--age-bonus is of --policy semantic"),
    (["plan", "--policy", "sink", "--num-sink", "0"], "--num-sink is of --policy semantic"),
    (["sample", "--mode", "overlap", "--policy", "sink"], "--policy is of the memory"),
    (["plan", "--mode", "whole", "--prompt", "a fox", "--seniority", "0"], "--age-bonus is of the memory"),
    (["plan", "--mode", "overlap", "--memory-limit", "1"], "--memory-limit is of the memory"),
    (["sample", "--mode", "overlap", "--memory-limit", "1"], "--memory-limit is of the memory"),
    (["plan", "--mode", "overlap", "--share", "0.5"], "--share is of the memory"),
    (["plan", "--guidance", "1", "--negative", "blurry"], "--negative is what guidance moves away from"),
    (["plan", "--init-prompt", "a fox"], "--init-prompt says what --init-video shows"),
    (["train", "vae", "--out", "o", "--fps", "8"], "--fps is a setting of --videos"),
    (["train", "vae", "--out", "o", "--videos", ".", "--richness", "1"], "--richness is a setting of rendered stories"),
    (
        [*TRAIN_MODEL, "--videos", ".", "--num-stories", "3"],
        "--num-stories is a setting of rendered stories",
    ),
    (
        [*TRAIN_MODEL, "--recipe", "sink", "--start-from", "t", "--policy", "rolling"],
        "leave out --policy rolling",
    ),
    ([*MEMORY_COST, "--part", "peak", "--model", "m"], "--model is a setting of no part in peak"),
    ([*MEMORY_COST, "--part", "video", "--repeats", "3"], "--repeats is a setting of no part in video"),
    ([*PEERS, "--lag", "3"], "--lag is a setting of none of dense"),
    ([*PEERS, "--coverage", "0.9"], "--coverage is a setting of none of dense"),
    (
        ["bench", "lvbench", "--manifest", "m", "--videos", "v", "--out", "o", "--split", "all", "--seed", "1"],
        "--seed is a setting of a split",
    ),
    (
        ["bench", "lvbench", "--manifest", "m", "--videos", "v", "--out", "o", "--model", "dino=x"],
        "none of clarity, motion, background, subject uses it",
    ),
    (["bench", "drift", "clip.mp4", "--model", "raft=x"], "none of clarity, motion uses it"),
]


@pytest.mark.parametrize(("words", "said"), IDLE, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_options_that_would_change_nothing_are_refused(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(words, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--seconds", "86401"],
            "this is 86401 s of video; expected at most 86400 s: shorten it, or allow up to 30 days",
        ),
        (["--seconds", "1e300"], "this is 2.778e+296 hours of video"),
        (["--seconds", "2592001", "--long"], "expected at most 2592000 s: shorten it\n"),
        (["--seconds", "1e300", "--long"], "expected at most 720 hours: shorten it\n"),
        (["--storyboard", "far.json"], "this is 2.778e+296 hours of video"),
        (["--storyboard", "milliseconds.txt"], "this is 833.3 hours of video; expected at most 24"),
        (["--storyboard", "milliseconds.txt"], "its times are read as seconds"),
        (["--storyboard", "many.txt"], "this is 27.78 hours of video"),
        (["--storyboard", "endless.yaml"], "the last shot has no end; give it one, or say how long the video is"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "sample"])
def test_no_video_is_longer_than_a_day_unasked(command, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far.json").write_text('[{"prompt": "a fox", "start": 0, "end": 1e300}]')
    (tmp_path / "milliseconds.txt").write_text("a fox (0s - 3000s)\na fox runs (3000s - 3000000s)\n")
    (tmp_path / "many.txt").write_text("a fox\n" * 40_000)
    (tmp_path / "endless.yaml").write_text("- {prompt: a fox, start: 0}\n- {prompt: a fox runs, start: 3}\n")
    code, out, err = run([command, *words], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_more_than_a_day_can_be_asked_for(capsys):
    code, out, _ = run(["plan", "--seconds", "86500", "--long"], capsys)
    assert code == 0
    assert out.startswith("video        86502.1 s in 34601 chunks")


def test_command_lines_at_random_end_in_one_line(tmp_path):
    wrong, codes, _ = fuzz_options.fuzz(150, 0, tmp_path)
    assert not wrong
    assert set(codes) == {0, 2}


@pytest.mark.parametrize("name", ["a\x07b", "a\nb", "\u202eab"])
def test_lines_about_a_file_hold_no_control_characters(name, capsys, tmp_path, tiny_model):
    code, out, err = run(["convert", tiny_model / "transformer", tmp_path / name], capsys)
    assert (code, out, err.count("\n")) == (0, "", 1)
    assert err.rstrip("\n").isprintable()
    assert (tmp_path / name).is_dir()
