"""Image encoders of the transformers library: DINO, CLIP and SigLIP."""

import hashlib
import pickle
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from torch import Tensor

from vde_metrics.models.weight_files import check_finite, check_kind

FILES = ("config.json", "preprocessor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
FIRST_TOKEN = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
"""Model types whose embedding is the class token after the last normalisation."""
PROJECTED = ("clip", "siglip", "siglip2")
"""Model types whose embedding is the image embedding in the space shared with text."""


class PretrainedEncoder:
    """An image encoder of the transformers library: DINO (1, 2 or 3), CLIP or SigLIP.

    The embedding is the one that these models compare pictures by. For DINO it is the class token after the last
    normalisation, for CLIP and SigLIP the image embedding. Pictures are prepared as the checkpoint's
    ``preprocessor_config.json`` says. Pillow does it, so torchvision is not needed and cannot change the scores. The
    encoder needs ``vde-metrics[encoders]``.
    """

    def __init__(
        self, source: str | PathLike[str], *, revision: str | None = None, device: str | torch.device = "cpu"
    ) -> None:
        """Choose the weights. They are loaded when they are first needed.

        Args:
            source: a folder with config.json, preprocessor_config.json and model.safetensors, or the name of a
                repository on the Hugging Face hub, such as ``facebook/dinov2-base``.
            revision: commit or tag of the repository.
            device: where the model runs.

        Raises:
            FileNotFoundError: if the folder or one of its files is missing.
        """
        self.source = str(source)
        self._revision = revision
        self._device = torch.device(device)
        folder = Path(self.source)
        if folder.is_dir():
            _check_folder(folder)
        elif not isinstance(source, str) or folder.is_absolute() or self.source.count("/") > 1:
            raise FileNotFoundError(f"{folder}: no such folder; {_wanted('it')}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"

    @cached_property
    def name(self) -> str:
        """Model type, length of an embedding, and the first digits of a sha256 of weights and preparation.

        The name does not depend on where the weights are stored.
        """
        digest = hashlib.sha256(self._preparation().encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return f"{self._model.config.model_type} {self.dim}d {digest.hexdigest()[:12]}"

    @cached_property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.encode([torch.zeros(32, 32, 3, dtype=torch.uint8)]).shape[1]

    @torch.no_grad()
    def encode(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n d"]:
        """One embedding per picture, not normalised."""
        if not pictures:
            return torch.zeros(0, self.dim)
        return self._embed(self._pixels(pictures)).float().cpu()

    def _preparation(self) -> str:
        """A text that says how pictures are prepared. It is part of the name."""
        return repr(sorted(_preparation(self._processor).items()))

    def _pixels(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]]) -> Float32[Tensor, "n 3 h w"]:
        """Pictures prepared for the model."""
        arrays = [picture.cpu().numpy() for picture in pictures]
        pixels: Tensor = self._processor(images=arrays, return_tensors="pt")["pixel_values"].to(self._device)
        return pixels

    def _embed(self, pixels: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
        """Embeddings of prepared pictures."""
        found: Tensor
        if self._model.config.model_type in PROJECTED:
            found = self._model.get_image_features(pixel_values=pixels).pooler_output
        else:
            found = self._model(pixel_values=pixels).last_hidden_state[:, 0]
        return found

    @cached_property
    def _processor(self) -> Any:
        _check_transformers()
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(self.source, revision=self._revision, backend="pil")
        except OSError as error:
            raise FileNotFoundError(
                f"{self.source}: cannot be loaded ({_first_line(error)}); {_wanted('it')}"
            ) from error

    @cached_property
    def _model(self) -> Any:
        _check_transformers()
        from transformers import AutoConfig, AutoModel

        for file in (Path(self.source, name) for name in WEIGHTS if not name.endswith(".json")):
            if file.is_file():
                check_kind(file, expected="the weights of the model whose config.json lies beside them")
        try:
            config = AutoConfig.from_pretrained(self.source, revision=self._revision)
            _check_type(config.model_type, self.source)
            options = {"add_pooling_layer": False} if config.model_type == "vit" else {}
            model, found = AutoModel.from_pretrained(
                self.source, revision=self._revision, dtype=torch.float32, output_loading_info=True, **options
            )
        except OSError as error:
            raise FileNotFoundError(
                f"{self.source}: cannot be loaded ({_first_line(error)}); {_wanted('it')}"
            ) from error
        except (SafetensorError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{self.source}: the weights are damaged or do not fit the config; {_wanted('it')}"
            ) from error
        if missing := sorted(found["missing_keys"]):
            raise ValueError(
                f"{self.source}: the weights lack {missing[0]} and {len(missing) - 1} more; not a whole model. "
                "Download them again"
            )
        check_finite(model.state_dict(), self.source)
        if config.model_type in PROJECTED:
            del model.text_model  # it takes half of the memory, and pictures do not need it
        return model.eval().requires_grad_(False).to(self._device)


def _check_transformers() -> None:
    try:
        import PIL
        import transformers
    except ImportError as error:
        raise ImportError(
            f"{error.name} is not installed; DINO, CLIP and SigLIP need it: pip install 'vde-metrics[encoders]'"
        ) from error
    del PIL, transformers


def _check_folder(folder: Path) -> None:
    absent = [file for file in FILES if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in WEIGHTS):
        absent.append(WEIGHTS[0])
    if absent:
        missing = ", ".join(str(folder / file) for file in absent)
        raise FileNotFoundError(f"{missing}: no such file; {_wanted(str(folder))}")


def _check_type(model_type: str, source: str) -> None:
    known = (*FIRST_TOKEN, *PROJECTED)
    if model_type not in known:
        raise ValueError(f"{source}: the model has the type {model_type!r}; expected one of {', '.join(known)}")


def _wanted(place: str) -> str:
    return (
        f"{place} should be a folder with config.json, preprocessor_config.json and model.safetensors as the Hugging "
        "Face hub has them, or the name of a repository there that this machine can reach or has in its cache"
    )


def _preparation(processor: Any) -> dict[str, Any]:
    """Settings of the preparation, without those that differ between versions of transformers."""
    relevant = ("do_", "size", "crop_size", "image_mean", "image_std", "resample", "rescale_factor")
    return {key: value for key, value in processor.to_dict().items() if key.startswith(relevant)}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
