"""Which heads and hidden neurons to take out: scores, and the order in which units go.

A unit is one or more input channels of the layer that writes to the residual stream: a hidden neuron is one channel of
fc2, with its row of fc1; a head is head_dim channels of proj, with its rows of qkv. a_j is the activation of a channel,
w_j its column of weights. All scores are pure functions; the lowest goes first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgevit.pruning.refit import damped, factor

DAMPING = 0.01  # share of each activation's variance: on few tokens the inverse believes too much
BATCH = 32  # neurons taken out between two looks at the scores; heads go one by one


def variance(covariance: Tensor) -> Tensor:
    """Score [C]: the variance of a_j, whose mean a bias can keep (VBP, arXiv 2507.12988)."""
    return covariance.diagonal().clone()


def wifv(covariance: Tensor, weight: Tensor) -> Tensor:
    """Score [C]: var(a_j) |w_j|^2, the output error if a bias keeps the mean (FLAP, arXiv 2312.11983); weight [out, C]."""
    return covariance.diagonal() * weight.double().square().sum(0)


def obs(inverse: Tensor, weight: Tensor, size: int = 1) -> Tensor:
    """Score [C / size] of units of ``size`` channels: the output error that is left if all other columns make up for the unit.

    ``inverse`` [C, C] is that of the covariance, both float64; weight [out, C]. For one channel |w_j|^2 / [inverse]_jj, as in
    the optimal brain surgeon for the squared error of the layer's output, means removed; for a head the trace of W S W^T
    with the Schur complement S = ([inverse]_uu)^-1.
    """
    if size == 1:
        return weight.square().sum(0) / inverse.diagonal()
    scores = []
    for start in range(0, len(inverse), size):
        unit = slice(start, start + size)
        scores.append((weight[:, unit] * torch.linalg.solve(inverse[unit, unit], weight[:, unit].T).T).sum())
    return torch.stack(scores)


def taylor(contributions: Tensor, size: int = 1) -> Tensor:
    """Score [C / size] of units: mean over images of (sum of gradient times activation)^2.

    ``contributions`` [N, C] hold, by image, that sum over the tokens of a channel; the loss needs labels. First-order
    Taylor expansion of the loss (arXiv 1906.10771), as in NViT (arXiv 2110.04869).
    """
    return contributions.double().unflatten(1, (-1, size)).sum(2).square().mean(0)


def summed(scores: Tensor, size: int) -> Tensor:
    """Scores of channels [C] added up over units of ``size`` channels, [C / size]."""
    return scores.unflatten(0, (-1, size)).sum(1)


def ascending(scores: Tensor) -> Tensor:
    """All units int64 [U], the one to go first first, by scores that do not change as others go."""
    return scores.argsort(stable=True)


def obs_order(
    covariance: Tensor, weight: Tensor, size: int = 1, batch: int = BATCH, damping: float = DAMPING
) -> Tensor:  # fmt: skip
    """All units int64 [U], the one to go first first: by `obs`, looked at again after every ``batch``.

    A batch that has gone is eliminated from the inverse, and the other columns make up for it (rank-``batch`` downdate).
    """
    inverse, rest = _inverse(covariance, damping), weight.double()
    left, order = torch.arange(len(inverse) // size), list[Tensor]()
    while len(left):
        chosen = obs(inverse, rest, size).argsort(stable=True)[:batch]
        order.append(left[chosen])
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[chosen] = False
        left, gone, kept = left[stays], channels(chosen, size), stays.repeat_interleave(size).nonzero().flatten()
        share = torch.linalg.solve(inverse[gone][:, gone], inverse[gone][:, kept])
        rest = rest[:, kept] - rest[:, gone] @ share
        inverse = inverse[kept][:, kept] - inverse[kept][:, gone] @ share
    return torch.cat(order)


def channels(units: Tensor, size: int) -> Tensor:
    """The channels int64 of ``units`` int64 [K] of ``size`` channels each."""
    return (units[:, None] * size + torch.arange(size)).flatten()


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "variance": lambda covariance, _weight: variance(covariance),
    "wifv": wifv,
}
"""Scores of channels that need covariance and weight alone and do not change as others go."""


def _inverse(covariance: Tensor, damping: float) -> Tensor:
    return torch.cholesky_inverse(factor(damped(covariance, damping)))
