"""Rounding of tensors to a `NumberFormat`: the nearest value it has, ties to even."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevit.numberformat import NumberFormat


def rounded(x: Tensor, to: NumberFormat) -> Tensor:
    """The values of ``to`` nearest to ``x`` (any shape), as float32.

    What is too large is clipped in a format that comes with a scale, and infinite in one that does not.
    """
    if to.scaled:
        x = x.clamp(to.lowest, to.largest)
    return x.round() if to.kind == "int" else x.to(dtype_of(to)).float()


def quantize_input(x: Tensor, scale: float, to: NumberFormat) -> Tensor:
    """What QuantizeLinear stores of an activation ``x`` (any shape): ``x / scale`` in ``to``, as float32."""
    return rounded(x / scale, to)


def weight_codes(quotients: Tensor, to: NumberFormat) -> Tensor:
    """Weights over their scales (any shape) in ``to``, within plus and minus its largest value, as float32."""
    return rounded(quotients.clamp(-to.largest, to.largest), to)


def quantize_weight(weight: Tensor, to: NumberFormat) -> tuple[Tensor, Tensor]:
    """Nearest rounding of a weight [out, in] to ``to``, in its dtype, with its min-max scales float32 [out]."""
    scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * 2**20) / to.largest
    return weight_codes(weight / scale[:, None], to).to(dtype_of(to)), scale


def dtype_of(number_format: NumberFormat) -> torch.dtype:
    """The dtype that values, or codes, of ``number_format`` are stored in."""
    found: torch.dtype = getattr(torch, number_format.storage)
    return found
