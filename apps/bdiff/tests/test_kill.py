"""Runs that are killed at random moments become the video that they would have been.

A few kills by default; ``BDIFF_KILLS=100`` for the long form.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from bdiff.cli.main import main
from bdiff.run import RunState, SampleConfig, build, load_run, make_video
from bdiff_core import Storyboard

KILLS = int(os.environ.get("BDIFF_KILLS", "3"))
PROMPTS = [f"a fox {where}" for where in ("at home", "at sea", "in a wood", "at sea", "at home")]


def make(config, began):
    """In a process of its own: make the video, or what is missing of it."""
    torch.set_num_threads(1)
    state = RunState(config.out)
    if (state.folder / "script.json").exists():
        parts, fresh = load_run(state.spec(), config.out), False
    else:
        parts, fresh = build(config), True
    began.set()
    make_video(parts, fresh=fresh)


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes: sums of several threads may differ from those of one in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    # Imports that a run makes when it needs them take ten times as long as the video.
    late = ["sentence_transformers", "transformers.models.bert.modeling_bert", "av", "PIL.Image"]
    context.set_forkserver_preload(["bdiff.run.sample", "bdiff_core", "vde_metrics", *late])
    return context


def run(processes, config, *, kill_after=None):
    """Makes the video in another process, which may be killed; returns its exit code and how long it worked."""
    began = processes.Event()
    process = processes.Process(target=make, args=(config, began))
    process.start()
    assert began.wait(120)
    started = time.perf_counter()
    process.join(kill_after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode, time.perf_counter() - started


def test_a_killed_run_goes_on_to_the_same_film(tiny_model, tmp_path, processes):
    config = SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS),
        out=tmp_path / "whole",
        model=tiny_model,
        settings={"steps": 1, "scale": 1},
    )
    code, seconds = run(processes, config)
    assert code == 0
    expected = [(config.out / name).read_bytes() for name in ("video.mp4", "trace.json")]
    moments = random.Random(0)
    killed = 0
    for number in range(KILLS):
        out = tmp_path / f"killed-{number}"
        code, _ = run(processes, config.changed(out=out), kill_after=moments.uniform(0, seconds))
        killed += code == -signal.SIGKILL
        code, _ = run(processes, config.changed(out=out))
        assert code == 0
        assert [(out / name).read_bytes() for name in ("video.mp4", "trace.json")] == expected
        assert not [path for path in out.rglob("*") if path.name.startswith(".") or path.suffix == ".pending"]
        shutil.rmtree(out)
    assert killed, "no process was killed in time: the test has shown nothing"


def stop_then_die(config):
    """In a process of its own: a video that is stopped, gone on with, and killed as soon as it has its last chunk."""
    torch.set_num_threads(1)

    def stop(state):
        if state.done == 2:
            raise KeyboardInterrupt

    def die(state):
        if state.done == state.total:
            os.kill(os.getpid(), signal.SIGKILL)

    with suppress(KeyboardInterrupt):
        make_video(build(config), on_chunk=stop)
    make_video(load_run(RunState(config.out).spec(), config.out), fresh=False, on_chunk=die)


def test_a_record_of_an_earlier_end_does_not_pass_for_the_end(tiny_model, tmp_path, processes):
    config = SampleConfig(
        storyboard=Storyboard.from_prompts(PROMPTS[:4]),
        out=tmp_path / "whole",
        model=tiny_model,
        settings={"steps": 1, "scale": 1},
    )
    make_video(build(config))
    killed = config.changed(out=tmp_path / "killed")
    process = processes.Process(target=stop_then_die, args=(killed,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(killed.out)])
    assert ended.value.code == 0
    for name in ("video.mp4", "trace.json", "drift.json"):
        assert (killed.out / name).read_bytes() == (config.out / name).read_bytes()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB, where the system lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def bdiff(*arguments):
    command = [sys.executable, "-c", "from bdiff.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_full_disk_is_one_error_and_a_run_to_go_on_with(tiny_model, tmp_path, small_disk):
    prompts = [argument for prompt in PROMPTS * 3 for argument in ("--prompt", prompt)]
    options = ["--model", tiny_model, "--steps", 1, "--scale", 2, *prompts]
    done = bdiff("sample", *options, "--out", small_disk / "film")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no space left" in done.stderr.splitlines()[-1]
    assert "bdiff resume" in done.stderr.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert bdiff("resume", small_disk / "film").returncode == 0
    assert bdiff("sample", *options, "--out", tmp_path / "whole").returncode == 0
    assert (small_disk / "film" / "video.mp4").read_bytes() == (tmp_path / "whole" / "video.mp4").read_bytes()


def test_a_read_only_folder_is_one_error(tiny_model, tmp_path):
    if os.geteuid() == 0:
        folder = Path("/proc/bdiff-film")
    else:
        folder = tmp_path / "locked" / "film"
        folder.parent.mkdir(mode=0o500)
    done = bdiff("sample", "--model", tiny_model, "--prompt", "a fox", "--out", folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write to" in done.stderr
