"""The page of the study, from its figures alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from bdiff.output import markdown_table


def memory_cost_parts(figures: Mapping[str, Any]) -> list[str]:
    """The parts of the page, for what was measured."""
    shown = {
        "overhead": _overhead,
        "throughput": _throughput,
        "peak": _peak,
        "exactness": _exactness,
        "video": _video,
    }
    parts: list[str] = []
    for name, lines in shown.items():
        if name in figures:
            parts += [*lines(figures[name]), _machine(figures[name]["machine"])]
    return parts


def _overhead(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Share of a chunk's time"
    yield (
        f"Median over {found['chunks']} chunks of a video of the model, decoded; the bank is in a folder, as in "
        "`bdiff sample`. *Layout* places and rotates what was read. Of a write, the pass that makes keys and values "
        "is the model's time."
    )
    rows = [[name, f"{1000 * seconds:.2f} ms"] for name, seconds in found["seconds"].items()]
    rows.append(["the whole chunk", f"{1000 * found['seconds_a_chunk']:.0f} ms"])
    yield markdown_table(["", "median"], rows)
    yield f"Together: **{100 * found['share']:.2f}%** of a chunk's time."


def _throughput(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Bytes a second at the shapes of a large model"
    yield (
        f"A read of {found['read_bytes'] / 1e9:.2f} GB, measured in turns with two plain operations: a copy in "
        "memory between buffers that are in use already, and reading the same files into such a buffer. Medians "
        "and quartiles in GB a second."
    )
    disk = found["disk"]
    rows = [_row("host memory, against memcpy", found["host"], "memcpy")]
    names = {"page cache": "disk, files in the system's cache, against a file read", "device": "disk, cache emptied"}
    rows += [_row(label, disk[name], "file") for name, label in names.items() if name in disk]
    yield markdown_table(["tier", "plain", "read", "read / plain"], rows)
    yield (
        f"The first read of a file checks all of it (CRC-32): {disk['first_read']:.2f} GB a second. `prefetch` does it "
        f"on a thread of its own. Writing: {found['host']['write']['median']:.2f} GB a second to memory, "
        f"{disk['write']['median']:.2f} to disk and through to it."
    )


def _row(label: str, found: Mapping[str, Any], plain: str) -> list[str]:
    plain_speed, read = (
        f"{each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in (found[plain], found["read"])
    )
    return [label, plain_speed, read, f"**{found['read_over_plain']:.2f}**"]


def _peak(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Memory of a packed read"
    yield "Anonymous memory of the process at most while a packed bank is read, beyond what it held before."
    rows = [
        [
            name,
            *(f"{each[of] / 1e6:.0f} MB" for of in ("held_bytes", "returned_bytes", "peak_bytes")),
            f"{100 * each['beyond_returned']:.1f}%",
        ]
        for name, each in found.items()
        if isinstance(each, Mapping) and "held_bytes" in each
    ]
    yield markdown_table(["format", "held", "returned", "peak", "beyond what is returned"], rows)


def _exactness(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Exactness of packed keys and values"
    yield (
        "Relative error of attention outputs, with queries, keys and values taken from the model while it samples. "
        "*Recalled*: attention over the recalled tokens alone; *with own*: over these and the chunk's own tokens, as "
        "the model attends. Mean over chunks, in percent, layer by layer."
    )
    for video in found["films"]:
        layers = range(len(next(iter(video["formats"].values()))["recalled"]["layers"]))
        rows = [
            [
                f"{name}, {kind.replace('_', ' ')}",
                f"{video['bytes'][name]:.3f}",
                *(f"{100 * error:.2f}" for error in (figures["mean"], figures["most"], *figures["layers"])),
            ]
            for name, kinds in video["formats"].items()
            for kind, figures in kinds.items()
        ]
        scale = video["query_scale"]
        yield f"Over {video['chunks']} chunks, " + (
            "the model's queries:" if scale == 1 else f"queries {scale:g} times as large:"
        )
        yield markdown_table(["format", "bytes of float32", "mean", "most", *(f"layer {n}" for n in layers)], rows)


def _video(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Videos with a packed past"
    yield (
        f"{found['stories']} held-out stories of {found['chunks']} chunks, {found['seeds']} seeds each, first visits "
        "to places given. *Colour* is the error of the colours of a place on returning to it, *clarity* the variance "
        "of the Laplacian; each seed is the mean over the stories. The spread is between the seeds of the plain "
        "videos, largest minus smallest; differences are from the plain videos with the same noise."
    )
    rows = []
    for metric, compared in found["metrics"].items():
        for form, seeds in compared["by_seed"].items():
            values = ", ".join(f"{value:.4f}" for value in seeds)
            if form in compared["difference"]:
                inside = "yes" if compared["within_spread"][form] else "**no**"
                rows.append([f"{metric}, {form}", values, f"{compared['difference'][form]:+.4f}", inside])
            else:
                rows.append([f"{metric}, {form}", values, f"spread {compared['spread']:.4f}", ""])
    yield markdown_table(["metric, format", "by seed", "difference", "within the spread"], rows)


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"*{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, bdiff {machine['bdiff']}.*"
    )
