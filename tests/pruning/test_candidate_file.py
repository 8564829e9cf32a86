"""What the first pass found survives its file to the bit."""

from __future__ import annotations

import torch

from edgevit.pruning.candidate_file import dump_found, load_found
from edgevit.pruning.candidates import CutCandidate
from edgevit.pruning.gradients import Influence
from edgevit.pruning.sublayers import Cut


def test_what_is_written_is_read() -> None:
    """A harm that no decimal holds, a cut without units, and influences of different lengths."""
    candidates = (
        (
            CutCandidate(cut=Cut.part(torch.tensor([0, 2, 3])), harm=0.0),
            CutCandidate(cut=Cut.part(torch.tensor([2])), harm=1 / 3),
        ),
        (CutCandidate(cut=Cut.gone("map"), harm=1e-300), CutCandidate(cut=Cut.gone("bias"), harm=float("inf"))),
    )
    influences = tuple(
        Influence(tokens=torch.rand(n), channels=torch.eye(3, dtype=torch.float64)[:, [2, 0, 1]] * torch.pi) for n in (5, 1)
    )
    found, weights = load_found(dump_found(candidates, influences))
    assert [[(item.harm, item.cut.left, item.cut.kept.tolist()) for item in offered] for offered in found] == [
        [(0.0, "part", [0, 2, 3]), (1 / 3, "part", [2])],
        [(1e-300, "map", []), (float("inf"), "bias", [])],
    ]
    for one, other in zip(weights, influences, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.channels, other.channels)
        assert one.channels.dtype == torch.float64
    assert found[0][0].cut.kept.dtype == torch.int64
