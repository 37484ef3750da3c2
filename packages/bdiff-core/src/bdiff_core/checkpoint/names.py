"""What a parameter is called in each style of checkpoint, and the shape it is stored in."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from torch import Tensor

from bdiff_core.config import ModelConfig
from bdiff_core.model import ChunkDiT

Style = Literal["bdiff", "diffusers", "wan"]
"""Whose names the parameters have; `wan`: those of Wan 2.1's own code, which SkyReels-V2 and Self-Forcing kept."""

Part = tuple[str, int]
"""Our parameter, and the number of one of the parts that it consists of along the first axis."""

# Our module, and the names in diffusers and in Wan of the modules (or bare parameters) that it consists of.
_OUTSIDE: dict[str, tuple[str, str]] = {
    "patches.project": ("patch_embedding", "patch_embedding"),
    "time.hidden": ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    "time.out": ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    "time.modulation": ("condition_embedder.time_proj", "time_projection.1"),
    "time.fps": ("fps_embedding", "fps_embedding"),
    "time.fps_hidden": ("fps_projection.net.0.proj", "fps_projection.0"),
    "time.fps_out": ("fps_projection.net.2", "fps_projection.2"),
    "text.hidden": ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    "text.out": ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    "image.position": ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    "image.norm_in": ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    "image.hidden": ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    "image.out": ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    "image.norm_out": ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    "head.table": ("scale_shift_table", "head.modulation"),
    "head.project": ("proj_out", "head.head"),
}
_BLOCK: dict[str, tuple[str, str]] = {
    "table": ("scale_shift_table", "modulation"),
    "self_attention.qkv": ("attn1.to_q attn1.to_k attn1.to_v", "self_attn.q self_attn.k self_attn.v"),
    "self_attention.norm_q": ("attn1.norm_q", "self_attn.norm_q"),
    "self_attention.norm_k": ("attn1.norm_k", "self_attn.norm_k"),
    "self_attention.out": ("attn1.to_out.0", "self_attn.o"),
    "norm_cross": ("norm2", "norm3"),
    "cross_attention.q": ("attn2.to_q", "cross_attn.q"),
    "cross_attention.kv": ("attn2.to_k attn2.to_v", "cross_attn.k cross_attn.v"),
    "cross_attention.image_kv": ("attn2.add_k_proj attn2.add_v_proj", "cross_attn.k_img cross_attn.v_img"),
    "cross_attention.norm_q": ("attn2.norm_q", "cross_attn.norm_q"),
    "cross_attention.norm_k": ("attn2.norm_k", "cross_attn.norm_k"),
    "cross_attention.norm_image_k": ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    "cross_attention.out": ("attn2.to_out.0", "cross_attn.o"),
    "ffn_in": ("ffn.net.0.proj", "ffn.0"),
    "ffn_out": ("ffn.net.2", "ffn.2"),
}
_COLUMN = {"diffusers": 0, "wan": 1}
_NUMBERED = re.compile(r"blocks\.(\d+)\.(.+)")
_END = re.compile(r"\.(?:weight|bias)$")

# Parts of names that training code adds: wrappers of modules, anywhere, and owners of the transformer, in front.
_WRAPPERS = re.compile(r"\b(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_OWNERS = re.compile(r"^(?:(?:module|model|generator|generator_ema|diffusion_model|pipe|dit)\.)+")


def without_wrappers(name: str) -> str:
    """A stored name without the wrappers that training code puts around modules."""
    return _WRAPPERS.sub("", name)


def plain_name(name: str) -> str:
    """A stored name without the wrappers and owners that training code puts around the transformer."""
    return _OWNERS.sub("", without_wrappers(name), count=1)


def source_names(name: str, style: Style) -> tuple[str, ...]:
    """Names, in a style, of the parts that our parameter consists of along its first axis."""
    if style == "bdiff":
        return (name,)
    numbered = _NUMBERED.fullmatch(name)
    table, prefix, inner = (_OUTSIDE, "", name) if numbered is None else (_BLOCK, f"blocks.{numbered[1]}.", numbered[2])
    stem, end = (inner, "") if inner in table else inner.rsplit(".", 1)
    sources = table[stem][_COLUMN[style]].split()
    return tuple(prefix + source + (end and f".{end}") for source in sources)


def source_shape(name: str, shape: tuple[int, ...], config: ModelConfig, style: Style) -> tuple[int, ...]:
    """Shape of each source of our parameter of the given shape."""
    if style == "bdiff":
        return shape
    if name == "patches.project.weight":  # stored as a strided convolution
        return (config.dim, config.in_channels, *config.patch_size)
    if name.endswith("table"):
        return (1, *shape)
    return (shape[0] // len(source_names(name, style)), *shape[1:])


def parts_by_name(names: Iterable[str], style: Style) -> dict[str, Part]:
    """Which part of our parameters each source in a style is."""
    return {source: (name, part) for name in names for part, source in enumerate(source_names(name, style))}


def split(model: ChunkDiT, style: Style) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a model as a style names and shapes them: views, in the model's order."""
    for name, parameter in model.state_dict().items():
        sources = source_names(name, style)
        shape = source_shape(name, tuple(parameter.shape), model.config, style)
        for source, part in zip(sources, parameter.detach().chunk(len(sources)), strict=True):
            yield source, part.reshape(shape)


def _vocabulary(style: Style) -> frozenset[str]:
    if style == "bdiff":
        return frozenset((*_OUTSIDE, *(f"blocks.*.{name}" for name in _BLOCK)))
    column = _COLUMN[style]
    outside = (source for row in _OUTSIDE.values() for source in row[column].split())
    return frozenset((*outside, *(f"blocks.*.{source}" for row in _BLOCK.values() for source in row[column].split())))


def style_of(names: Iterable[str]) -> Style | None:
    """The style that has most of the names; None: no style has any of them."""
    stems = [_END.sub("", _NUMBERED.sub(r"blocks.*.\2", name)) for name in names]
    styles: tuple[Style, ...] = ("bdiff", "diffusers", "wan")
    known = {style: sum(stem in _vocabulary(style) for stem in set(stems)) for style in styles}
    best = max(styles, key=known.__getitem__)
    return best if known[best] else None
