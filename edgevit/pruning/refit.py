"""Ridge regression from moments: what a pruned layer's remaining inputs can say of what it lost.

Weights are drawn towards those the layer has, not towards zero, so that the strongest ridge is a change of the bias alone.
How strong it is, and whether there is a change at all, is decided on images that the regression has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.sketch import signs
from edgevit.pruning.moments import Moments

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # shares of each input's variance
JITTER = 1e-10  # of the largest variance, to begin with
COMPARED = 128  # directions of the output that ridges are compared along: a sixth of ViT-B's, the same choices
FLOOR = 1e-9  # of the mean variance: keeps inputs that never vary out of the way


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A change of a linear layer: weight [out, C] and bias [out], float64, to be added."""

    kind: str
    """``ridge``, ``bias``, or ``none``: no change."""
    ridge: float
    """The share of each input's variance; 0 if ``kind`` is not ridge."""
    weight: Tensor
    bias: Tensor


def unchanged(moments: Moments) -> Refit:
    """No change."""
    return Refit(kind="none", ridge=0.0, weight=torch.zeros_like(moments.xy.T), bias=torch.zeros_like(moments.y))


def bias_only(moments: Moments) -> Refit:
    """The change of the bias that leaves least error: y's mean."""
    return Refit(kind="bias", ridge=0.0, weight=torch.zeros_like(moments.xy.T), bias=moments.y / moments.count)


def ridge_refit(moments: Moments, ridge: float) -> Refit:
    """The change that leaves least |y - weight x - bias|^2 + ridge sum_c var(x_c) |weight_c|^2.

    y is what the layer's output lacks. In units of each input's own deviation, the ridge is the same for all.
    """
    weight = solve(damped(moments.covariance, ridge), moments.cross_covariance).T
    return Refit(kind="ridge", ridge=ridge, weight=weight, bias=moments.y / moments.count - weight @ moments.mean)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix^-1 right, for a positive definite ``matrix`` [C, C]."""
    return torch.cholesky_solve(right, factor(matrix))


def factor(matrix: Tensor) -> Tensor:
    """The Cholesky factor of a covariance [C, C] with, where rounding made it indefinite, the least jitter that helps.

    Raises CheckpointError if it is not finite.
    """
    scale, jitter = float(matrix.diagonal().abs().max()) or 1.0, 0.0
    while jitter < 1e4:
        found, info = torch.linalg.cholesky_ex(matrix + jitter * scale * torch.eye(len(matrix), dtype=matrix.dtype))
        if not int(info) and bool(found.isfinite().all()):
            return found
        jitter = max(JITTER, 10 * jitter)
    msg = "the model's activations on the calibration images are not finite numbers. Does it classify them?"
    raise CheckpointError(msg)


def damped(covariance: Tensor, ridge: float) -> Tensor:
    """``covariance`` [C, C] with the share ``ridge`` of its diagonal added to it, and never singular."""
    variances = covariance.diagonal().clamp(min=0)
    floor = FLOOR * float(variances.mean()) or 1.0
    return covariance + torch.diag(ridge * variances + floor)


def mean_error(moments: Moments, refit: Refit) -> float:
    """Mean of |y - weight x - bias|^2 over the tokens of ``moments``."""
    weight, bias = refit.weight, refit.bias
    quadratic = ((weight @ moments.xx) * weight).sum() - 2 * (weight.T * moments.xy).sum()
    linear = 2 * bias @ (weight @ moments.x - moments.y)
    return float(moments.yy + quadratic + linear) / moments.count + float(bias @ bias)


def held_out_refit(fit: Moments, held_out: Moments) -> Refit:
    """Of no change, a bias, and ridges: the one that, made on ``fit``, leaves least error on ``held_out``; made anew on both.

    Wide outputs are compared along `COMPARED` random directions.
    """
    ours, theirs = _sketched(fit), _sketched(held_out)
    ridges = [ridge_refit(ours, ridge) for ridge in RIDGES] if len(fit.x) else []  # a bias alone reads nothing
    best = min([unchanged(ours), bias_only(ours), *ridges], key=lambda refit: mean_error(theirs, refit))
    if best.kind == "none":
        return unchanged(fit)
    together = fit + held_out
    return bias_only(together) if best.kind == "bias" else ridge_refit(together, best.ridge)


def _sketched(moments: Moments) -> Moments:
    """``moments`` of y along few directions; without |y|^2, which no candidate changes."""
    if len(moments.y) <= COMPARED:
        return moments
    along = signs(COMPARED, len(moments.y)).double()
    return replace(moments, y=along @ moments.y, xy=moments.xy @ along.T, yy=torch.zeros_like(moments.yy))
