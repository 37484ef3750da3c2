"""Runs lists of nox sessions side by side: `side_by_side.py lint,types "tests(kvbank),tests(lvbench)"`.

Sessions of one list take turns. Prints a line for each session and the whole log of one that fails; every log is kept
in .reports/logs.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOGS = Path(".reports/logs")


def passes(session: str) -> bool:
    """Runs one session; true if it succeeded."""
    begin, command = time.monotonic(), [sys.executable, "-m", "nox", "--session", session]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (LOGS / f"{session}.log").write_text(done.stdout)
    verdict = "passed" if done.returncode == 0 else f"FAILED\n{done.stdout}{session} FAILED"
    sys.stdout.write(f"{session} {verdict} in {time.monotonic() - begin:.0f} s\n")
    sys.stdout.flush()
    return done.returncode == 0


def failures(sessions: str) -> list[str]:
    """Names of the failed sessions of one list."""
    return [session for session in sessions.split(",") if not passes(session)]


if __name__ == "__main__":
    LOGS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        failed = [session for lane in pool.map(failures, sys.argv[1:]) for session in lane]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
