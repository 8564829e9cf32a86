"""What calibration remembers of each GEMM's input: ranges, second moments and a bounded sample of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgevit.model.folded import Linear, plain_linear


@dataclass
class InputStatistics:
    """Running statistics of one GEMM's input, however many images pass.

    ``low`` and ``high`` are per-channel extremes [C] over every token of every image; ``products``
    [C, C] is the sum of x x^T over the same ``count`` tokens, or None if it was not asked for;
    ``tokens`` [<= limit, C] is the sample that candidate scales are compared on;
    ``output_low`` and ``output_high`` [out] are the extremes of the GEMM's output.
    """

    low: Tensor
    high: Tensor
    sample: Tensor
    output_low: Tensor
    output_high: Tensor
    products: Tensor | None = None
    count: int = 0
    used: int = 0

    @property
    def tokens(self) -> Tensor:
        """The sampled rows."""
        return self.sample[: self.used]

    @property
    def absmax(self) -> Tensor:
        """Largest magnitude per channel [C]."""
        return torch.maximum(self.high, -self.low)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in input tokens [N, C] and the GEMM's outputs [N, out]."""
        self.output_low, self.output_high = torch.minimum(self.output_low, y.amin(0)), torch.maximum(self.output_high, y.amax(0))
        self.low, self.high = torch.minimum(self.low, x.amin(0)), torch.maximum(self.high, x.amax(0))
        self.count += len(x)
        if self.products is not None:
            self.products.addmm_(x.T, x)


class Collector:
    """A `edgevit.model.folded.LinearOp` that computes the float GEMM and remembers its input.

    Each image gives an equal share of the token sample: its first token (the class token, where
    there is one) and others at random. Ranges see every token, so none of large magnitude is missed.
    """

    def __init__(self, *, images: int, tokens: int, seed: int, products: bool) -> None:
        self.statistics: dict[str, InputStatistics] = {}
        self._products = products
        self._limit = tokens
        # With more images than tokens, every stride-th image gives one.
        self._stride = -(-images // tokens)
        self._share = max(1, tokens // images)
        self._seed = seed
        # One for each GEMM, so that the sample does not depend on how images are batched.
        self._generators: dict[str, torch.Generator] = {}
        self._seen: dict[str, int] = {}

    def __call__(self, name: str, x: Tensor, weights: Linear) -> Tensor:
        """Observe x [N, T, C] of GEMM ``name`` and return the GEMM's output."""
        if name not in self.statistics:
            self.statistics[name] = self._empty(*weights.weight.shape)
        known, y = self.statistics[name], plain_linear(name, x, weights)
        known.add(x.flatten(0, -2), y.flatten(0, -2))
        for image in x:
            seen = self._seen.get(name, 0)
            self._seen[name] = seen + 1
            if seen % self._stride == 0:
                self._remember(known, image, self._generators.setdefault(name, torch.Generator().manual_seed(self._seed)))
        return y

    def _empty(self, outputs: int, channels: int) -> InputStatistics:
        return InputStatistics(
            low=torch.full((channels,), torch.inf),
            high=torch.full((channels,), -torch.inf),
            sample=torch.empty(self._limit, channels),
            output_low=torch.full((outputs,), torch.inf),
            output_high=torch.full((outputs,), -torch.inf),
            products=torch.zeros(channels, channels) if self._products else None,
        )

    def _remember(self, known: InputStatistics, image: Tensor, generator: torch.Generator) -> None:
        count = min(self._share, len(image), self._limit - known.used)
        if count <= 0:
            return
        others = torch.randperm(len(image) - 1, generator=generator)[: count - 1] + 1
        known.sample[known.used : known.used + count] = image[torch.cat([torch.zeros(1, dtype=torch.long), others])]
        known.used += count
