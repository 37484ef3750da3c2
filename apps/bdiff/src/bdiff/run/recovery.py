"""What a run's folder holds of it already, brought back so that the next chunk can be made."""

import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdiff import defaults
from bdiff.run.loading import LoadedRun
from bdiff.run.state import RunState
from bdiff.run.stored import Kept
from bdiff.run.wiring import generate_chunks, make_memory
from kvbank import DamageError, KVBank, TieredStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovered:
    """A run, ready to be gone on with."""

    num_chunks: int
    """Chunks that are there."""
    memory: KVBank
    """Their keys and values, on disk."""
    decoder_state: Any
    """What the decoder carries on from the last of them."""
    given: Mapping[int, Tensor]
    """Latents of chunks that show a picture or a video instead of being made."""
    past: Mapping[int, Tensor]
    """Latents of the last chunks, for keys that are recomputed at a new prompt."""


def recover(
    run: LoadedRun, state: RunState, *, fresh: bool = False, memory_limit: int = defaults.MEMORY_LIMIT
) -> Recovered:
    """Prepare a run's folder, and bring back what it holds.

    Memory and decoder state are made anew from the latents of the chunks where they are missing, behind or damaged.

    Args:
        run: The loaded run.
        state: Its folder.
        fresh: Begin with the first chunk, whatever the folder holds of another run.
        memory_limit: Bytes of past keys and values in memory; more of them are on disk alone.

    Raises:
        RunStateError: If a chunk is damaged.
    """
    kept = state.begin(run.spec, fresh=fresh, given=run.prefix)
    carried = None if kept.num_chunks == len(run.plan) else _decoder_state(run, kept)
    memory = _memory(run, kept, state, memory_limit)
    past = _last_latents(run, state, kept.num_chunks)
    return Recovered(num_chunks=kept.num_chunks, memory=memory, decoder_state=carried, given=kept.given, past=past)


def _last_latents(run: LoadedRun, state: RunState, num_chunks: int) -> dict[int, Tensor]:
    """Latents of the last of the first chunks, and of those that it saw as recent; none if nobody needs them."""
    if run.sampling.prompt_switch != "recompute" or not num_chunks:
        return {}
    last = state.chunk(num_chunks - 1)
    recent = (shown["chunk"] for shown in last.entry["shown"] if shown["kind"] == "recent")
    return {**{index: state.chunk(index).latents for index in recent}, last.index: last.latents}


@torch.no_grad()
def _decoder_state(run: LoadedRun, kept: Kept) -> Any:
    """What the decoder carries on from the last chunk; some chunks may have to be decoded again."""
    device = run.vae.device
    carried = _to(kept.decoder_state, device)
    for index in range(kept.decoded, kept.num_chunks):
        _, carried = run.vae.decode(kept.latents[index].to(device), carried)
    return carried


def _to(state: Any, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    return tuple(_to(part, device) for part in state) if isinstance(state, tuple) else state


def _memory(run: LoadedRun, kept: Kept, state: RunState, limit: int) -> KVBank:
    """The memory after the chunks that are there; it can be made anew from their latents."""
    memory = _open_memory(run, state.memory, limit, at_most=kept.num_chunks)
    if memory.next_index < kept.num_chunks < len(run.plan):  # a finished run needs no memory
        missing = {"first": memory.next_index, "last": kept.num_chunks}
        try:
            past = _last_latents(run, state, memory.next_index)
            deque(generate_chunks(run, memory, prefix=kept.latents, decode=False, past=past, **missing), maxlen=0)
        except BaseException:
            memory.close()
            raise
    return memory


def _open_memory(run: LoadedRun, folder: Path, limit: int, *, at_most: int) -> KVBank:
    """The memory on disk; an empty one if it is damaged, or holds more chunks than there are."""
    store = TieredStore(device_budget=limit // 2, host_budget=limit - limit // 2)
    memory = make_memory(run.spec.make_policy(), run.model, seed=run.spec.seed, store=store)
    try:  # the disk is not waited for: after a power failure the memory is made anew
        memory.open(folder, fsync="never", device=torch.device(run.spec.device))
    except DamageError:
        pass
    else:
        if memory.next_index <= at_most:
            return memory
        memory.close()
    shutil.rmtree(folder)
    return _open_memory(run, folder, limit, at_most=at_most)
