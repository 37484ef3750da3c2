"""Build the site, strictly: ``python docs/build_site.py``.

Its header links to the repository if the checkout has a remote called origin at a public address. The address stands in
no file of the project, so that a copy of the repository links to itself.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "zensical.toml"
_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://)?(?:[^@/]+@)?(?P<host>[\w-]+(?:\.[\w-]+)+)(?::\d+)?[/:](?P<path>[\w./-]+)"
)


def public_address(remote: str) -> str | None:
    """The https address of the page of a repository, without credentials; None for a folder or a local name."""
    found = _REMOTE.fullmatch(remote.strip())
    if found is None or remote.startswith((".", "/", "file:")):
        return None
    path = found["path"].strip("/").removesuffix(".git")
    return f"https://{found['host']}/{path}" if "/" in path else None


def with_repository(config: str, address: str | None) -> str:
    """The text of the site's configuration with the link to the repository."""
    if address is None:
        return config
    return config.replace("[project]\n", f'[project]\nrepo_url = "{address}"\n', 1)


def main() -> int:
    """Build into the folder that zensical.toml names, and return the exit code."""
    git = ("git", "-C", str(ROOT), "remote", "get-url", "origin")
    remote = subprocess.run(git, capture_output=True, text=True, check=False).stdout
    config = with_repository(CONFIG.read_text(encoding="utf-8"), public_address(remote))
    # Beside zensical.toml, because folders in it are relative to the file.
    with tempfile.NamedTemporaryFile("w", dir=ROOT, prefix=".site-", suffix=".toml", encoding="utf-8") as file:
        file.write(config)
        file.flush()
        build = (sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", file.name)
        return subprocess.run(build, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
