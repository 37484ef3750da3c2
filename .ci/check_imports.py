"""Imports each package given by its folder and fails if that loads a sibling or a heavy optional dependency.

With `--editable` it also asserts that the packages are imported from the checkout: import-linter finds nothing to
complain of in a package that is installed as a copy.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HEAVY = {"diffusers", "transformers", "sentence_transformers", "faiss", "cv2", "av"}
WORKSPACE = {"noisesched", "kvbank", "bdiff_core", "forcing_losses", "vde_metrics", "lvbench", "storyworld"}
WORKSPACE |= {"bdiff", "bdiff_train", "bdiff_bench"}
# Torch in an environment without numpy says so when it is imported; the packages that do not need numpy do not care.
LIST_MODULES = "import sys, warnings; warnings.simplefilter('ignore'); import {}; print(*sys.modules)"


def problems(folder: Path, editable: bool) -> list[str]:
    """What is wrong with the way the package in this folder is imported."""
    name = folder.name.replace("-", "_")
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return [f"{name} is not installed in {sys.prefix}"]
    found = []
    if editable and not Path(spec.origin).is_relative_to(folder.resolve()):
        found.append(f"{name} comes from {spec.origin}, not from {folder}: install it with --editable")
    listing = subprocess.run([sys.executable, "-c", LIST_MODULES.format(name)], capture_output=True, text=True)
    if listing.returncode:
        return [*found, f"import {name} fails:\n{listing.stderr}"]
    siblings = WORKSPACE - {name} if folder.parent.name == "packages" else set()
    if loaded := sorted(set(listing.stdout.split()) & (HEAVY | siblings)):
        found.append(f"import {name} loads {', '.join(loaded)}: import them in the function that needs them, or not")
    return found


if __name__ == "__main__":
    arguments = sys.argv[1:]
    folders = [Path(argument) for argument in arguments if argument != "--editable"]
    sys.exit("\n".join(line for folder in folders for line in problems(folder, "--editable" in arguments)) or 0)
