"""A bench that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_BENCH = """
import sys, time
from pathlib import Path
from bdiff_bench.harness.jobs import run_jobs
from bdiff_bench.harness.processes import one_process


def load(folder):
    import os
    (Path(folder) / str(os.getpid())).touch()
    return folder


def work(folder, job):
    time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "jobs":
        list(run_jobs([1, 2], sys.argv[2], load=load, work=work, workers=2))
    else:
        with one_process() as process:
            process.submit(load, sys.argv[2]).result()
            time.sleep(600)  # meanwhile the process waits for more work
"""


@pytest.mark.parametrize(("kind", "count"), [("jobs", 2), ("one", 1)])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_a_killed_bench_leaves_no_process(tmp_path, kind, count):
    (tmp_path / "bench.py").write_text(_BENCH)
    (pids := tmp_path / "pids").mkdir()
    bench = subprocess.Popen([sys.executable, tmp_path / "bench.py", kind, pids])
    try:
        _wait_until(lambda: len(list(pids.iterdir())) == count)
        children = [int(file.name) for file in pids.iterdir()]
        assert all(_runs(pid) for pid in children)
        bench.send_signal(signal.SIGKILL)
        _wait_until(lambda: not any(_runs(pid) for pid in children))
    finally:
        bench.kill()
        bench.wait()
        for file in pids.iterdir():
            if _runs(int(file.name)):
                os.kill(int(file.name), signal.SIGKILL)


def _wait_until(condition, *, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not after {seconds} seconds"
        time.sleep(0.05)


def _runs(pid):
    """Whether a process is there and has not ended; one that nobody waited for is still listed."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
