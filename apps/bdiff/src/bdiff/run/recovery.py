"""What a run's folder holds of it already, brought back so that the next chunk can be made."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bdiff import defaults
from bdiff.run.loading import LoadedRun
from bdiff.run.state import RunState
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
    state.begin(run.spec, fresh=fresh)
    run = replace(run, prefix=_kept_prefix(run, state))
    done = state.num_chunks
    memory = _recover_memory(run, state, done, memory_limit)
    carried = None if done == len(run.plan) else _recover_decoder(run, state, done)
    return Recovered(num_chunks=done, memory=memory, decoder_state=carried, given=run.prefix)


def _kept_prefix(run: LoadedRun, state: RunState) -> Mapping[int, Tensor]:
    """Latents of given chunks; those of a video are kept in the run's folder, so that the video is read once."""
    number = run.spec.num_given
    if state.lacks_given(run.spec):
        state.keep_given(run.prefix[index] for index in range(number))
    kept = state.given(number) if number else None
    return run.prefix if kept is None else kept


def _recover_memory(run: LoadedRun, state: RunState, done: int, limit: int) -> KVBank:
    """The memory after the first ``done`` chunks; it can be made anew from their latents."""
    try:
        memory = _open_memory(run, state, limit)
    except DamageError:
        state.forget_memory()
        memory = _open_memory(run, state, limit)
    if memory.next_index > done:
        memory.close()
        state.forget_memory()
        memory = _open_memory(run, state, limit)
    if memory.next_index < done < len(run.plan):  # a finished run needs no memory
        known = state.latents(done)
        again = generate_chunks(run, memory, first=memory.next_index, last=done, prefix=known, decode=False)
        try:
            deque(again, maxlen=0)
        except BaseException:
            memory.close()
            raise
    return memory


def _open_memory(run: LoadedRun, state: RunState, limit: int) -> KVBank:
    """The memory on disk. It is never waited for: after a power failure it is made anew."""
    store = TieredStore(device_budget=limit // 2, host_budget=limit - limit // 2)
    memory = make_memory(run.spec.make_policy(), run.model, seed=run.spec.seed, store=store)
    return memory.open(state.memory, fsync="never", device=torch.device(run.spec.device))


@torch.no_grad()
def _recover_decoder(run: LoadedRun, state: RunState, done: int) -> Any:
    """What the decoder carries on from chunk ``done - 1``; some chunks may have to be decoded again."""
    decoded, carried = state.decoder_state(done)
    device = run.vae.device
    carried = _to(carried, device)
    for index in range(decoded, done):
        _, carried = run.vae.decode(state.chunk(index).latents.to(device), carried)
    return carried


def _to(state: Any, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    return tuple(_to(part, device) for part in state) if isinstance(state, tuple) else state
