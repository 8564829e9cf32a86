"""What bias correction is held against, from the float model itself."""

from __future__ import annotations

from torch import Tensor

from edgevit.model.folded import FoldedVit, Linear, forward, plain_linear
from edgevit.part import Part
from edgevit.quantize.bias_correction import halves


def float_means(model: FoldedVit, images: Tensor) -> dict[Part, Tensor]:
    """Means of every GEMM's outputs over each half of ``images`` [2, out]."""
    means: dict[Part, Tensor] = {}

    def linear(part: Part, x: Tensor, weights: Linear) -> Tensor:
        y = plain_linear(part, x, weights)
        means[part] = halves(y)
        return y

    forward(model, images, linear)
    return means
