"""Round a weight so that the GEMM's output changes least, not the weight itself."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevit.model.rounding import dtype_of, weight_codes
from edgevit.numberformat import NumberFormat

DAMPING = 0.01  # share of the mean diagonal added to it, as the paper does
ATTEMPTS = 6  # in float32, in float64, then with ten times the damping each time: the last has a thousand times the mean
BLOCKS = (128, 16)  # columns that take over what is before them at once, outer and inner; changes speed, not the result


def round_gptq(weight: Tensor, scale: Tensor, second_moment: Tensor, to: NumberFormat) -> Tensor:
    """Round column by column and let the columns still to come make up for each error (GPTQ, arXiv 2210.17323).

    With H = R R^T, R upper triangular with columns divided by their diagonal, column j is rounded at w_j + sum over k < j of
    (w_k - q_k) R_kj: what the paper's updates add up to, from the Cholesky factor of H itself instead of that of its inverse.

    Args:
        weight: float32 [out, in].
        scale: float32 [out], the step of each row.
        second_moment: float32 [in, in], mean of x x^T over the GEMM's inputs, quantization noise included.
        to: what is rounded to.

    Returns:
        [out, in] in the dtype of ``to``, within plus and minus its largest value.
    """
    order = torch.argsort(second_moment.diagonal(), descending=True, stable=True)  # columns that matter most go first
    passed_on = _passed_on(second_moment[order][:, order])
    rows = weight.T[order].contiguous()  # a column of the weight is a row here: it lies in one piece
    codes, errors = torch.empty_like(rows), torch.empty_like(rows)
    outer, inner = BLOCKS
    for start in range(0, len(rows), outer):
        end = min(start + outer, len(rows))
        wanted = rows[start:end] + passed_on[:start, start:end].T @ errors[:start]
        for first in range(start, end, inner):
            last = min(first + inner, end)
            wanted[first - start : last - start] += passed_on[start:first, first:last].T @ errors[start:first]
            for j in range(first, last):
                target = wanted[j - start] + passed_on[first:j, j] @ errors[first:j]
                codes[j] = weight_codes(target / scale, to)
                torch.sub(rows[j], codes[j] * scale, out=errors[j])
    result = torch.empty_like(weight, dtype=dtype_of(to))
    result[:, order] = codes.T.to(result.dtype)
    return result


def _passed_on(second_moment: Tensor) -> Tensor:
    """R of the damped ``second_moment`` [in, in], every column divided by its diagonal: what of an error goes to which column.

    In float32; where rounding leaves the matrix indefinite, in float64, with ten times the damping as often as it takes: inputs
    that are all alike have a moment of rank one, whose other eigenvalues are what float32 made of zero.
    """
    damped = second_moment.flip(0, 1)
    mean = damped.diagonal().mean()
    # Inputs that are always zero leave the matrix singular without it.
    damping = DAMPING * mean if mean > 0 else torch.ones_like(mean)
    damped.diagonal().add_(damping)
    for attempt in range(ATTEMPTS):
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            break
        damped = damped.double()
        damped.diagonal().add_(damping * 10**attempt if attempt else 0.0)
    else:
        lower = torch.linalg.cholesky(damped)  # which says what is wrong with values that are no numbers
    upper = lower.float().flip(0, 1)
    return upper / upper.diagonal()
