"""Round a weight so that the GEMM's output changes least, not the weight itself."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevit.model.rounding import dtype_of, weight_codes
from edgevit.numberformat import NumberFormat

DAMPING = 0.01  # share of the mean diagonal added to it, as the paper does
BLOCK = 128  # columns whose corrections are applied to the rest at once; changes speed, not the result


def round_gptq(weight: Tensor, scale: Tensor, second_moment: Tensor, to: NumberFormat) -> Tensor:
    """Round column by column and let the columns still to come make up for each error (GPTQ, arXiv 2210.17323).

    Args:
        weight: float32 [out, in].
        scale: float32 [out], the step of each row.
        second_moment: float32 [in, in], mean of x x^T over the GEMM's inputs, quantization noise included.
        to: what is rounded to.

    Returns:
        [out, in] in the dtype of ``to``, within plus and minus its largest value.
    """
    order = torch.argsort(second_moment.diagonal(), descending=True, stable=True)  # columns that matter most go first
    factor = _error_propagation(second_moment[order][:, order])
    rest, codes = weight[:, order].clone(), torch.empty_like(weight)
    columns = weight.shape[1]
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        block, errors, local = rest[:, start:end].clone(), [], factor[start:end, start:end]
        for j in range(end - start):
            codes[:, start + j] = weight_codes(block[:, j] / scale, to)
            errors.append((block[:, j] - codes[:, start + j] * scale) / local[j, j])
            block[:, j + 1 :] -= errors[-1][:, None] * local[j, j + 1 :]
        rest[:, end:] -= torch.stack(errors, 1) @ factor[start:end, end:]
    result = torch.empty_like(codes)
    result[:, order] = codes
    return result.to(dtype_of(to))


def _error_propagation(second_moment: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped ``second_moment``, float32."""
    damped = second_moment.double().clone()
    diagonal = damped.diagonal()
    mean = diagonal.mean()
    # Inputs that are always zero leave the matrix singular without it.
    diagonal += DAMPING * mean if mean > 0 else 1.0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()
