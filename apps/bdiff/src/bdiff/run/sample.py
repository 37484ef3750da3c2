"""From a script to a video on disk: run the loop, keep what it yields, write the video and what is told of it."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bdiff import defaults
from bdiff.files.checked import RunStateError
from bdiff.output.contact_sheet import Cell, draw_sheet, shown_on_sheet, thumbnail
from bdiff.output.video import VideoWriter, to_uint8
from bdiff.run.allocator import give_back_freed
from bdiff.run.deferred_memory import LateMemory
from bdiff.run.loading import Parts
from bdiff.run.record import Record, write_drift
from bdiff.run.spec import Script, TakeNoise
from bdiff.run.state import VIDEO, RunState, StoredChunk
from bdiff_core import Chunk, Memory, Renoising, Scheduled, euler, generate, generate_overlap, generate_whole
from bdiff_core.finite import is_finite
from bdiff_core.whole_file import whole_file
from kvbank import DamageError, KVBank, TieredStore
from noisesched import denoising_grid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run is."""

    done: int
    total: int
    seconds_left: float
    memory_bytes: int
    """Keys and values held of the past."""
    prompt: str


_TRIM_EVERY = 8
"""Chunks between two returns of freed memory to the system."""


def sample(
    parts: Parts,
    *,
    fresh: bool = True,
    memory_limit: int = defaults.MEMORY_LIMIT,
    on_chunk: Callable[[Progress], None] = lambda _: None,
    command: str = "",
    drift: bool = True,
) -> dict[str, Any]:
    """Make the video of a script, or what is still missing of it; returns what run.json holds.

    Whatever interrupts it, the chunks made so far stay behind, with what is needed to go on. If it is not killed, they
    are also a video that plays, with a sheet and a record of them.

    Args:
        parts: what `build` or `load_parts` gave.
        fresh: from the first chunk on, whatever the folder holds of another run; False goes on after its chunks.
        memory_limit: bytes of past keys and values in memory; more of them are on disk alone.
        on_chunk: called after every chunk.
        command: the command line, for the record.
        drift: whether to measure the drift of the finished video; where that cannot be done, a warning says so.
    """
    state = RunState(parts.out)
    with state.held():
        parts = _begun(parts, state, fresh=fresh)
        bank = open_memory(parts, state, limit=memory_limit)
        record = Record(parts, bank, command=command)
        try:
            _shoot(parts, state, bank, record, on_chunk=on_chunk)
        except BaseException as error:
            bank.close()
            if isinstance(error, FloatingPointError) and not record.num_chunks:
                state.discard()  # it would end so again
            else:
                with suppress(OSError, RunStateError):  # what stopped the run is what is to be told
                    _tell(parts, state, record)
            raise
        bank.close()
        state.forget_memory()
        if parts.sampling.mode == "cached":  # else all of it may have to be made again, and begins with it
            state.forget_given()
        if drift and len(parts.plan) > 1:
            record.drift = _drift(parts, record)
        return _tell(parts, state, record)


def _begun(parts: Parts, state: RunState, *, fresh: bool) -> Parts:
    """The parts, for a run whose folder holds what of it is to be gone on with, and no more."""
    if fresh:
        state.clear()
    elif parts.sampling.mode != "cached" and state.num_chunks < len(parts.plan):  # without a memory: in one go
        state.forget_chunks()
    state.begin(parts.script)
    return _with_kept_video(parts, state)


def _shoot(
    parts: Parts, state: RunState, bank: KVBank, record: Record, *, on_chunk: Callable[[Progress], None]
) -> None:
    """Write the video: the chunks that are there, and then the missing ones as they are made."""
    sampling = parts.sampling
    size = {"height": sampling.height * sampling.scale, "width": sampling.width * sampling.scale}
    with VideoWriter(parts.out / VIDEO, fps=sampling.fps, **size) as video:
        for stored in state.chunks():
            video.add_packets(stored.packets)
            record.add(stored.entry)
        num_stored, started = record.num_chunks, time.perf_counter()
        for chunk in remaining_chunks(parts, state, bank):
            _check_finite(chunk, parts.script)
            frames = to_uint8(chunk.frames[0], scale=1)
            entry = record.entry(chunk, num_frames=len(frames))
            state.add(
                StoredChunk(
                    index=chunk.index,
                    latents=chunk.latents,
                    packets=video.add(to_uint8(chunk.frames[0], scale=sampling.scale)),
                    thumbnail=torch.from_numpy(thumbnail(frames[len(frames) // 2].cpu().numpy()).copy()),
                    entry=entry,
                ),
                decoder_state=chunk.decoder_state,
            )
            record.add(entry)
            if chunk.index % _TRIM_EVERY == 0:
                give_back_freed()
            pace = (time.perf_counter() - started) / (record.num_chunks - num_stored)
            on_chunk(
                Progress(
                    done=record.num_chunks,
                    total=len(parts.plan),
                    seconds_left=pace * (len(parts.plan) - record.num_chunks),
                    memory_bytes=bank.nbytes,
                    prompt=parts.plan[chunk.index].prompt,
                )
            )


def _check_finite(chunk: Chunk, script: Script) -> None:
    """Stop at the first chunk that is no picture.

    Raises:
        FloatingPointError: If latents or pixels are not finite.
    """
    for name, numbers in (("latents", chunk.latents), ("pixels", chunk.frames)):
        if not is_finite(numbers):
            other = "" if script.dtype == "float32" else f", or {script.dtype} is too narrow for them: --dtype float32"
            raise FloatingPointError(
                f"the {name} of chunk {chunk.index} are not finite numbers: the weights of {script.model} are "
                f"damaged{other}"
            )


def _with_kept_video(parts: Parts, state: RunState) -> Parts:
    """The parts, with a given video's latents from the run's folder: whoever goes on with the run needs no video."""
    number = parts.script.num_given
    if state.lacks_given(parts.script):
        state.keep_given(parts.prefix[index] for index in range(number))
    kept = state.given(number) if number else None
    return parts if kept is None else replace(parts, prefix=kept)


def open_memory(parts: Parts, state: RunState, *, limit: int = defaults.MEMORY_LIMIT) -> KVBank:
    """The bank of a run, on disk; made anew from the latents if need be, so that the next chunk can be made."""
    try:
        bank = _open_bank(parts, state, limit)
    except DamageError:
        state.forget_memory()
        bank = _open_bank(parts, state, limit)
    done = state.num_chunks
    if bank.next_index > done:
        bank.close()
        state.forget_memory()
        bank = _open_bank(parts, state, limit)
    if bank.next_index < done < len(parts.plan):  # what is there already needs no memory
        again = _generate(parts, bank, first=bank.next_index, last=done, prefix=state.latents(done), decoder=None)
        try:
            deque(again, maxlen=0)
        except BaseException:
            bank.close()
            raise
    return bank


def _open_bank(parts: Parts, state: RunState, limit: int) -> KVBank:
    store = TieredStore(device_budget=limit // 2, host_budget=limit - limit // 2)
    bank = KVBank(policy=parts.script.make_policy(), store=store, rotate=parts.model.rotate, seed=parts.script.seed)
    # After a power failure it is made anew.
    return bank.open(state.memory, fsync="never", device=torch.device(parts.script.device))


def remaining_chunks(parts: Parts, state: RunState, bank: KVBank) -> Iterator[Chunk]:
    """The chunks that are still to be made, after those that the run has."""
    done = state.num_chunks
    if done == len(parts.plan):
        return
    carried = _decoder_state(parts, state, done)
    walk = {"prefix": parts.prefix, "decoder": parts.vae, "decoder_state": carried}
    yield from _generate(parts, LateMemory(bank), first=done, **walk)


def generate_chunks(parts: Parts) -> Iterator[Chunk]:
    """The loop of a run from the first chunk on, without anything being written."""
    yield from _generate(parts, parts.bank, prefix=parts.prefix, decoder=parts.vae)


@torch.no_grad()
def _generate(
    parts: Parts,
    memory: Memory,
    *,
    first: int = 0,
    last: int | None = None,
    prefix: Mapping[int, Tensor],
    decoder: Any,
    decoder_state: Any = None,
) -> Iterator[Chunk]:
    sampling, vae = parts.sampling, parts.vae
    frame_shape = (vae.latent_channels, sampling.height // vae.spatial_stride, sampling.width // vae.spatial_stride)
    noise = TakeNoise(parts.script.takes, frame_shape, sampling.latent_frames, base=sampling.noise)
    solver, grid = _solver(parts, noise)
    walk = {"noise": noise, "grid": grid, "solver": solver, "guidance": sampling.guidance}
    decoding = {"decoder": decoder, "decoder_state": decoder_state}
    plan = parts.plan[first:last]
    match sampling.mode:
        case "whole":
            shown = parts.condition
            picture = {} if shown is None else {"extra": shown.extra, "image_tokens": shown.image_tokens}
            yield from generate_whole(parts.model, plan, **picture, **walk, **decoding)
        case "overlap":
            windows = {"window": defaults.WINDOW, "overlap": defaults.OVERLAP, "prefix": prefix}
            yield from generate_overlap(parts.model, plan, **windows, **walk, **decoding)
        case _:
            yield from generate(parts.model, plan, memory=memory, positions="slots", prefix=prefix, **walk, **decoding)


def _solver(parts: Parts, noise: TakeNoise) -> tuple[Any, Any]:
    """The solver, and the levels that it walks."""
    sampling = parts.sampling
    if sampling.solver == "scheduler":
        scheduled = Scheduled(parts.scheduler)
        return scheduled, scheduled.grid(sampling.steps)
    grid = denoising_grid(sampling.steps, shift=sampling.shift)
    return (Renoising(noise) if sampling.solver == "renoise" else euler), grid


@torch.no_grad()
def _decoder_state(parts: Parts, state: RunState, done: int) -> Any:
    """What the decoder carries after ``done`` chunks; some may have to be decoded again."""
    decoded, carried = state.decoder_state(done)
    device = parts.vae.device
    carried = _to(carried, device)
    for index in range(decoded, done):
        _, carried = parts.vae.decode(state.chunk(index).latents.to(device), carried)
    return carried


def _to(state: Any, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    return tuple(_to(part, device) for part in state) if isinstance(state, tuple) else state


def _drift(parts: Parts, record: Record) -> dict[str, Any] | None:
    """The drift of the finished film; None where it cannot be measured, as of chunks of one frame."""
    try:
        return write_drift(parts.out / VIDEO, parts.out, boundaries=record.boundaries)
    except ValueError as error:
        logger.warning("the drift of %s is not measured: %s", parts.out / VIDEO, error)
        return None


def _tell(parts: Parts, state: RunState, record: Record) -> dict[str, Any]:
    """Writes the sheet and the record of the chunks made so far."""
    if record.num_chunks:
        _write_sheet(parts, state, record)
    return record.write(parts.out)


def _write_sheet(parts: Parts, state: RunState, record: Record) -> None:
    script, fps = parts.script, parts.sampling.fps
    subtitle = (
        f"{record.num_chunks} chunks, {record.num_frames / fps:.1f} s · memory: {script.policy} · seed {script.seed}"
    )
    bounds = record.boundaries
    cells = [_cell(state.chunk(index), seconds=bounds[index] / fps) for index in shown_on_sheet(record.num_chunks)]
    recalled = {chunk for cell in cells for chunk, _ in cell.recall} - {cell.index for cell in cells}
    pictures = {chunk: state.chunk(chunk).thumbnail.numpy() for chunk in recalled}
    with whole_file(parts.out / "sheet.png") as partial:
        draw_sheet(cells, title=script.title, subtitle=subtitle, pictures=pictures).save(partial, format="png")


def _cell(stored: StoredChunk, *, seconds: float) -> Cell:
    return Cell(
        index=stored.index,
        seconds=seconds,
        prompt=stored.entry["prompt"],
        picture=stored.thumbnail.numpy(),
        recall=tuple((shown["chunk"], shown["kind"]) for shown in stored.entry["shown"]),
    )
