"""What calibration remembers of each GEMM's input: extremes, second moments and a bounded sample of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgevit.model.folded import Linear, plain_linear
from edgevit.part import Part

STRIPS = 4  # of a symmetric product: five eighths of it are computed
TOP = 5  # images whose extremes are kept per channel: one to leave out, four to see how the tail ends


@dataclass
class Extremes:
    """Per channel the ``TOP`` largest values that single images reached, and which images those were.

    ``values`` float32 [C, TOP] descend; ``images`` int64 [C, TOP] are positions in the calibration
    set. Places that no image has filled hold -inf and -1.
    """

    values: Tensor
    images: Tensor

    @classmethod
    def none(cls, channels: int, device: torch.device | None = None) -> Extremes:
        """Nothing seen yet."""
        return cls(torch.full((channels, TOP), -torch.inf, device=device), torch.full((channels, TOP), -1, device=device))

    def add(self, largest: Tensor, first_image: int) -> None:
        """Take in the largest values [N, C] of images ``first_image``, ``first_image + 1``, ..."""
        numbers = torch.arange(first_image, first_image + len(largest), device=largest.device).expand(largest.shape[1], -1)
        values, images = torch.cat([self.values, largest.T], 1), torch.cat([self.images, numbers], 1)
        self.values, order = values.topk(TOP, dim=1)
        self.images = images.gather(1, order)

    def without(self, images: Tensor) -> Tensor:
        """``values`` [N, C, TOP - 1] as they would be had each of ``images`` int64 [N] alone not been seen."""
        own = self.images == images[:, None, None]
        shift = own.cumsum(2)[..., :-1] > 0  # behind the image's own place all move up
        return torch.where(shift, self.values[:, 1:], self.values[:, :-1])


@dataclass
class InputStatistics:
    """Running statistics of one GEMM's input, however many images pass.

    ``highs`` and ``lows`` are per-channel extremes over every token of every image (``lows`` of -x);
    ``total`` [C] is the sum of x and ``products`` [C, C] that of x x^T over the same ``count`` tokens, its upper triangle
    alone (None if it was not asked for); ``sample`` [limit, C] holds the ``used`` tokens that candidates are
    compared on, of images ``owners`` [limit], each standing for ``weights`` [limit] tokens of its image;
    ``output_low`` and ``output_high`` [out] are the extremes of the GEMM's output, ``output_means`` [out] its mean over each
    image's tokens, image by image.
    """

    highs: Extremes
    lows: Extremes
    sample: Tensor
    owners: Tensor
    weights: Tensor
    output_low: Tensor
    output_high: Tensor
    total: Tensor
    output_means: list[Tensor] = field(default_factory=list)
    products: Tensor | None = None
    count: int = 0
    used: int = 0
    images: int = 0

    @property
    def tokens(self) -> Tensor:
        """The sampled rows [N, C]."""
        return self.sample[: self.used]

    @property
    def shares(self) -> Tensor:
        """What each sampled row stands for, as shares [N, 1] of all tokens."""
        weights = self.weights[: self.used, None]
        return weights / weights.sum()

    @property
    def mean(self) -> Tensor:
        """Mean per channel [C]."""
        return self.total / self.count

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in the input tokens [N, T, C] of N images and the GEMM's outputs [N, T, out]."""
        self.highs.add(x.amax(1), self.images)
        self.lows.add(-x.amin(1), self.images)
        self.output_low = torch.minimum(self.output_low, y.amin((0, 1)))
        self.output_high = torch.maximum(self.output_high, y.amax((0, 1)))
        self.output_means += y.mean(1).unbind()
        self.images += len(x)
        flat = x.flatten(0, 1)
        self.count += len(flat)
        self.total += flat.sum(0)
        if self.products is not None:
            add_products(self.products, flat)

    @property
    def second_moment(self) -> Tensor:
        """Mean of x x^T [C, C]. Only where products were asked for."""
        assert self.products is not None
        upper = self.products.triu() / self.count
        return upper + upper.triu(1).T

    def remember(self, image: Tensor, owner: int, others: Tensor, share: int) -> None:
        """Put tokens of one ``image`` [T, C] into the sample, at most ``share``: the first, ``others`` (indices), the largest.

        The largest stands for itself alone, whatever else was drawn; the others share the image between them.
        """
        largest = image.abs().amax(1).argmax()[None]
        first = torch.zeros(1, dtype=torch.long, device=image.device)
        chosen = torch.cat([first, others.to(image.device), largest])[: min(share, len(self.sample) - self.used)]
        place = slice(self.used, self.used + len(chosen))
        self.sample[place], self.owners[place] = image[chosen], owner
        self.weights[place] = len(image) / (1 + len(others))
        self.weights[place][1 + len(others) :] = 1.0
        self.used += len(chosen)


def add_products(sums: Tensor, x: Tensor) -> None:
    """Add x^T x of tokens x [N, C] to the upper triangle of ``sums`` [C, C], strip by strip; what lies below is of no meaning."""
    channels = len(sums)
    width = -(-channels // STRIPS)
    for start in range(0, channels, width):
        end = min(start + width, channels)
        sums[:end, start:end].addmm_(x[:, :end].T, x[:, start:end])


class Collector:
    """A `edgevit.model.folded.LinearOp` that computes the float GEMM and remembers its input.

    Each image gives an equal share of the token sample: its first token (the class token, where
    there is one), others at random, and the one with the largest value (an outlier token, where there
    is one). Extremes see every token, so none of large magnitude is missed.
    """

    def __init__(self, *, images: int, tokens: int, seed: int, products: bool) -> None:
        self.statistics: dict[Part, InputStatistics] = {}
        self._products = products
        self._limit = tokens
        # With more images than tokens, every stride-th image gives some.
        self._stride = -(-images // tokens)
        self._share = max(1, tokens // images)
        self._seed = seed
        # One for each GEMM, so that the sample does not depend on how images are batched.
        self._generators: dict[Part, torch.Generator] = {}

    def __call__(self, part: Part, x: Tensor, weights: Linear) -> Tensor:
        """Observe x [N, T, C] of GEMM ``part`` and return the GEMM's output."""
        if part not in self.statistics:
            self.statistics[part] = self._empty(weights.outputs, weights.inputs, x.device)
            self._generators[part] = torch.Generator().manual_seed(self._seed)
        known, y = self.statistics[part], plain_linear(part, x, weights)
        for number, image in enumerate(x, known.images):
            if number % self._stride == 0 and known.used < self._limit:
                known.remember(image, number, self._others(len(image), self._generators[part]), self._share)
        known.add(x, y)
        return y

    def _others(self, tokens: int, generator: torch.Generator) -> Tensor:
        count = max(0, min(self._share, tokens) - 2)
        return torch.randperm(tokens - 1, generator=generator)[:count] + 1

    def _empty(self, outputs: int, channels: int, device: torch.device) -> InputStatistics:
        return InputStatistics(
            highs=Extremes.none(channels, device),
            lows=Extremes.none(channels, device),
            sample=torch.empty(self._limit, channels, device=device),
            owners=torch.empty(self._limit, dtype=torch.long, device=device),
            weights=torch.empty(self._limit, device=device),
            output_low=torch.full((outputs,), torch.inf, device=device),
            output_high=torch.full((outputs,), -torch.inf, device=device),
            total=torch.zeros(channels, device=device),
            products=torch.zeros(channels, channels, device=device) if self._products else None,
        )
