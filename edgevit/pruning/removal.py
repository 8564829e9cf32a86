"""What the columns of a weight that stay take over from those that go, however many go (CORP, arXiv 2602.05243)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import Refit, damped, factor
from edgevit.pruning.scores import DAMPING


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The input channels of a layer, and the one Cholesky factor that serves every number of them that goes.

    With those that stay longest in front, the channels that are left lead the covariance, whatever their number; and the leading
    block of a Cholesky factor is the factor of the leading block.
    """

    channels: Tensor
    """int64 [C], the one that stays longest first."""
    factor: Tensor
    """float64 [C, C], lower, of their damped covariance in that order."""
    mean: Tensor
    """float64 [C], of each channel, by number."""

    @classmethod
    def of(cls, moments: Moments, channels: Tensor) -> Removal:
        """Of ``moments`` on the images that the others are fitted to. Raises CheckpointError if they are not finite."""
        covariance = damped(moments.covariance, DAMPING)
        return cls(channels=channels, factor=factor(covariance[channels][:, channels]), mean=moments.mean)

    def change(self, weight: Tensor, staying: int) -> Refit:
        """How ``weight`` [out, C], float64, and the bias change if ``staying`` channels are left: the others become zero."""
        stay, go = self.channels[:staying], self.channels[staying:]
        lower, below = self.factor[:staying, :staying], self.factor[staying:, :staying]
        change = torch.zeros_like(weight)
        change[:, go] = -weight[:, go]
        change[:, stay] = torch.linalg.solve_triangular(lower.T, (weight[:, go] @ below).T, upper=True).T
        return Refit(kind="ridge", ridge=DAMPING, weight=change, bias=-change @ self.mean)
