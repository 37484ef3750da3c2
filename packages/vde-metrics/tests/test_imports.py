"""The modules of the package import each other in one direction, whatever the way they do it."""

import ast
import subprocess
import sys
from pathlib import Path

import vde_metrics

ROOT = Path(vde_metrics.__file__).parent
LAYERS = [
    {"drift", "protocols"},
    {"video"},
    {"models"},
    {"features"},
    {"metrics", "chunks"},
    {"reports"},
    {"measurement"},
    {"vbench"},
    {"named_metrics"},
    {"command_line"},
    {"__main__"},
]
"""From the bottom to the top: a module imports modules of its own folder and of layers below it."""


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imported(path):
    """Modules of the package that a file imports: at its top, in functions, and for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def circle(graph):
    """Modules that are left when those without imports are taken away again and again."""
    left = dict(graph)
    while free := [name for name in left if not left[name] & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_module_imports_itself_by_any_way():
    graph = {name: imported(path) for name, path in MODULES.items()}
    assert graph["vde_metrics.measurement"] >= {"vde_metrics.reports.report", "vde_metrics.video.sources"}
    assert circle(graph) == []
    assert circle({"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]


def test_folders_import_what_is_below_them():
    height = {folder: i for i, folders in enumerate(LAYERS) for folder in folders}
    for name, path in MODULES.items():
        if name == "vde_metrics":
            continue
        folder = name.split(".")[1]
        below = {other.split(".")[1] for other in imported(path) if other != "vde_metrics"} - {folder}
        assert all(height[other] < height[folder] for other in below), name
        assert "vde_metrics" not in imported(path), name


def test_no_module_is_long():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert [name for name, length in lengths.items() if length > 300] == []


def test_only_the_command_line_loads_click():
    script = (
        "import sys, vde_metrics as v; [getattr(v, name) for name in v.__all__ if name != 'command_line'];"
        "assert 'click' not in sys.modules; v.command_line.run_command; assert 'click' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
