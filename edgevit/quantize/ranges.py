"""Range estimation: how large a value the coarsest code must reach. Pure functions.

Two questions. Per channel, before channels are evened: how far may unseen images go beyond what
calibration saw (`widened`)? Then, for the one step of the whole tensor: clip nothing (min-max), or
give up the rarest values for a finer step (`percentile`, `entropy`, `mse`, `output_aware`)? Each of
these takes magnitudes or tokens and returns a clip value; the step is the clip value over the format's largest value.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgevit.model.rounding import quantize_input
from edgevit.numberformat import NumberFormat

TAIL = 4  # the TAIL-th largest image is where the tail's length is measured
CLIPS = tuple(i / 20 for i in range(20, 5, -1))  # candidates as shares of the largest magnitude, 1.0 first so that it wins ties
BINS = 2048


def widened(largest: Tensor, tail: float) -> Tensor:
    """Where values may end [...] from the largest ones [..., K] of single images, K at least 1, descending.

    The largest, and beyond it ``tail`` times the gap to the fourth largest: a channel that one image
    drives far out will be driven farther by another. Places without an image hold -inf and do not count.
    """
    top = largest[..., :TAIL]
    last = torch.where(top.isfinite(), top, top[..., :1]).amin(-1)
    return top[..., 0] + tail * (top[..., 0] - last)


def percentile(magnitudes: Tensor, share: float) -> float:
    """The magnitude that ``share`` percent of all ``magnitudes`` (any shape) do not exceed."""
    flat = magnitudes.flatten()
    rank = min(len(flat), max(1, math.ceil(len(flat) * share / 100)))
    return float(flat.kthvalue(rank).values)


def mse(magnitudes: Tensor, to: NumberFormat) -> float:
    """The clip value of least mean squared rounding and clipping error of ``magnitudes`` (any shape) in ``to``."""
    largest = float(magnitudes.max())

    def error(share: float) -> float:
        step = share * largest / to.largest
        return float((quantize_input(magnitudes, step, to) * step - magnitudes).square().mean(dtype=torch.float64))

    return largest * min(CLIPS, key=error) if largest else 0.0


def entropy(magnitudes: Tensor, to: NumberFormat) -> float:
    """The clip value whose quantized histogram diverges least (Kullback-Leibler) from the clipped one.

    TensorRT's calibration (Migacz, GTC 2017) on ``BINS`` bins of the magnitudes: as many evenly spaced codes as the
    integers of ``to`` (128 for INT8), what lies
    beyond the clip is counted into the last bin, codes spread over the occupied bins that they cover.
    """
    largest = float(magnitudes.max())
    if not largest:
        return 0.0
    counts = torch.histc(magnitudes.float(), BINS, 0, largest).double()
    counts[0] = counts[1]  # exact zeros say nothing about the step
    codes = int(to.largest) + 1
    ends = range(codes, BINS + 1, 16)
    best = min(ends, key=lambda end: _divergence(counts, end, codes))
    return largest * best / BINS


def _divergence(counts: Tensor, end: int, codes: int) -> float:
    """KL(clipped at bin ``end`` || the same in ``codes`` levels)."""
    clipped = counts[:end].clone()
    group = torch.arange(end, device=counts.device) * codes // end
    occupied = (clipped > 0).double()
    total = torch.zeros(codes, dtype=torch.float64, device=counts.device).index_add_(0, group, clipped)
    places = torch.zeros(codes, dtype=torch.float64, device=counts.device).index_add_(0, group, occupied)
    quantized = (total / places.clamp_min(1))[group] * occupied
    clipped[-1] += counts[end:].sum()
    p, q = clipped / clipped.sum(), quantized / quantized.sum()
    both = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q == 0)].sum())  # mass where the quantized histogram has none
    return float((p[both] * (p[both] / q[both]).log()).sum()) + lost


def output_aware(tokens: Tensor, weight: Tensor, to: NumberFormat) -> float:
    """The clip value with the least squared error of ``tokens`` [N, C], in ``to``, after ``weight`` [out, C].

    Unlike `mse` it sees which channels matter: the Gram-weighted search of PTQ4ViT (arXiv 2111.12293).
    """
    largest = float(tokens.abs().max())

    def error(share: float) -> float:
        step = share * largest / to.largest
        return float(((quantize_input(tokens, step, to) * step - tokens) @ weight.T).square().sum(dtype=torch.float64))

    return largest * min(CLIPS, key=error) if largest else 0.0
