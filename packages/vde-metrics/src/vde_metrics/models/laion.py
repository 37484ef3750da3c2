"""LAION's aesthetic predictors: linear layers on the image embedding of a CLIP."""

from functools import cached_property
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vde_metrics.models.digest import short_digest
from vde_metrics.models.embeddings import unit
from vde_metrics.models.weight_files import read_weights
from vde_metrics.protocols import Encoder

LAYERS = "linear layers, as in sa_0_4_vit_l_14_linear.pth or sac+logos+ava1-l14-linearMSE.pth"


class LaionAesthetic:
    """LAION's aesthetic predictors: linear layers on the normalised image embedding of a CLIP.

    Scores are about 1 to 10. There are two files, both for ``openai/clip-vit-large-patch14``:
    ``sa_0_4_vit_l_14_linear.pth`` of LAION-AI/aesthetic-predictor, which VBench uses, and
    ``sac+logos+ava1-l14-linearMSE.pth`` of christophschuhmann/improved-aesthetic-predictor. They are read as plain
    tensors; no code in a file is run.
    """

    def __init__(self, weights: str | PathLike[str], *, encoder: Encoder) -> None:
        """Find the layers. They are read when the first frame is scored.

        Args:
            weights: one of the two files, or the same tensors as ``.safetensors``.
            encoder: the CLIP that the layers were trained on: ``PretrainedEncoder("openai/clip-vit-large-patch14")``.

        Raises:
            FileNotFoundError: if the file is missing. The message says which file is needed, and where.
        """
        self.path = Path(weights)
        self.encoder = encoder
        require_layers(self.path)

    def __repr__(self) -> str:
        return f"LaionAesthetic({str(self.path)!r}, encoder={self.encoder!r})"

    @cached_property
    def name(self) -> str:
        """``laion-aesthetic``, the first digits of the sha256 of the file, and the name of the encoder."""
        return f"laion-aesthetic {short_digest(self.path)} on {self.encoder.name}"

    @torch.no_grad()
    def predict(self, frames: UInt8[Tensor, "t h w 3"]) -> Float32[Tensor, " t"]:
        """One score per frame."""
        return self.predict_from(self.encoder.encode(list(frames)))

    @torch.no_grad()
    def predict_from(self, embeddings: Float32[Tensor, "t d"]) -> Float32[Tensor, " t"]:
        """One score per embedding."""
        x = unit(embeddings)
        for weight, bias in self._layers:
            x = x @ weight.T + bias
        return x[:, 0]

    @cached_property
    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer, in order. There are no activations between the layers."""
        state = read_weights(self.path, expected=LAYERS)
        # the numbers in the names of the tensors are those of the layers
        names = [key for key in state if key.endswith("weight")]
        names.sort(key=lambda key: [int(part) for part in key.split(".") if part.isdigit()])
        lacking = [key for key in names if key.removesuffix("weight") + "bias" not in state or state[key].ndim != 2]
        if lacking:
            raise ValueError(
                f"{self.path}: {lacking[0]} does not belong to a linear layer with a bias; expected {LAYERS}"
            )
        layers = [(state[key].float(), state[key.removesuffix("weight") + "bias"].float()) for key in names]
        widths = [self.encoder.dim, *(weight.shape[0] for weight, _ in layers)]
        if not layers or [weight.shape[1] for weight, _ in layers] != widths[:-1] or widths[-1] != 1:
            shapes = [tuple(weight.shape) for weight, _ in layers]
            raise ValueError(
                f"{self.path}: layers of shapes {shapes} do not lead from the {self.encoder.dim} numbers of "
                f"{self.encoder.name} to one score; use the encoder that they were trained on"
            )
        return layers


def require_layers(path: Path) -> None:
    """Raise FileNotFoundError if the file of layers is missing. The message says which file is needed, and where."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; put sa_0_4_vit_l_14_linear.pth of github.com/LAION-AI/aesthetic-predictor "
            "there, or sac+logos+ava1-l14-linearMSE.pth of "
            "github.com/christophschuhmann/improved-aesthetic-predictor"
        )
