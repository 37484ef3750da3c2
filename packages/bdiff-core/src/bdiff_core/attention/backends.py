"""Which attention kernel can run where, and which is the best."""

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch

from bdiff_core.attention.kernels import HALF, flash, flex, sdpa, xformers
from bdiff_core.attention.pass_layout import Attend


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """An attention kernel and what it needs."""

    attend: Attend
    package: str | None = None
    """Module that must be there."""
    install: str | None = None
    """What gets it."""
    devices: tuple[str, ...] | None = None
    """Types of devices that it runs on; None: any."""
    dtypes: tuple[torch.dtype, ...] | None = None
    """What it computes in; None: anything."""
    capability: tuple[int, int] = (0, 0)
    """Least compute capability of a CUDA device."""
    torch: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By type of device: the oldest torch with which it gives the right numbers there; others: any."""
    compilers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By type of device: programs or modules that compile its kernels there, one of them sufficing."""


BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(attend=sdpa),
    "flex": Backend(
        attend=flex,
        devices=("cpu", "cuda"),
        torch={"cpu": (2, 13)},
        compilers={"cpu": ("g++", "clang++", "c++", "cl"), "cuda": ("triton",)},
    ),
    "xformers": Backend(
        attend=xformers,
        package="xformers.ops",
        install="pip install xformers",
        devices=("cuda",),
        dtypes=(torch.float32, torch.float16, torch.bfloat16),
    ),
    "flash": Backend(
        attend=flash,
        package="flash_attn.flash_attn_interface",
        install="pip install flash-attn --no-build-isolation",
        devices=("cuda",),
        dtypes=HALF,
        capability=(8, 0),
    ),
}
"""Attention kernels by name, see `choose_attention`."""

# Not flex: it compiles its kernels first and has nothing to skip in a pass over one chunk. Who gains by it asks for it.
# In full precision torch has the same kernels as xformers.
_BEST_IN_HALF = ("flash", "xformers", "sdpa")


def choose_attention(name: str, *, device: torch.device, dtype: torch.dtype) -> str:
    """The name of the attention kernel to use, which is then sure to be there.

    Args:
        name: `sdpa`, `flex`, `xformers`, `flash`; or `auto`: in half precision flash or else xformers where they
            can run, otherwise sdpa.
        device: Where the model computes.
        dtype: What it computes in.

    Raises:
        ValueError: If there is no such kernel, or it lacks something here.
    """
    if name == "auto":
        best = _BEST_IN_HALF if dtype in HALF else ("sdpa",)
        return next(known for known in best if _problem(known, device, dtype) is None)
    if name not in BACKENDS:
        raise ValueError(f"attention is {name!r}; expected one of {', '.join(('auto', *BACKENDS))}")
    if problem := _problem(name, device, dtype):
        raise ValueError(problem)
    return name


def attend_by(name: str, *, device: torch.device, dtype: torch.dtype) -> Attend:
    """The kernel that `choose_attention` found, for a pass.

    Raises:
        ValueError: If the model has since moved to where, or what, the kernel does not compute.
    """
    if problem := _misfit(name, device, dtype):
        raise ValueError(problem)
    return BACKENDS[name].attend


def _misfit(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a kernel is not for a device or a dtype, whatever is installed; None if it is."""
    backend = BACKENDS[name]
    if backend.devices is not None and device.type not in backend.devices:
        return (
            f"attention {name!r} runs on {' or '.join(backend.devices)} and not on {device.type}: "
            "compute there, or take 'sdpa'"
        )
    if backend.dtypes is not None and dtype not in backend.dtypes:
        known = " or ".join(str(known).removeprefix("torch.") for known in backend.dtypes)
        return (
            f"attention {name!r} computes in {known} and not in {str(dtype).removeprefix('torch.')}: "
            "compute in that, or take 'sdpa'"
        )
    return None


def _problem(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """What a kernel lacks here, with the way out; None if nothing."""
    if problem := _misfit(name, device, dtype):
        return problem
    backend = BACKENDS[name]
    if device.type == "cuda" and backend.capability > (has := torch.cuda.get_device_capability(device)):
        least, most = (".".join(map(str, version)) for version in (backend.capability, has))
        return f"attention {name!r} needs a GPU of compute capability {least}, {device} has {most}: take 'sdpa'"
    if (oldest := backend.torch.get(device.type, (0, 0))) > (version := _torch_version()):
        wanted, found = (".".join(map(str, version)) for version in (oldest, version))
        return f"attention {name!r} needs torch {wanted} on {device.type}, this is {found}: upgrade it, or take 'sdpa'"
    compilers = backend.compilers.get(device.type, ())
    if compilers and not any(shutil.which(compiler) or find_spec(compiler) for compiler in compilers):
        return (
            f"attention {name!r} needs {compilers[0]} to compile its kernels on {device.type}, which is not there: "
            "install it, or take 'sdpa'"
        )
    if backend.package is not None:
        try:
            importlib.import_module(backend.package)
        except ImportError as error:
            reason = str(error).splitlines()[0]
            return f"attention {name!r} cannot be had here, {reason}: {backend.install}, or take 'sdpa'"
    return None


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
