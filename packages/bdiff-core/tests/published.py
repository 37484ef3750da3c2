"""Weights as other projects lay them out, written by hand from our parameters: no map of the package is used."""

import torch

_WAN = {
    "text_embedding.0": "text.hidden", "text_embedding.2": "text.out", "time_embedding.0": "time.hidden",
    "time_embedding.2": "time.out", "time_projection.1": "time.modulation", "head.head": "head.project",
}  # fmt: skip
_WAN_BLOCK = {
    "self_attn.norm_q": "self_attention.norm_q", "self_attn.norm_k": "self_attention.norm_k",
    "self_attn.o": "self_attention.out", "norm3": "norm_cross", "cross_attn.q": "cross_attention.q",
    "cross_attn.norm_q": "cross_attention.norm_q", "cross_attn.norm_k": "cross_attention.norm_k",
    "cross_attn.o": "cross_attention.out", "ffn.0": "ffn_in", "ffn.2": "ffn_out",
}  # fmt: skip
_TO_DIFFUSERS = (
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.modulation", "scale_shift_table"), ("head.head", "proj_out"), ("modulation", "scale_shift_table"),
    ("norm3", "norm2"), ("self_attn.norm", "attn1.norm"), ("cross_attn.norm", "attn2.norm"),
    ("self_attn.q", "attn1.to_q"), ("self_attn.k", "attn1.to_k"), ("self_attn.v", "attn1.to_v"),
    ("self_attn.o", "attn1.to_out.0"), ("cross_attn.q", "attn2.to_q"), ("cross_attn.k", "attn2.to_k"),
    ("cross_attn.v", "attn2.to_v"), ("cross_attn.o", "attn2.to_out.0"), ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
)  # fmt: skip


def wan(model):
    """The parameters in the names and shapes of Wan's own code, which Self-Forcing and its kin kept."""
    own, config = model.state_dict(), model.config
    kernel = (config.dim, config.in_channels, *config.patch_size)
    found = {"patch_embedding.weight": own["patches.project.weight"].reshape(kernel)}
    found["patch_embedding.bias"] = own["patches.project.bias"]
    found["head.modulation"] = own["head.table"][None]
    for theirs, ours in _WAN.items():
        found |= {f"{theirs}.{end}": own[f"{ours}.{end}"] for end in ("weight", "bias")}
    for block in (f"blocks.{i}." for i in range(config.num_layers)):
        found[f"{block}modulation"] = own[f"{block}table"][None]
        for theirs, ours in _WAN_BLOCK.items():
            ends = ("weight", "bias") if f"{block}{ours}.bias" in own else ("weight",)
            found |= {f"{block}{theirs}.{end}": own[f"{block}{ours}.{end}"] for end in ends}
        for end in ("weight", "bias"):
            parts = torch.split(own[f"{block}self_attention.qkv.{end}"], config.dim)
            found |= {f"{block}self_attn.{name}.{end}": part for name, part in zip("qkv", parts, strict=True)}
            parts = torch.split(own[f"{block}cross_attention.kv.{end}"], config.dim)
            found |= {f"{block}cross_attn.{name}.{end}": part for name, part in zip("kv", parts, strict=True)}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def diffusers(model):
    """The same in the names of diffusers."""
    found = {}
    for name, tensor in wan(model).items():
        for theirs, other in _TO_DIFFUSERS:
            if theirs in name:
                name = name.replace(theirs, other)
                break
        found[name] = tensor
    return found


def wrapped(name):
    """A name as FSDP gives it, around the model and around each block."""
    first, _, rest = name.partition(".")
    if first == "blocks":
        number, _, rest = rest.partition(".")
        return f"model._fsdp_wrapped_module.blocks.{number}._fsdp_wrapped_module.{rest}"
    return f"model._fsdp_wrapped_module.{name}"
