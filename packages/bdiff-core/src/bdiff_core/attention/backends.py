"""Which attention kernel a model uses, and why another one cannot be used here."""

import importlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch

from bdiff_core.attention.kernels import HALF, flash, flex, flex_block_masks, sdpa, xformers
from bdiff_core.attention.view import Attend, BlockMask, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """An attention kernel and what it needs."""

    attend: Attend
    """The kernel."""
    block_masks: Callable[[View, Iterable[int]], dict[int, BlockMask]] | None = None
    """Makes the `View.block_masks` that the kernel needs, given the numbers of keys of earlier chunks."""
    package: str | None = None
    """Module that must be installed."""
    install: str | None = None
    """Command that installs it."""
    devices: tuple[str, ...] | None = None
    """Types of devices that it runs on; None: any."""
    dtypes: tuple[torch.dtype, ...] | None = None
    """Dtypes that it computes in; None: any."""
    capability: tuple[int, int] = (0, 0)
    """Lowest compute capability of a CUDA device."""
    torch: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By type of device: the oldest torch with which it gives the right numbers there; other devices: any torch."""
    compilers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By type of device: programs or modules that compile its kernels there; one of them is enough."""


BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(attend=sdpa),
    "flex": Backend(
        attend=flex,
        block_masks=flex_block_masks,
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

# Without flex: it compiles its kernels first and has nothing to skip in a pass over one chunk, so it has to be asked
# for. In full precision torch has the same kernels as xformers.
_BEST_IN_HALF = ("flash", "xformers", "sdpa")


def choose_attention(name: str, *, device: torch.device, dtype: torch.dtype) -> str:
    """The name of the attention kernel to use, which is then sure to work here.

    Args:
        name: `sdpa`, `flex`, `xformers` or `flash`; or `auto`: in half precision flash or else xformers, if they work
            here, otherwise sdpa.
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


def backend_for(name: str, *, device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend that `choose_attention` chose, for a pass.

    Raises:
        ValueError: If the model has since moved to a device or a dtype that the kernel does not compute with.
    """
    if problem := _misfit(name, device, dtype):
        raise ValueError(problem)
    return BACKENDS[name]


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
    if device.type == "cuda" and backend.capability > (found := torch.cuda.get_device_capability(device)):
        return (
            f"attention {name!r} needs a GPU of compute capability {_dotted(backend.capability)}, "
            f"{device} has {_dotted(found)}: take 'sdpa'"
        )
    if (oldest := backend.torch.get(device.type, (0, 0))) > (installed := _torch_version()):
        return (
            f"attention {name!r} needs torch {_dotted(oldest)} on {device.type}, this is {_dotted(installed)}: "
            "upgrade it, or take 'sdpa'"
        )
    compilers = backend.compilers.get(device.type, ())
    if compilers and not any(shutil.which(compiler) or find_spec(compiler) for compiler in compilers):
        return (
            f"attention {name!r} needs {compilers[0]} to compile its kernels on {device.type}, and it is not "
            "installed: install it, or take 'sdpa'"
        )
    if backend.package is not None:
        try:
            importlib.import_module(backend.package)
        except ImportError as error:
            reason = str(error).splitlines()[0]
            return f"attention {name!r} does not work here, {reason}: {backend.install}, or take 'sdpa'"
    return None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
