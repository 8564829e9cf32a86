"""What the first pass found, as bytes: asking for 30 % after 20 % does not look at every sublayer again."""

from __future__ import annotations

import json
from collections.abc import Sequence

import safetensors.torch
from torch import Tensor

from edgevit.pruning.candidates import CutCandidate
from edgevit.pruning.gradients import Influence
from edgevit.pruning.sublayers import Cut

Found = tuple[tuple[tuple[CutCandidate, ...], ...], tuple[Influence, ...]]
"""Per sublayer in network order, candidates and influence."""


def dump_found(candidates: Sequence[Sequence[CutCandidate]], influences: Sequence[Influence]) -> bytes:
    """One safetensors file; what is no tensor is in its metadata."""
    tensors: dict[str, Tensor] = {}
    for place, influence in enumerate(influences):
        tensors[f"{place}.tokens"] = influence.tokens.contiguous()
        tensors[f"{place}.channels"] = influence.channels.contiguous()
    for place, offered in enumerate(candidates):
        for number, candidate in enumerate(offered):
            tensors[f"{place}.{number}"] = candidate.cut.kept.contiguous()
    table = [[(candidate.cut.left, candidate.harm) for candidate in offered] for offered in candidates]
    return safetensors.torch.save(tensors, {"candidates": json.dumps(table)})


def load_found(content: bytes) -> Found:
    """What `dump_found` wrote, to the bit."""
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    table = json.loads(header["__metadata__"]["candidates"])
    candidates = tuple(
        tuple(
            CutCandidate(cut=Cut(left=left, kept=tensors[f"{place}.{number}"]), harm=harm)
            for number, (left, harm) in enumerate(offered)
        )
        for place, offered in enumerate(table)
    )
    influences = tuple(
        Influence(tokens=tensors[f"{place}.tokens"], channels=tensors[f"{place}.channels"]) for place in range(len(table))
    )
    return candidates, influences
