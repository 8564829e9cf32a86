"""Squared lengths of vectors along a few random directions instead of along all axes: a sketch, for comparing candidates."""

from __future__ import annotations

import torch
from torch import Tensor


def signs(directions: int, width: int) -> Tensor:
    """S float32 [directions, width] of random signs with |S e|^2 the |e|^2 in expectation; always the same one.

    Achlioptas, "Database-friendly random projections", Journal of Computer and System Sciences 66 (2003).
    """
    drawn = torch.randint(0, 2, (directions, width), generator=torch.Generator().manual_seed(0))
    return (drawn.float() * 2 - 1) / directions**0.5
