"""The figures of a long video, and their page."""

from statistics import median
from typing import Any

from bdiff.output import markdown_table
from studies.hour.plots import NUM_MOMENTS


def summarise(chunks: list[dict[str, Any]], *, settled: int) -> dict[str, Any]:
    """Median time and memory of the last chunks over those of as many chunks from chunk ``settled`` on."""
    seconds = [chunk["seconds"] for chunk in chunks]
    resident = [chunk["anonymous_bytes"] for chunk in chunks]
    early, late = (median(part) for part in (seconds[settled : 2 * settled], seconds[-settled:]))
    little, much = (median(part) for part in (resident[settled : 2 * settled], resident[-settled:]))
    return {
        "chunks": len(chunks),
        "seconds_a_chunk": median(seconds),
        "early_seconds": early,
        "late_seconds": late,
        "late_over_early": late / early,
        "anonymous_bytes": {"early": little, "late": much, "most": max(resident[settled:])},
        "anonymous_growth": much / max(1, little) - 1,
        "memory_bytes": chunks[-1]["memory_bytes"],
    }


def hour_parts(summary: dict[str, Any], *, plot: str, moments: str) -> list[str]:
    """The parts of the page.

    Args:
        summary: What `measure_hour` returns.
        plot: Link to what `draw` drew.
        moments: Link to what `draw_moments` drew.
    """
    config, machine, video = summary["config"], summary["machine"], summary["video"]
    resident, settled = summary["anonymous_bytes"], int(config["settled"])
    rows = {
        "seconds a chunk, median": f"{summary['seconds_a_chunk']:.3f}",
        f"the same over chunks {settled} to {2 * settled - 1}": f"{summary['early_seconds']:.3f}",
        f"the same over the last {settled}": f"{summary['late_seconds']:.3f}",
        "late over early": f"**{summary['late_over_early']:.3f}**",
        f"anonymous memory, median over chunks {settled} to {2 * settled - 1}": f"{resident['early'] / 1e6:.0f} MB",
        f"the same over the last {settled} chunks": f"{resident['late'] / 1e6:.0f} MB",
        "growth": f"**{100 * summary['anonymous_growth']:.1f}%**",
        "anonymous memory at most": f"{resident['most'] / 1e6:.0f} MB",
        "keys and values of the past at the end": f"{summary['memory_bytes'] / 1e6:.0f} MB",
        "state of the run on disk": f"{summary['state_bytes'] / 1e6:.0f} MB",
        "video": f"{video['seconds'] / 60:.1f} minutes, {video['frames']} frames",
        "its file": f"{summary['video_bytes'] / 1e6:.0f} MB",
    }
    setting = (
        f"A video of {summary['chunks']} chunks by `python -m studies.hour` with the memory `{config['policy']}`, "
        f"which holds {int(config['memory_limit']) / 1e6:.0f} MB of the past in memory. {machine['processor']}, "
        f"{summary['threads']} threads, torch {machine['torch']}, bdiff {machine['bdiff']}. One video of one seed; "
        "drift was not measured."
    )
    return [
        setting,
        markdown_table(["", ""], [list(row) for row in rows.items()]),
        f"![Seconds of every chunk, and memory, over the chunks of the video]({plot})",
        f"{NUM_MOMENTS} moments, evenly over the video, first to last:",
        f"![The video from its first chunk to its last]({moments})",
    ]
