"""Every check of the workspace: `./dev test` runs them all, `./dev <session>` one of them, `./dev` lists them."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import nox

PACKAGES = ("noisesched", "kvbank", "bdiff-core", "forcing-losses", "vde-metrics", "lvbench", "storyworld")
APPS = ("bdiff", "bdiff-train", "bdiff-bench")
FOLDERS = (*(f"packages/{package}" for package in PACKAGES), *(f"apps/{app}" for app in APPS))
SAMPLING = ("packages/noisesched", "packages/kvbank", "packages/bdiff-core", "packages/vde-metrics", "apps/bdiff")
EDITABLE = tuple(f"--editable={folder}" for folder in FOLDERS)
REQUIREMENTS = ("constraints.txt", "pyproject.toml", *(f"{folder}/pyproject.toml" for folder in FOLDERS))
TOOLS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
PIP_OPTIONS = ("--no-compile", "--constraint=constraints.txt")  # torch has thousands of modules that no test imports
# `test` runs two lanes side by side; they share the workspace environment. The first is the longer one.
LANES = (
    "integration",
    ",".join(
        (
            "lint",
            "types",
            "imports",
            *(f"tests({package})" for package in PACKAGES),
            "build",
            "examples",
            "docs",
            "studies",
        )
    ),
)

# Containers often forbid it, and then each of the hundreds of processes of a run compiles 15 s of imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["test"]


def workspace(session):
    """Python of .nox/workspace, the one environment with everything, made on first use and when what it needs changes.

    Otherwise nothing is installed: a session of the other lane may be using it.
    """
    python, stamp = ".nox/workspace/bin/python", Path(".nox/workspace/installed.sha256")
    needs = hashlib.sha256(b"".join(Path(file).read_bytes() for file in REQUIREMENTS)).hexdigest()
    if not Path(python).exists():
        session.run(sys.executable, "-m", "venv", ".nox/workspace")
    if not stamp.exists() or stamp.read_text() != needs:
        session.run(python, "-m", "pip", "install", "-q", *PIP_OPTIONS, *EDITABLE, *TOOLS["test"], *TOOLS["workspace"])
        stamp.write_text(needs)
    return python


def pytest(session, python, name, *arguments):
    """Runs pytest on one thread (two lanes, two cores) and leaves its counts where `.ci/run` sums them."""
    command = (python, "-m", "pytest", "-q", f"--junit-xml=.reports/junit/{name}.xml", *arguments, *session.posargs)
    session.run(*command, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="none")
def test(session):
    """All of lint, types, imports, tests, integration, examples, docs and build, in two lanes."""
    for stale in Path(".reports/junit").glob("*.xml"):
        stale.unlink()
    workspace(session)  # before the lanes, which share it
    session.run(sys.executable, ".ci/side_by_side.py", *LANES)


@nox.session
def lint(session):
    session.install(*PIP_OPTIONS, *TOOLS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_backend="none")
def types(session):
    session.run(workspace(session), "-m", "mypy")


@nox.session(venv_backend="none")
def imports(session):
    session.run(workspace(session), ".ci/check_imports.py", "--editable", *FOLDERS)
    session.run(".nox/workspace/bin/lint-imports")


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session, package):
    """One package with its declared dependencies and the test tools, no more: an undeclared import fails here."""
    session.install(*PIP_OPTIONS, f"--editable=packages/{package}", *TOOLS["test"])
    session.run("python", ".ci/check_imports.py", f"packages/{package}")
    hook = f"--jaxtyping-packages={package.replace('-', '_')},beartype.beartype"
    pytest(session, "python", package, f"packages/{package}/tests", "-m", "not gpu", hook)


@nox.session(venv_backend="none")
def integration(session):
    """The packages wired together, and what needs diffusers or transformers; without the hook that checks shapes."""
    folders = (
        *(f"apps/{app}/tests" for app in APPS),
        "packages/bdiff-core/tests",
        "packages/vde-metrics/tests/test_pretrained.py",
    )
    pytest(session, workspace(session), "integration", *folders, "-m", "not gpu")


@nox.session(venv_backend="none")
def examples(session):
    """docs/examples, every fenced python block of READMEs and docs pages, what holds for the tree as a whole."""
    pytest(session, workspace(session), "examples", "tests")


@nox.session(venv_backend="none")
def studies(session):
    """What was measured once, for a page: each study runs with --tiny."""
    pytest(session, workspace(session), "studies", "studies/tests", "-m", "not gpu")


@nox.session(venv_backend="none")
def docs(session):
    """The site, built strictly."""
    session.run(workspace(session), "docs/build_site.py")


@nox.session
def build(session):
    """Wheels of all packages and apps; what lies in a source tree (weights, py.typed) must arrive with the wheel."""
    wheels = session.create_tmp()
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", f"--wheel-dir={wheels}", *FOLDERS)
    session.install("--no-compile", "--no-deps", "--force-reinstall", *map(str, Path(wheels).glob("*.whl")))
    session.run("python", ".ci/check_wheels.py", *FOLDERS)


@nox.session(venv_backend="none")
def gpu(session):
    """The tests that need a CUDA device."""
    pytest(session, workspace(session), "gpu", "packages", "apps", "studies", "-m", "gpu")


@nox.session
@nox.parametrize("name", [Path(folder).name for folder in FOLDERS], ids=[Path(folder).name for folder in FOLDERS])
def release(session, name):
    """Source and wheel of one package in dist/, checked, and installed by itself: `./dev "release(kvbank)"`."""
    folder = next(folder for folder in FOLDERS if Path(folder).name == name)
    session.install("--no-compile", "build", "twine", "griffe", "packaging")
    session.run("python", ".ci/releases.py", "ranges", *FOLDERS)
    session.run("python", ".ci/releases.py", "api", folder)
    session.run("python", "-m", "build", "--outdir", f"dist/{name}", folder)
    session.run("python", "-m", "twine", "check", "--strict", *map(str, Path("dist", name).iterdir()))
    needed = session.run("python", ".ci/releases.py", "siblings", folder, *FOLDERS, silent=True).split()
    wheels, alone = Path(session.create_tmp()) / "wheels", Path(session.create_tmp()) / "alone"
    shutil.rmtree(wheels, ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", f"--wheel-dir={wheels}", *needed)
    session.run("python", "-m", "venv", "--clear", str(alone))
    python = str(alone / "bin/python")
    session.run(python, "-m", "pip", "install", "-q", *PIP_OPTIONS, *map(str, wheels.glob("*.whl")), external=True)
    session.run(python, ".ci/check_alone.py", name, external=True)


@nox.session
def oldest_siblings(session):
    """The integration with the oldest released siblings that the metadata admits, in an environment of its own."""
    session.install(*PIP_OPTIONS, *EDITABLE, *TOOLS["test"], *TOOLS["workspace"], "packaging")
    session.run("python", ".ci/releases.py", "oldest", *FOLDERS)
    pytest(session, "python", "oldest_siblings", *(f"apps/{app}/tests" for app in APPS), "-m", "not gpu and not slow")


@nox.session
def vbench_reference(session):
    """VBench's metrics on pyiqa and torchvision themselves, in no lane: another torch, about 6 GB, CPU is enough."""
    pins = ("torch==2.14.1", "torchvision==0.29.1", "--editable=packages/vde-metrics[encoders]")
    session.install("--no-compile", *pins, "timm", "einops", "pandas", "pyyaml", "scipy", "requests", *TOOLS["test"])
    session.install("--no-deps", "pyiqa==0.1.16")
    pytest(session, "python", "vbench_reference", *map(str, Path("packages/vde-metrics/tests").glob("test_vbench*.py")))


@nox.session
def versions(session):
    """The video and sample tests with the oldest and newest versions that the metadata admits, in no lane: minutes.

    On every supported Python that is found. `./dev versions -- --quick` installs torch, 6 GB, for one of them alone.
    """
    session.install("packaging")
    session.run("python", ".ci/versions.py", *FOLDERS, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def sample(session):
    """A first video from a fresh checkout: `./dev sample [options of bdiff sample]`."""
    session.install(*PIP_OPTIONS, *(f"--editable={folder}" for folder in SAMPLING))
    session.run("bdiff", "sample", "--out", "runs/first-video", *session.posargs)
