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
    return _obs(_units(inverse, size), weight)


def _units(matrix: Tensor, size: int) -> Tensor:
    """The blocks [U, size, size] on the diagonal of ``matrix`` [C, C], a copy."""
    blocks = matrix.unflatten(1, (-1, size)).unflatten(0, (-1, size))
    return blocks.diagonal(dim1=0, dim2=2).movedim(2, 0).contiguous()


def _obs(inverses: Tensor, weight: Tensor) -> Tensor:
    """`obs` of units [U] of which ``inverses`` [U, size, size] are the blocks of the inverse, and weight [out, U * size]."""
    size = inverses.shape[1]
    if size == 1:
        return weight.square().sum(0) / inverses.flatten()
    columns = weight.T.unflatten(0, (-1, size))
    return (columns * torch.linalg.solve(inverses, columns)).sum((1, 2))


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

    A batch that has gone is eliminated from the inverse, and the other columns make up for it. That is the Cholesky
    factorisation of the inverse, its pivots chosen as it goes: of what is left of the inverse only the blocks that scores want,
    and the rows of those that go, are ever computed (left-looking).
    """
    inverse, rest = _inverse(covariance, damping), weight.double()
    own, rows, left, order = _units(inverse, size), torch.empty_like(inverse), torch.arange(len(inverse) // size), list[Tensor]()
    gone = torch.empty(0, dtype=torch.int64)
    while len(left):
        scores = _obs(own[left], rest[:, channels(left, size)])
        first = scores.argsort(stable=True)[:batch]
        order.append(left[first])
        leaving, before = channels(left[first], size), rows[: len(gone)]
        what_is_left = inverse[leaving] - before[:, leaving].T @ before
        lower = factor(what_is_left[:, leaving])
        row = torch.linalg.solve_triangular(lower, what_is_left, upper=False)
        rest = rest - torch.linalg.solve_triangular(lower, rest[:, leaving].T, upper=False).T @ row
        own -= torch.einsum("kus,kut->ust", *[row.unflatten(1, (-1, size))] * 2)
        rows[len(gone) : len(gone) + len(leaving)] = row
        gone = torch.cat([gone, leaving])
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[first] = False
        left = left[stays]
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
