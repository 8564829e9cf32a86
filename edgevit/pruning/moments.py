"""First and second moments of tokens, added batch by batch: all that scores and least squares need of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-7  # of a sum of squares in float32
STRIPS = 4  # of a symmetric product: five eighths of it are computed


@dataclass(frozen=True)
class Moments:
    """Sums in float64 over tokens x [C], and over what goes with them, y [out]; ``count`` is that of the tokens' weights.

    ``x`` [C] and ``y`` [out] are sums, ``xx`` [C, C] that of x x^T, ``xy`` [C, out] that of x y^T, ``yy`` [] that of |y|^2.
    """

    count: float
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def none(cls, channels: int, outputs: int = 0) -> Moments:
        """Nothing seen yet."""
        shapes = ((channels,), (outputs,), (channels, channels), (channels, outputs), ())
        return cls(0.0, *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, x: Tensor, y: Tensor | None = None, weights: Tensor | None = None) -> Moments:
        """Moments with tokens x [N, T, C], and y [N, T, out], taken in, each as often as its ``weights`` [N, T] or [T] say.

        The sums are changed in place. One batch is multiplied in the tokens' own precision, batches are added in float64.
        """
        y = x[..., :0] if y is None else y
        weights = torch.ones(x.shape[1]) if weights is None else weights
        each = weights.expand(x.shape[:2]).reshape(-1, 1)
        x, y = x.flatten(0, 1), y.flatten(0, 1)
        weighted = x * each
        self.x.add_(weighted.sum(0))
        self.y.add_((y * each).sum(0))
        self._add_products(weighted, x)
        self.xy.add_(weighted.T @ y)
        self.yy.add_((y.double().square() * each).sum())
        return Moments(self.count + float(each.sum(dtype=torch.float64)), self.x, self.y, self.xx, self.xy, self.yy)

    def _add_products(self, weighted: Tensor, x: Tensor) -> None:
        """Add the symmetric ``weighted``^T x to ``xx``, strip by strip: what lies below the diagonal is copied from above."""
        channels = len(self.xx)
        width = max(1, -(-channels // STRIPS))
        for start in range(0, channels, width):
            end = min(start + width, channels)
            strip = weighted[:, :end].T @ x[:, start:end]
            self.xx[:end, start:end].add_(strip)
            self.xx[start:end, :start].add_(strip[:start].T)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of tokens."""
        pairs = ((self.x, other.x), (self.y, other.y), (self.xx, other.xx), (self.xy, other.xy), (self.yy, other.yy))
        return Moments(self.count + other.count, *(a + b for a, b in pairs))

    @property
    def mean(self) -> Tensor:
        """Mean of x [C]."""
        return self.x / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance of x [C, C], with what the products of float32 may have lost on its diagonal: inputs may never vary."""
        lost = ROUNDING * self.xx.diagonal() / self.count
        return self.xx / self.count - torch.outer(self.mean, self.mean) + torch.diag(lost)

    @property
    def cross_covariance(self) -> Tensor:
        """Covariance of x and y [C, out]."""
        return self.xy / self.count - torch.outer(self.mean, self.y / self.count)
