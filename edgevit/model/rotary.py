"""Rotary position embedding of patches in two dimensions (arXiv 2104.09864; axial as DINOv3, arXiv 2508.10104, and EVA-02,
arXiv 2303.11331; mixed, with learnt frequencies for each head, as RoPE-ViT, arXiv 2403.13298).

Queries and keys of a head are pairs of channels, c and c + head_dim / 2, and the patch at (row, column) turns pair p by
row * f[0, p] + column * f[1, p] radians. Axial models have one of the two frequencies zero. Models that pair channels 2p and
2p + 1 are brought to this order when they are imported, which changes no score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.vitconfig import VitConfig


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """By what each token's queries and keys are turned in one block. K is 1 if all heads turn alike, else the heads."""

    frequencies: Tensor
    """float32 [K, 2, head_dim / 2]: radians per unit of row, and of column."""
    cosines: Tensor
    """float32 [K, tokens, head_dim]; 1 for prefix tokens, which are not turned. The second half repeats the first."""
    sines: Tensor
    """float32 [K, tokens, head_dim], 0 for prefix tokens; the first half is negated, to be multiplied with swapped halves."""

    @classmethod
    def of(cls, config: VitConfig, frequencies: Tensor) -> Rotation:
        """With tables for the tokens of ``config``, computed in float64."""
        rows, columns = coordinates(config)
        turns = frequencies.detach().double()
        angles = rows[:, None] * turns[:, None, 0] + columns[:, None] * turns[:, None, 1]
        angles = F.pad(angles, (0, 0, config.prefix_tokens, 0))
        cosines, sines = angles.cos().float(), angles.sin().float()
        return cls(
            frequencies=frequencies.detach(), cosines=torch.cat([cosines, cosines], -1), sines=torch.cat([-sines, sines], -1)
        )

    def heads(self, kept: Tensor) -> Rotation:
        """That of the heads int64 [heads] ``kept``."""
        if len(self.frequencies) == 1:
            return self
        return Rotation(frequencies=self.frequencies[kept], cosines=self.cosines[kept], sines=self.sines[kept])

    def to(self, device: torch.device) -> Rotation:
        """The same on ``device``."""
        return replace(
            self, frequencies=self.frequencies.to(device), cosines=self.cosines.to(device), sines=self.sines.to(device)
        )

    def __call__(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """Queries or keys [N, heads, T, head_dim], turned; T leading tokens of all are enough.

        Where tokens were merged, ``places`` [N, T', all tokens] says of which: each is turned by the mean of their rotations, as
        the mean of equal keys' scores is the score of that key under the mean of their rotations.
        """
        cosines, sines = (table if places is None else places[:, None] @ table for table in (self.cosines, self.sines))
        tokens = x.shape[-2]
        return x * cosines[..., :tokens, :] + swapped(x) * sines[..., :tokens, :]


def swapped(x: Tensor) -> Tensor:
    """The halves of the last axis, swapped."""
    return x.roll(x.shape[-1] // 2, -1)


def coordinates(config: VitConfig) -> tuple[Tensor, Tensor]:
    """Row and column float64 [patches] of each patch, in the unit of ``config.rotary``, patches in row-major order."""
    rotary = config.rotary
    assert rotary is not None
    rows, columns = (
        _along(size, rotary.coordinates, rotary.offset, None if rotary.reference is None else rotary.reference[axis])
        for axis, size in enumerate(config.grid)
    )
    return rows.repeat_interleave(len(columns)), columns.repeat(len(rows))


def _along(size: int, kind: str, offset: float, reference: int | None) -> Tensor:
    index = torch.arange(size, dtype=torch.float64)
    if kind == "centred":
        return 2 * (index + 0.5 + offset) / size - 1
    return index + offset if reference is None else (index + offset) / size * reference


def axial(turns: Tensor, *, columns_first: bool = False) -> Tensor:
    """Frequencies float32 [1, 2, head_dim / 2] of axial rotary positions, of ``turns`` float64 [head_dim / 4].

    Rows turn the first quarter of a head's channels and columns the second, or the other way round.
    """
    none = torch.zeros_like(turns)
    first, second = torch.cat([turns, none]), torch.cat([none, turns])
    return torch.stack([second, first] if columns_first else [first, second])[None].float()


def halves_order(head_dim: int) -> Tensor:
    """The order int64 [head_dim] that brings channels paired with their neighbour to pairs of halves."""
    return torch.arange(head_dim).view(-1, 2).T.flatten()
