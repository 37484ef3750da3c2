"""Making videos: from what a user asks for to a video, its record, and what it takes to go on with it."""

from bdiff.run.allocator import give_back_freed, keep_freed_memory
from bdiff.run.checkpoints import convert, describe, inspect
from bdiff.run.config import SampleConfig
from bdiff.run.finished import lacks
from bdiff.run.given_video import describe_video
from bdiff.run.lengths import storyboard_prompts
from bdiff.run.loading import LoadedRun, build, load_run
from bdiff.run.models import local_folder
from bdiff.run.parts import Parts
from bdiff.run.plan import Plan, matmul_rate, plan_run
from bdiff.run.plan_text import plan_line, plan_lines, plan_refusal
from bdiff.run.recovery import Recovered, recover
from bdiff.run.sample import Progress, make_video
from bdiff.run.source import Source, load_model
from bdiff.run.spec import ChunkSpec, RunSpec
from bdiff.run.specify import make_spec
from bdiff.run.state import RunState
from bdiff.run.whole import convert_whole
from bdiff.run.wiring import ChunkNoise, generate_chunks, make_memory, make_noise, make_solver

__all__ = [  # noqa: RUF022 (grouped by use)
    # from what is asked for to a video
    "SampleConfig",
    "Parts",
    "make_spec",
    "RunSpec",
    "ChunkSpec",
    "plan_run",
    "Plan",
    "plan_line",
    "plan_lines",
    "plan_refusal",
    "build",
    "load_run",
    "LoadedRun",
    "make_video",
    "Progress",
    # going on with a run
    "RunState",
    "recover",
    "Recovered",
    "lacks",
    # noise, solver, grid and memory
    "ChunkNoise",
    "generate_chunks",
    "make_memory",
    "make_noise",
    "make_solver",
    # models
    "Source",
    "load_model",
    "local_folder",
    "convert",
    "convert_whole",
    "describe",
    "inspect",
    # what else makers of videos need
    "give_back_freed",
    "keep_freed_memory",
    "describe_video",
    "matmul_rate",
    "storyboard_prompts",
]
