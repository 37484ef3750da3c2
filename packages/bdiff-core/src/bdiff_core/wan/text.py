"""UMT5, the text encoder of Wan 2.1 and SkyReels-V2."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bdiff_core.errors import first_line
from bdiff_core.text import EncodedText
from bdiff_core.wan.checks import check_files, check_module


class UMT5TextEncoder:
    """Encode prompts as Wan does: cleaned, cut to `text_length` tokens, with zero states behind them.

    The embedding for recall is the mean over a prompt's own tokens, normalised (BlockVid section 3.4 compares T5
    states).

    Args:
        encoder: A `UMT5EncoderModel` of transformers.
        tokenizer: Its tokenizer.
        text_length: Rows of the token states, 512 in Wan; longer prompts are cut.
    """

    def __init__(self, encoder: Any, tokenizer: Any, *, text_length: int = 512) -> None:
        if text_length < 1:
            raise ValueError(f"text_length is {text_length}; expected at least 1 token")
        self._encoder = encoder.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.text_length = text_length

    @classmethod
    def load(
        cls,
        path_or_repo: str | Path,
        *,
        text_length: int = 512,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "UMT5TextEncoder":
        """Read the folders ``text_encoder`` and ``tokenizer`` of a pipeline, or of a repository on the hub.

        Raises:
            ValueError: If transformers is missing, or the folders do not hold such an encoder, or its weights are not
                finite.
        """
        try:
            from transformers import AutoTokenizer, UMT5EncoderModel
            from transformers.utils import logging as transformers_logging
        except ImportError:
            raise ValueError("Wan's text encoder needs transformers: pip install 'bdiff-core[wan]'") from None
        transformers_logging.disable_progress_bar()
        check_files(Path(path_or_repo, "text_encoder"))
        try:
            kind: Any = UMT5EncoderModel
            loaded: tuple[Any, Any] = kind.from_pretrained(
                str(path_or_repo), subfolder="text_encoder", dtype=dtype, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(str(path_or_repo), subfolder="tokenizer")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{path_or_repo}: cannot load the text encoder: {first_line(error)}") from None
        encoder, found = loaded
        check_module(encoder, found, Path(path_or_repo, "text_encoder"))
        return cls(encoder.to(device), tokenizer, text_length=text_length)

    def save(self, folder: Path) -> None:
        """Write ``text_encoder`` and ``tokenizer`` into the folder of a pipeline."""
        self._encoder.save_pretrained(str(folder / "text_encoder"))
        self._tokenizer.save_pretrained(str(folder / "tokenizer"))

    @property
    def width(self) -> int:
        """Channels of token states and embeddings."""
        return int(self._encoder.config.d_model)

    def to(self, device: torch.device | str) -> "UMT5TextEncoder":
        """Move the encoder to a device and return it."""
        self._encoder.to(device)
        return self

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Token states [b text_length d] and unit embeddings [b d] of prompts."""
        if isinstance(prompts, str) or not prompts:
            raise ValueError(f"prompts is {prompts!r}; expected a list of at least one prompt")
        rows = [self._encode_one(clean_prompt(prompt)) for prompt in prompts]
        return EncodedText(
            tokens=torch.stack([tokens for tokens, _ in rows]), embedding=torch.stack([mean for _, mean in rows])
        )

    def _encode_one(self, prompt: str) -> tuple[Float[Tensor, "text_length d"], Float[Tensor, " d"]]:
        """States and unit embedding of one prompt, encoded alone so that even the last bits depend on nothing else."""
        tokens = self._tokenizer(
            [prompt], max_length=self.text_length, truncation=True, return_attention_mask=True, return_tensors="pt"
        ).to(self._encoder.device)
        states: Tensor = self._encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0]
        mean = F.normalize(states.mean(dim=0).float(), dim=-1)
        return F.pad(states, (0, 0, 0, self.text_length - len(states))), mean


def clean_prompt(prompt: str) -> str:
    """A prompt as Wan cleans it: with mended encodings and HTML entities, and single spaces.

    ftfy mends encodings if it is installed, as in the published pipelines.
    """
    try:
        from ftfy import fix_text
    except ImportError:
        mended = prompt
    else:
        mended = fix_text(prompt)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(mended))).strip()
