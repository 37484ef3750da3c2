"""Make a video: bring back what its folder holds, make the chunks that are missing, write the video and its record."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bdiff import defaults
from bdiff.files import RunStateError
from bdiff.output.video import VideoWriter, to_uint8
from bdiff.run.allocator import give_back_freed
from bdiff.run.deferred_memory import DeferredMemory
from bdiff.run.loading import LoadedRun
from bdiff.run.record import Record
from bdiff.run.recovery import Recovered, recover
from bdiff.run.state import VIDEO, RunState
from bdiff.run.wiring import generate_chunks

_TRIM_EVERY = 8
"""Chunks between two returns of freed memory to the system."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run is."""

    done: int
    total: int
    seconds_left: float
    memory_bytes: int
    """Keys and values held of the past."""
    prompt: str


def make_video(
    run: LoadedRun,
    *,
    fresh: bool = True,
    memory_limit: int = defaults.MEMORY_LIMIT,
    on_chunk: Callable[[Progress], None] = lambda _: None,
    command: str = "",
    drift: bool = True,
) -> dict[str, Any]:
    """Make the video of a run, or what is still missing of it; returns what run.json holds.

    Whatever interrupts it, the chunks made so far stay behind, with what is needed to go on. If it is not killed, they
    are also a video that plays, with a contact sheet and a record of them.

    Args:
        run: The loaded run.
        fresh: Begin with the first chunk, whatever the folder holds of another run; False goes on after its chunks.
        memory_limit: Bytes of past keys and values in memory; more of them are on disk alone.
        on_chunk: Called after every chunk.
        command: The command line, for the record.
        drift: Whether to measure the drift of the finished video; where that cannot be done, a warning says so.
    """
    state = RunState(run.out)
    with state.held():
        recovered = recover(run, state, fresh=fresh, memory_limit=memory_limit)
        record = Record(run, state, recovered, command=command)
        try:
            write_video(run, state, recovered, record, on_chunk)
        except BaseException as error:
            recovered.memory.close()
            if isinstance(error, FloatingPointError) and not record.num_chunks:
                state.discard()  # it would end so again
            else:
                with suppress(OSError, RunStateError):  # the user is told what stopped the run
                    record.write()
            raise
        recovered.memory.close()
        state.finish(run.spec)
        return record.write(drift=drift)


def write_video(
    run: LoadedRun, state: RunState, recovered: Recovered, record: Record, on_chunk: Callable[[Progress], None]
) -> None:
    """Write the video: the chunks that are there, and then the missing ones as they are made."""
    sampling, total, done = run.sampling, len(run.plan), recovered.num_chunks
    size = {"height": sampling.height * sampling.scale, "width": sampling.width * sampling.scale}
    with VideoWriter(run.out / VIDEO, fps=sampling.fps, **size) as video:
        for stored in state.chunks():
            video.add_packets(stored.packets)
            record.add(stored.entry)
        if done == total:
            return
        started = time.perf_counter()
        memory = DeferredMemory(recovered.memory)
        carried = {"prefix": recovered.given, "decoder_state": recovered.decoder_state, "past": recovered.past}
        for chunk in generate_chunks(run, memory, first=done, **carried):
            assert chunk.frames is not None
            pixels = to_uint8(chunk.frames[0], scale=sampling.scale)
            middle = pixels[len(pixels) // 2, :: sampling.scale, :: sampling.scale]
            record.keep(chunk, packets=video.add(pixels), middle=middle)
            if chunk.index % _TRIM_EVERY == 0:
                give_back_freed()
            pace = (time.perf_counter() - started) / (record.num_chunks - done)
            progress = Progress(
                done=record.num_chunks,
                total=total,
                seconds_left=pace * (total - record.num_chunks),
                memory_bytes=recovered.memory.nbytes,
                prompt=run.plan[chunk.index].prompt,
            )
            on_chunk(progress)
