"""Nobody imports from a package what it does not export."""

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {path.name: path for path in sorted(ROOT.glob("*/*/src/*")) if (path / "__init__.py").is_file()}
"""Folder of each package's code, by its import name."""
FILES = [
    *(file for folder in SOURCES.values() for file in sorted(folder.rglob("*.py"))),
    *sorted(path for path in (ROOT / "studies").rglob("*.py") if "tests" not in path.parts),
    *sorted((ROOT / "docs").rglob("*.py")),
]


@cache
def exported(module: str) -> frozenset[str] | None:
    """``__all__`` of a package or of a subpackage, read from its source; None if it is no such folder."""
    name, *inner = module.split(".")
    file = SOURCES[name].joinpath(*inner) / "__init__.py"
    if not file.is_file():
        return None
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == "__all__":
            return frozenset(ast.literal_eval(node.value)) | {"__version__"}
    return frozenset()


def problems(source: str, own: str | None) -> list[str]:
    """Imports past what other packages export.

    Args:
        source: Text of a module.
        own: Package that it belongs to; None: none.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            for module in modules:
                name = module.split(".")[0]
                if name in SOURCES and name != own and exported(module) is None:
                    found.append(f"import {module}: a module that is no public subpackage")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            name = node.module.split(".")[0]
            if name not in SOURCES or name == own:
                continue
            names, public = {alias.name for alias in node.names}, exported(node.module)
            subpackages = {one for one in names if exported(f"{node.module}.{one}")} if public is not None else set()
            if public is None:
                found.append(f"from {node.module} import ...: a module that is no public subpackage")
            elif hidden := sorted(names - public - subpackages):
                found.append(f"from {node.module} import {', '.join(hidden)}: not in its __all__")
    return found


def owner(file: Path) -> str | None:
    return next((name for name, folder in SOURCES.items() if file.is_relative_to(folder)), None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_stay_within_what_is_exported(file):
    assert problems(file.read_text(encoding="utf-8"), owner(file)) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from kvbank import KVBank", None),
        ("from kvbank import _hidden", "from kvbank import _hidden: not in its __all__"),
        ("from kvbank.bank import KVBank", "from kvbank.bank import ...: a module that is no public subpackage"),
        ("import kvbank.bank", "import kvbank.bank: a module that is no public subpackage"),
        ("def f():\n    from bdiff.run.sample import make_video", "from bdiff.run.sample import ...: a module that"),
        ("from bdiff.run import make_video", None),
        ("import torch.nn", None),
    ],
)
def test_the_rule_finds_what_it_is_for(line, said):
    assert [problem.startswith(said or "?") for problem in problems(line, None)] == ([] if said is None else [True])


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_is_exported_is_there(name):
    for init in sorted(SOURCES[name].rglob("__init__.py")):
        module = ".".join((name, *init.parent.relative_to(SOURCES[name]).parts))
        if names := exported(module):
            found = importlib.import_module(module)
            assert [one for one in sorted(names - {"__version__"}) if not hasattr(found, one)] == []
