"""Autoencoders on disk: one safetensors file that holds its own config."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bdiff_core.files import check_finite, what_is, write_tensors
from bdiff_core.vae.autoencoder import CausalVAE, VAEConfig

_FORMAT = "bdiff-vae"
_FILE = "vae.safetensors"


def save_vae(vae: CausalVAE, path: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write weights and config to one safetensors file, first under a temporary name.

    Args:
        vae: the model.
        path: a file ending in ``.safetensors``, or a directory, which gets ``vae.safetensors``.
        dtype: what to store the weights in; statistics of the latents stay in float32.

    Returns:
        The file written.

    Raises:
        OSError: with the name of the file, if the disk is full or cannot be written; the old file is as it was.
    """
    target = _weights_file(Path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = {"latent_mean", "latent_std"}
    tensors = {
        name: (t if name in kept else t.to(dtype)).detach().cpu().contiguous() for name, t in vae.state_dict().items()
    }
    write_tensors(tensors, target, metadata={"format": _FORMAT, "config": json.dumps(asdict(vae.config))})
    return target


def load_vae(path: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> CausalVAE:
    """Read what `save_vae` wrote.

    Args:
        path: the file, or the directory that holds ``vae.safetensors``.
        dtype: dtype of the weights in memory.
        device: where to put them.

    Raises:
        ValueError: the file is damaged, holds no `CausalVAE`, or holds numbers that are not finite.
        FileNotFoundError: there is no such file.
    """
    source = _weights_file(Path(path))
    if source.is_symlink() and not source.exists():
        raise FileNotFoundError(f"{source} is a link to {source.readlink()}, which is not there")
    if not source.is_file():
        raise FileNotFoundError(f"no autoencoder weights at {source}; expected {_FILE}, as `bdiff train vae` writes it")
    if (problem := what_is(source, safetensors=True)) is not None:
        raise ValueError(f"{source} is not a readable safetensors file: it {problem}")
    try:
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{source} is not a readable safetensors file ({error}); save it again") from None
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{source} holds no `CausalVAE`; expected {_FILE}, as `bdiff train vae` writes it")
    vae = CausalVAE(_parse_config(source, metadata.get("config", "")))
    expected = {name: tuple(t.shape) for name, t in vae.state_dict().items()}
    if expected != {name: tuple(t.shape) for name, t in tensors.items()}:
        raise ValueError(f"{source} holds weights that do not fit the config beside them; save it again")
    check_finite(tensors.items(), source)
    vae.load_state_dict(tensors)
    vae = vae.to(device=device, dtype=dtype).eval()
    check_finite(vae.state_dict().items(), f"{source}, in {str(dtype).removeprefix('torch.')},")
    return vae


def _weights_file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path / _FILE


def _parse_config(source: Path, text: str) -> VAEConfig:
    try:
        values = json.loads(text)
        known = {field.name for field in fields(VAEConfig)}
        if not isinstance(values, dict) or set(values) != known:
            raise ValueError(f"expected the fields {sorted(known)}")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return VAEConfig(**given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{source} holds no valid VAEConfig ({error}); save it again") from None
