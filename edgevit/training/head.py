"""A linear classifier on features: multinomial logistic regression with an L2 penalty, by L-BFGS in float64. Deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ITERATIONS = 200
GRADIENT, CHANGE = 1e-6, 1e-9  # of a loss of about 1, where it ends
LEAST = 1e-6  # of a channel's deviation: one that never changes says nothing


@dataclass(frozen=True, eq=False)
class LinearHead:
    """float64 weight [classes, features] and bias [classes]."""

    weight: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """Of features [N, features]."""
        return F.linear(x.double(), self.weight, self.bias)


def fit_heads(x: Tensor, y: Tensor, counts: Tensor, classes: int, penalties: Sequence[float]) -> list[LinearHead]:
    """The head of least weighted log loss plus penalty / 2 times the squared weights over standardised features, of each penalty.

    Args:
        x: features [N, features].
        y: classes int64 [N].
        counts: how much each counts [N]; scaled to sum to 1.
        classes: how many there are, also of such as have no row in ``x``.
        penalties: above 0, the strongest first: each begins where the one before ended. There is one minimum of each.
    """
    x = x.double()
    centre, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale < LEAST * max(float(scale.max()), LEAST), torch.ones_like(scale), scale)
    unit, counts = (x - centre) / scale, counts.double() / counts.double().sum()
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    heads = []
    for penalty in penalties:
        _minimise(weight, bias, unit, y, counts, penalty)
        found = weight.detach() / scale
        heads.append(LinearHead(weight=found, bias=bias.detach() - found @ centre))
    return heads


def _minimise(weight: Tensor, bias: Tensor, unit: Tensor, y: Tensor, counts: Tensor, penalty: float) -> None:
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=GRADIENT, tolerance_change=CHANGE
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(F.linear(unit, weight, bias), y, reduction="none")
        loss = (losses * counts).sum() + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
