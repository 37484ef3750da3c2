"""No module imports, in a circle, a module that imports it: not even inside functions or for types alone."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules():
    """Files by dotted name, of all packages, apps and studies."""
    roots = [path.parent for path in ROOT.glob("*/*/src/*/__init__.py")] + [ROOT / "studies"]
    found = {}
    for root in roots:
        for file in root.rglob("*.py"):
            if "tests" not in file.relative_to(root).parts:
                name = ".".join(file.relative_to(root.parent).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = file
    return found


def imported(name, file, known):
    """Modules of the tree that a module names, anywhere in it."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known or base in known:
                    yield inner if inner in known else base


def circles(arrows):
    """Modules that cannot be put in an order in which each comes after all that it imports."""
    left = {name: set(targets) - {name} for name, targets in arrows.items()}
    while ready := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in ready:
            del left[name]
    return sorted(left)


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set(), "e": {"e"}}) == ["a", "b", "c"]


def test_no_module_is_on_a_circle():
    known = modules()
    assert len(known) > 200
    assert circles({name: set(imported(name, file, known)) for name, file in known.items()}) == []
