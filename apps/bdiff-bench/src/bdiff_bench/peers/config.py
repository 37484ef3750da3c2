"""Which contestants are compared, on what, and how often."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OURS = ("semantic", "dense")
"""Our chunk loop: with the default memory of `bdiff sample`, and with the last chunks whole."""

PEERS = ("synchronous", "asynchronous", "anyflow")
"""Pipelines of diffusers: SkyReelsV2DiffusionForcingPipeline in its two modes, and AnyFlowFARPipeline."""

YARDSTICK = "machine"
"""Not a contestant: the rate of large matrix products, measured in every round."""

SHAPES = ("default", "wide", "wan-1.3b", "toy")
"""Names of shapes, see `bdiff_bench.peers.shapes`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeersConfig:
    """A comparison."""

    out: Path
    """Folder of the figures; a stopped run goes on."""
    shapes: tuple[str, ...] = ("default", "wide")
    """Some of `SHAPES`."""
    contestants: tuple[str, ...] = (*OURS, *PEERS)
    """Some of `OURS` and `PEERS`."""
    num_chunks: int = 24
    """Length of every video."""
    repeats: int = 5
    """Videos of each contestant, in turns, so that a noisy minute of the machine hits all of them."""
    steps: int | None = None
    """Denoising steps a chunk; None: those of the shape."""
    context: int = 4
    """Past chunks in view: the size of the dense window. The window of the diffusion forcing has one chunk more."""
    coverage: float | None = None
    """Share of attention that the semantic memory's tokens cover; None: as in `bdiff sample`.

    Random weights attend almost evenly, so this is also the share of tokens; a trained model needs fewer.
    """
    lag: int | None = None
    """Steps by which a chunk of the asynchronous mode follows the one before; None: a tenth of the steps, rounded up,
    as 5 of 50 are recommended."""
    device: str = "cpu"
    """Device of the models."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number type of the models."""
    compile: bool = False
    """Compile the blocks of every transformer."""
    threads: int | None = None
    """Threads of each process; None: as torch chooses."""
    minutes: float | None = None
    """Begin no round that would end later, judged by the time of the last one; None: no limit."""

    def __post_init__(self) -> None:
        for name, known in (("shapes", SHAPES), ("contestants", (*OURS, *PEERS))):
            chosen = getattr(self, name)
            unknown = [each for each in chosen if each not in known]
            if unknown or not chosen or len(set(chosen)) < len(chosen):
                raise ValueError(f"{name} are {', '.join(chosen) or 'none'}; expected some of {', '.join(known)}, once")
        if self.coverage is not None and not 0.0 < self.coverage <= 1.0:
            raise ValueError(f"coverage is {self.coverage}; expected a share in (0, 1]")
        for name, least in (("num_chunks", 2), ("repeats", 1), ("steps", 1), ("context", 2), ("lag", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; expected at least {least}")

    @property
    def window(self) -> int:
        """Chunks that are seen at once: those in view and the current one."""
        return self.context + 1

    def steps_of(self, shape_steps: int) -> int:
        """Denoising steps, given those of a shape."""
        return shape_steps if self.steps is None else self.steps

    def lag_of(self, steps: int) -> int:
        """Lag of the asynchronous mode at so many steps."""
        return -(-steps // 10) if self.lag is None else self.lag

    @property
    def recipe(self) -> dict[str, object]:
        """What must not change within a folder of figures."""
        names = ("num_chunks", "steps", "context", "coverage", "lag", "device", "dtype", "compile", "threads")
        return {name: getattr(self, name) for name in names} | {"cores": os.cpu_count()}
