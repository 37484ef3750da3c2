"""Visual appeal by a learned predictor (Eq. 23)."""

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.digest import short_digest
from vde_metrics.frames import FrameBatch
from vde_metrics.protocols import Encoder, Predictor
from vde_metrics.scoring import MeanScorer, score_chunk, unit
from vde_metrics.video import Frames
from vde_metrics.weights import read_weights

LAYERS = "linear layers, as in sa_0_4_vit_l_14_linear.pth or sac+logos+ava1-l14-linearMSE.pth"


@dataclass(frozen=True, kw_only=True, slots=True)
class Aesthetic:
    """Visual appeal: what a learned predictor says of each frame, averaged over the chunk (Eq. 23).

    The paper names no predictor, and none is small enough to come along: give one, such as `LaionAesthetic`.
    """

    predictor: Predictor
    """Judges frames."""

    protocol: ClassVar[str] = "paper"
    name: ClassVar[str] = "aesthetic"
    lead: ClassVar[int] = 0
    """Every frame counts."""

    def features(self, batch: FrameBatch) -> Float32[Tensor, "t 1"]:
        """The predictor's score of each frame."""
        return predicted(self.predictor, batch)[:, None]

    def scorer(self) -> MeanScorer:
        """Mean over the chunk's frames."""
        return MeanScorer()

    def score(self, frames: Frames) -> float:
        """Appeal of one chunk: uint8 RGB [t h w 3], or pixels [3 t h w] in [-1, 1]."""
        return score_chunk(self, frames)


class LaionAesthetic:
    """LAION's aesthetic predictors: linear layers on the normalised image embedding of a CLIP, about 1 to 10.

    Two files are in use, both for ``openai/clip-vit-large-patch14``: ``sa_0_4_vit_l_14_linear.pth`` of
    LAION-AI/aesthetic-predictor, which VBench takes, and ``sac+logos+ava1-l14-linearMSE.pth`` of
    christophschuhmann/improved-aesthetic-predictor. They are read as plain tensors, never as code.
    """

    def __init__(self, weights: str | PathLike[str], *, encoder: Encoder) -> None:
        """Find the layers; they are read when the first frame is judged.

        Args:
            weights: one of the two files, or the same tensors as ``.safetensors``.
            encoder: the CLIP that the layers were trained on: ``PretrainedEncoder("openai/clip-vit-large-patch14")``.
        """
        self.path = Path(weights)
        self.encoder = encoder
        require_layers(self.path)

    def __repr__(self) -> str:
        return f"LaionAesthetic({str(self.path)!r}, encoder={self.encoder!r})"

    @cached_property
    def name(self) -> str:
        """``laion-aesthetic``, the beginning of the sha256 of the layers' file, and the encoder."""
        return f"laion-aesthetic {short_digest(self.path)} on {self.encoder.name}"

    @torch.no_grad()
    def predict(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, " t"]:
        """One score a frame."""
        return self.judge(self.encoder.encode(list(frames)))

    @torch.no_grad()
    def judge(self, embeddings: Float32[Tensor, "t d"]) -> Float32[Tensor, " t"]:
        """One score from the embedding of each frame."""
        x = unit(embeddings)
        for weight, bias in self._layers:
            x = x @ weight.T + bias
        return x[:, 0]

    @cached_property
    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer in order; there is nothing between the layers."""
        state = read_weights(self.path, expected=LAYERS)
        # in the order of the file, which is that of the layers
        names = [key for key in state if key.endswith("weight")]
        names.sort(key=lambda key: [int(part) for part in key.split(".") if part.isdigit()])
        lacking = [key for key in names if key.removesuffix("weight") + "bias" not in state or state[key].ndim != 2]
        if lacking:
            raise ValueError(f"{self.path}: {lacking[0]} is not of a linear layer with a bias; expected {LAYERS}")
        layers = [(state[key].float(), state[key.removesuffix("weight") + "bias"].float()) for key in names]
        widths = [self.encoder.dim, *(weight.shape[0] for weight, _ in layers)]
        if not layers or [weight.shape[1] for weight, _ in layers] != widths[:-1] or widths[-1] != 1:
            shapes = [tuple(weight.shape) for weight, _ in layers]
            raise ValueError(
                f"{self.path}: layers of shapes {shapes} do not lead from the {self.encoder.dim} numbers of "
                f"{self.encoder.name} to one score; take the encoder that they were trained on"
            )
        return layers


def predicted(predictor: Predictor, batch: FrameBatch) -> Float32[Tensor, " t"]:
    """One score a frame; embeddings are shared with other metrics that look through the same encoder."""
    if isinstance(predictor, LaionAesthetic):
        return predictor.judge(batch.embeddings(predictor.encoder))
    scores = predictor.predict(batch.frames)
    if scores.shape != (len(batch),):
        raise ValueError(
            f"aesthetic: {predictor.name} gave scores of shape {tuple(scores.shape)} for {len(batch)} frames; "
            f"expected ({len(batch)},)"
        )
    return scores.detach().float().cpu()


def require_layers(path: Path) -> None:
    """Raise FileNotFoundError, which says what goes where, if the layers' file is not there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; put sa_0_4_vit_l_14_linear.pth of github.com/LAION-AI/aesthetic-predictor "
            "there, or sac+logos+ava1-l14-linearMSE.pth of "
            "github.com/christophschuhmann/improved-aesthetic-predictor"
        )
