"""Prints the closing line of `.ci/run` from a folder of JUnit reports and the exit status of `./dev test`."""

import sys
from pathlib import Path
from xml.etree import ElementTree


def count(folder: Path) -> dict[str, int]:
    """Sums tests, failures, errors and skips over the reports in the folder."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for report in sorted(folder.glob("*.xml")):
        for suite in ElementTree.parse(report).iter("testsuite"):
            for key in total:
                total[key] += int(suite.get(key, 0))
    return total


if __name__ == "__main__":
    total = count(Path(sys.argv[1]))
    failed = total["failures"] + total["errors"]
    passed = total["tests"] - failed - total["skipped"]
    if failed == 0 and (passed == 0 or sys.argv[2] != "0"):
        failed = 1
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    sys.stdout.write(f"{passed} passed, {failed} failed{skipped}\n")
    sys.exit(1 if failed else 0)
