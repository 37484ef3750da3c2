"""What figures were measured on, and how much memory a process holds."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """Processor, threads of this process, and versions."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bdiff": version("bdiff"),
    }


def describe_device(device: str) -> dict[str, Any]:
    """Name of the device, version of diffusers and commit of the checkout; each is None where there is none."""
    return {
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else processor_name(),
        "diffusers": _version("diffusers"),
        "commit": commit(),
    }


def processor_name() -> str:
    """The model name of the processor, or else its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def commit() -> str | None:
    """The commit of the checkout that this code is in, with "-dirty" if files were changed since."""
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def anonymous_bytes(process: int | str = "self") -> int:
    """Anonymous resident memory of a process, by default of this one; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
