"""Linear layers that use the faster of two libraries for their matrix products."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_HAS_AVX512 = (
    torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # not a public name of torch, so it may disappear
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
)


class Linear(nn.Linear):
    """A linear layer that uses oneDNN's matrix product where that is faster, see `prefers_onednn`."""

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Product with the weight, plus the bias; both libraries give the same numbers up to rounding."""
        if prefers_onednn(x, self.weight):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return super().forward(x)


class GELULinear(Linear):
    """A linear layer followed by GELU in its tanh form, which oneDNN computes in the same pass over memory."""

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """GELU of the product with the weight plus the bias."""
        if prefers_onednn(x, self.weight):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "tanh")
        return F.gelu(super().forward(x), approximate="tanh")


def prefers_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to multiply `x` by a weight.

    In full precision torch itself uses MKL, which on an AMD EPYC with AVX-512 is half as fast as oneDNN. So oneDNN is
    used on CPUs with AVX-512 where no gradient is needed, since its kernel has none. It is not used under autocast, nor
    under torch's compiler, which chooses by itself. `torch.backends.mkldnn.enabled = False` turns it off.
    """
    if not (x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.enabled):
        return False
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    return _HAS_AVX512 and not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
