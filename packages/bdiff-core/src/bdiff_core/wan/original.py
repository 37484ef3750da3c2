"""The folder in which Wan 2.1 was first published: its autoencoder and its text encoder in the names of its own code.

It holds ``Wan2.1_VAE.pth``, ``models_t5_umt5-xxl-enc-bf16.pth`` and the tokenizer ``google/umt5-xxl/`` beside the
transformer. They are read as plain data into the classes of diffusers and transformers.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdiff_core.checkpoint.tensors import read_pickle
from bdiff_core.errors import first_line
from bdiff_core.files.finite import check_finite
from bdiff_core.files.reading import visible
from bdiff_core.wan.text import UMT5TextEncoder
from bdiff_core.wan.vae import WanVAE

VAE_FILES = ("Wan2.1_VAE.pth", "*VAE*.pth")
"""Names of the autoencoder, the published one first."""
TEXT_FILES = ("models_t5_umt5-xxl-enc-bf16.pth", "models_t5*.pth")
"""Names of the text encoder."""
TOKENIZER = Path("google") / "umt5-xxl"
"""Where the tokenizer is."""

_LEVELS = (1, 4, 7, 10)  # last residual block of each level of the encoder
_STRIDES = (2, 5, 8)  # what comes between them
_TEXT = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
"""Modules of a block of Wan's text encoder, and what transformers calls them."""
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.weight")


def find_original(folder: Path, names: tuple[str, ...]) -> Path | None:
    """A file of Wan's own folder by its names, the first that is there; None: there is none."""
    return next((file for name in names for file in visible(folder, name)), None)


def is_original(folder: Path) -> bool:
    """Whether a folder is one of Wan's own: it has their autoencoder or text encoder, and is no pipeline."""
    if (folder / "model_index.json").is_file():
        return False
    return any(find_original(folder, names) is not None for names in (VAE_FILES, TEXT_FILES))


def stored_numbers(folder: Path) -> dict[str, int]:
    """About how many numbers the published files of a folder hold: 4 bytes each in the autoencoder, 2 in the text."""
    found = {"vae": (VAE_FILES, 4), "text_encoder": (TEXT_FILES, 2)}
    files = {part: (find_original(folder, names), size) for part, (names, size) in found.items()}
    return {part: 0 if file is None else file.stat().st_size // size for part, (file, size) in files.items()}


def load_original_vae(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> WanVAE:
    """Read ``Wan2.1_VAE.pth`` into diffusers' `AutoencoderKLWan`.

    Sizes are read from the shapes. Mean and deviation of the latents are the published ones for 16 channels, else 0
    and 1: the file does not hold them.

    Args:
        path: The file, or the folder that holds it.
        dtype: Dtype of the weights.
        device: Where they go.

    Raises:
        ValueError: If diffusers is missing, or this is no such autoencoder, or is damaged, or not finite.
    """
    file = _file(Path(path), VAE_FILES, option="--vae")
    try:
        from diffusers import AutoencoderKLWan
        from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
    except ImportError:
        raise ValueError("Wan's autoencoder needs diffusers: pip install 'bdiff-core[wan]'") from None
    weights = _tensors(file)
    try:
        sizes = _vae_sizes(weights)
    except (KeyError, IndexError):
        raise ValueError(
            f"{file} is no autoencoder of Wan 2.1; expected Wan2.1_VAE.pth, or a folder of diffusers"
        ) from None
    with torch.device("meta"):
        vae = AutoencoderKLWan(**sizes)
    return WanVAE(_filled(vae, convert_wan_vae_to_diffusers(weights), file, dtype=dtype, device=device))


def _vae_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `AutoencoderKLWan` that give these shapes."""
    base, channels = weights["encoder.conv1.weight"].shape[0], weights["conv2.weight"].shape[0]
    widths = [weights[f"encoder.downsamples.{level}.residual.6.weight"].shape[0] for level in _LEVELS]
    sizes: dict[str, Any] = {
        "base_dim": base,
        "z_dim": channels,
        "dim_mult": [width // base for width in widths],
        "num_res_blocks": 2,
        "temperal_downsample": [f"encoder.downsamples.{stride}.time_conv.weight" in weights for stride in _STRIDES],
    }
    if channels != 16:
        sizes |= {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
    return sizes


def load_original_text_encoder(
    folder: str | Path,
    *,
    text_length: int = 512,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> UMT5TextEncoder:
    """Read ``models_t5_umt5-xxl-enc-bf16.pth`` into transformers' `UMT5EncoderModel`, with its tokenizer.

    Args:
        folder: The folder that holds the file, and the tokenizer as ``google/umt5-xxl``.
        text_length: Rows of the token states.
        dtype: Dtype of the weights.
        device: Where they go.

    Raises:
        ValueError: If transformers is missing, or this is no such encoder, or is damaged, or not finite, or the
            tokenizer is missing.
    """
    folder = Path(folder)
    file = _file(folder, TEXT_FILES, option="--text-encoder")
    try:
        from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel
    except ImportError:
        raise ValueError("Wan's text encoder needs transformers: pip install 'bdiff-core[wan]'") from None
    place = file.parent / TOKENIZER
    if not place.is_dir():
        raise ValueError(f"{file.parent} has no {TOKENIZER.as_posix()}/, the tokenizer; expected it beside {file.name}")
    weights = _tensors(file)
    try:
        sizes = _text_sizes(weights)
    except (KeyError, ValueError):
        raise ValueError(f"{file} is no text encoder of Wan 2.1; expected {TEXT_FILES[0]}") from None
    with torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config(**sizes))
    named = {_text_name(name): weight for name, weight in weights.items()}
    named["encoder.embed_tokens.weight"] = named["shared.weight"]
    filled = _filled(encoder, named, file, dtype=dtype, device=device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(place))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{place}: cannot load the tokenizer: {first_line(error)}") from None
    return UMT5TextEncoder(filled, tokenizer, text_length=text_length)


def _text_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `UMT5Config` that give these shapes."""
    words, width = weights["token_embedding.weight"].shape
    buckets, heads = weights["blocks.0.pos_embedding.embedding.weight"].shape
    blocks = {int(found[1]) for name in weights if (found := _BLOCK.fullmatch(name))}
    return {
        "vocab_size": words,
        "d_model": width,
        "num_heads": heads,
        "d_kv": weights["blocks.0.attn.q.weight"].shape[0] // heads,
        "d_ff": weights["blocks.0.ffn.fc1.weight"].shape[0],
        "num_layers": max(blocks) + 1,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }


def _text_name(name: str) -> str:
    """What transformers calls a parameter of Wan's text encoder; the name itself if there is no such parameter."""
    if found := _BLOCK.fullmatch(name):
        return f"encoder.block.{found[1]}.{_TEXT.get(found[2], found[2])}.weight"
    outside = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
    return outside.get(name, name)


def _file(path: Path, names: tuple[str, ...], *, option: str) -> Path:
    """The file itself, or the one of these names in a folder."""
    if path.is_file():
        return path
    found = find_original(path, names) if path.is_dir() else None
    if found is None:
        raise ValueError(f"{path} has no {names[0]}; expected it there, or give {option}")
    return found


def _tensors(file: Path) -> dict[str, Tensor]:
    return {name: stored.read() for name, stored in read_pickle(file).tensors.items()}


def _filled(
    module: Any, weights: Mapping[str, Tensor], file: Path, *, dtype: torch.dtype, device: torch.device | str
) -> Any:
    """A module on the meta device with these weights, each converted once."""
    expected = {name: tuple(parameter.shape) for name, parameter in module.state_dict().items()}
    missing = sorted(set(expected) - set(weights))
    odd = sorted(name for name, weight in weights.items() if expected.get(name) != tuple(weight.shape))
    if missing or odd:
        first, what = (
            (missing[0], "is missing") if missing else (odd[0], "is of no such parameter or has another shape")
        )
        raise ValueError(f"{file} does not fit: {first} {what}, and {len(missing) + len(odd) - 1} more")
    check_finite(weights.items(), file)
    module.load_state_dict({name: weight.to(device, dtype) for name, weight in weights.items()}, assign=True)
    return module.eval()
