"""The figures of a comparison as Markdown, from the JSON alone."""

from collections.abc import Mapping
from typing import Any

from bdiff.output import markdown_table

NAMES = {
    "semantic": "ours, semantic memory",
    "dense": "ours, dense window",
    "synchronous": "SkyReels-V2 DF, synchronous",
    "asynchronous": "SkyReels-V2 DF, asynchronous",
    "anyflow": "AnyFlow FAR, KV cache",
}
"""Names of contestants on pages."""

PLAN = {
    "semantic": "the chunk loop of `bdiff sample`: 2 recent chunks and 2 recalled by prompt, salient tokens "
    "only{cover}; one more pass a chunk fills the memory",
    "dense": "the same loop with the last {context} chunks in view, whole",
    "synchronous": "`SkyReelsV2DiffusionForcingPipeline`: windows of {window} chunks denoised in step; the first "
    "{overlap} frames of a window are the last of the one before, encoded again at every step. A chunk counts as "
    "finished when its window is done, though the pipeline gives out nothing before the whole video is done",
    "asynchronous": "the same windows, causal over chunks, each chunk {lag} behind the one before",
    "anyflow": "`AnyFlowFARPipeline`: chunk by chunk with a cache of the last 2 chunks whole and all earlier ones in "
    "tokens of 4 x 4 latents; after each chunk all frames so far are encoded again to fill the cache, and cached keys "
    "are rotated at every step. Attention is flex attention, the only one it takes; blocks are not "
    "compiled on a CPU, where torch's compiler cannot do its complex rotations",
}
"""What each contestant does."""

_NOT_COMPARED = (
    "Text encoders and autoencoders are left out on all sides: prompts are given embedded, videos are latents. "
    "There is no guidance. Our loop gets another prompt for every chunk and embeds it once a chunk; the pipelines "
    "take one prompt and embed it at every step. Our solver is Euler's; the diffusion forcing has UniPC, one scheduler "
    "a latent frame, the only one that it runs with; AnyFlow has its flow map's Euler steps and gives the model a "
    "second level. Weights are the same everywhere; modules that only AnyFlow has are random. Ratios are of videos of "
    "the same round; quartiles are over rounds. Operations are those that a method needs (`bdiff_core.costs`): "
    "padding, masked attention and the choice of salient tokens are not counted. The machine's rate is "
    "that of torch's own matrix products. On a CPU with AVX-512 our linear layers take oneDNN's instead, so that our "
    "share of it may exceed 1; the pipelines run unchanged, and would gain by them too. Memory is anonymous memory of "
    "the contestant's own process, looked at every 20 ms."
)


def peers_parts(figures: Mapping[str, Any], *, pictures: Mapping[str, str]) -> list[str]:
    """Paragraphs and tables of a comparison.

    Args:
        figures: What `bench_peers` returns.
        pictures: Link of each shape's plot there is.
    """
    parts = [_setting(figures), _NOT_COMPARED]
    for name, shape in figures["shapes"].items():
        parts += [f"## {shape['title'][:1].upper()}{shape['title'][1:]}", _shape(shape), _table(shape, figures)]
        parts += [_ratios(shape), *_wanted(shape), _methods(shape, figures)]
        if name in pictures:
            parts.append(f"![Seconds a chunk and frames a second: {shape['title']}]({pictures[name]})")
    return [part for part in parts if part]


def _setting(figures: Mapping[str, Any]) -> str:
    machine, config = figures["machine"], figures["config"]
    diffusers = f", diffusers {machine['diffusers']}" if machine["diffusers"] else ""
    compiled = ", blocks compiled" if config["compile"] else ""
    commit, _, dirty = (machine["commit"] or "").partition("-")
    commit = f", commit {commit[:12]}{' with changes' if dirty else ''}" if commit else ""
    return (
        f"{machine['device']}, {machine['threads']} threads, {config['dtype']}{compiled}; Python {machine['python']}, "
        f"torch {machine['torch']}{diffusers}, bdiff {machine['bdiff']}{commit}. "
        f"Videos of {config['num_chunks']} chunks, up to {config['repeats']} of each contestant, in turns, each "
        "contestant in its own process, which was warmed up by a shorter video."
    )


def _shape(shape: Mapping[str, Any]) -> str:
    sizes, chunk = shape["sizes"], shape["chunk"]
    rates = shape["machine"]
    return (
        f"{sizes['num_layers']} layers of width {sizes['dim']}, {sizes['num_heads']} heads, feed-forward "
        f"{sizes['ffn_dim']}, {shape['parameters'] / 1e6:,.1f} M parameters, {sizes['text_length']} text tokens. "
        f"A chunk is {chunk['frames']} latent frames of {chunk['height']} x {chunk['width']}, {shape['tokens']:,} "
        f"tokens; {shape['steps']} steps. Large matrix products ran at "
        f"{_spread(rates['flops_per_second'], 1e-9, 0)} Gflop/s, large copies at "
        f"{_spread(rates['bytes_per_second'], 1e-9, 1)} GB/s."
    )


def _table(shape: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    cuda = figures["config"]["device"].startswith("cuda")
    heads = ["contestant", "frames / s", "first chunk, s", "s a chunk", "late / early", "Gflop a chunk", "of matmul"]
    heads += ["of roofline", "past in view, tokens", "peak on the device, MB" if cuda else "loaded, peak, MB", "videos"]
    rows = []
    for name, found in shape["contestants"].items():
        peak = f"{found['peak_bytes'] / 1e6:,.0f}"
        memory = f"{found['device_bytes'] / 1e6:,.0f}" if cuda else f"{found['loaded_bytes'] / 1e6:,.0f}, {peak}"
        grown = found["late_over_early"]
        row = [
            NAMES[name],
            _spread(found["fps"], 1, 2),
            _spread(found["first_chunk_seconds"], 1, 3),
            _spread(found["seconds_a_chunk"], 1, 3),
            "–" if grown is None else _spread(grown, 1, 2),
            f"{found['flops_a_chunk'] / 1e9:,.1f}",
            _spread(found["share_of_matmul"], 1, 2),
            _spread(found["share_of_roofline"], 1, 2),
            f"{found['tokens_shown']:,.0f}",
            memory,
            str(found["rounds"]),
        ]
        rows.append(row)
    return markdown_table(heads, rows)


def _ratios(shape: Mapping[str, Any]) -> str:
    rows = []
    for other in shape["contestants"]:
        for what, words in (("fps", "frames a second"), ("first", "time to the first chunk")):
            cells = [_ratio(found, other, what) for found in shape["ratios"].values()]
            if any(cell != "–" for cell in cells):
                rows.append([NAMES[other], words, *cells])
    return markdown_table(["times as fast as", "in", *(NAMES[ours] for ours in shape["ratios"])], rows) if rows else ""


def _ratio(ratios: Mapping[str, Any], other: str, what: str) -> str:
    figure = ratios.get(other, {}).get(what)
    return "–" if figure is None else _spread(figure, 1, 2)


def _wanted(shape: Mapping[str, Any]) -> list[str]:
    if not shape["wanted"]:
        return []
    words = {"fps": "frames a second over", "first": "first chunk sooner than", "share": "share of large products on"}
    rows = []
    for row in shape["wanted"]:
        what = f"{words[row['what']]} {NAMES.get(row['whom'], 'this machine')}"
        met = "met" if row["met"] else "**not met**"
        rows.append([what, NAMES[row["ours"]], f"{row['least']:g}", f"{row['found']:.2f}", met])
    return [markdown_table(["wanted", "of", "at least", "found", ""], rows)]


def _methods(shape: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    coverage = figures["config"]["coverage"]
    numbers = {
        "cover": "" if coverage is None else f" (that cover {coverage:g} of the attention)",
        "context": shape["context"],
        "window": shape["context"] + 1,
        "overlap": 4 * shape["chunk"]["frames"] - 3,
        "lag": f"{shape['lag']} step{'s' * (shape['lag'] != 1)}",
    }
    return "\n".join(f"- **{NAMES[name]}**: {PLAN[name].format(**numbers)}." for name in shape["contestants"])


def _spread(figure: Mapping[str, float], unit: float, digits: int) -> str:
    median, low, high = (f"{unit * figure[name]:,.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} ({low} to {high})"
