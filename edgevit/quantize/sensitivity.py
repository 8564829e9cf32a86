"""What each part of an INT8 model costs in accuracy, without labels: put one back into floating point, measure, next.

Leave-one-out in the full INT8 model, and not one quantized part alone in the float model: it is the
question that the search for a mixed-precision plan asks, and it sees errors that add up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.folded import FoldedVit, embed, forward, run_block, run_head
from edgevit.model.merging import Tokens
from edgevit.model.quantplan import QuantPlan, fake_quant, fake_quant_attention
from edgevit.part import LINEARS, Part
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

IMAGES = 16  # frames the scan runs on: logits of 60 groups, not accuracies, are compared


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What one part of one block costs."""

    part: Part
    kl: float
    """By how much the Kullback-Leibler divergence from the float model's scores falls without it, in nats per image."""
    noise: float
    """By how much the logits' noise power falls without it, as a share of all of it; below 0 where errors cancel."""
    macs: float
    """Its share of the model's multiply-accumulates in blocks."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Sensitivity:
        """Inverse of `edgevit.part.named`."""
        return cls(part=Part.parse(data["name"]), **{key: value for key, value in data.items() if key != "name"})


def revert(plan: QuantPlan, parts: Collection[Part]) -> QuantPlan:
    """``plan`` with ``parts`` in floating point. INT8 attention goes with its qkv or proj."""
    gone = {part.sublayer for part in parts}
    return replace(
        plan,
        linears={part: linear for part, linear in plan.linears.items() if part not in parts},
        attention={part: steps for part, steps in plan.attention.items() if part.sublayer not in gone},
    )


def int8_parts(plan: QuantPlan) -> list[Part]:
    """Everything that is INT8 in ``plan``, in network order."""
    return sorted([*plan.linears, *plan.attention])


def scan(
    model: FoldedVit, plan: QuantPlan, batch: Frame, progress: Callable[[Part], None] = lambda _part: None,
    problem_type: str = SINGLE_LABEL,
) -> list[Sensitivity]:  # fmt: skip
    """The sensitivity of every INT8 part of ``plan`` on up to `IMAGES` frames uint8 [N, H, W, 3]; ``model`` is the float one.

    ``problem_type`` is what the logits mean.
    """
    frames = torch.from_numpy(batch[:IMAGES])
    wanted, shares, found = forward(model, frames), mac_shares(plan), list[Sensitivity]()
    x, streams = embed(plan.model, frames), list[Tokens]()
    for i in range(len(plan.model.blocks)):
        streams.append(x)
        x = run_block(plan.model, i, x, fake_quant(plan), fake_quant_attention(plan))
    full = run_head(plan.model, x)
    noise = float((full - wanted).square().sum())
    for part in int8_parts(plan):
        progress(part)
        other, y = revert(plan, {part}), streams[part.block]  # what comes before it does not change
        for i in range(part.block, len(plan.model.blocks)):
            y = run_block(plan.model, i, y, fake_quant(other), fake_quant_attention(other))
        logits = run_head(plan.model, y)
        left = float((logits - wanted).square().sum())
        gain = divergence(wanted, full, problem_type) - divergence(wanted, logits, problem_type)
        found.append(Sensitivity(part=part, kl=gain, noise=(noise - left) / noise if noise else 0.0, macs=shares[part]))
    return found


def divergence(wanted: Tensor, logits: Tensor, problem_type: str = SINGLE_LABEL) -> float:
    """Mean KL(softmax(wanted) || softmax(logits)) over images [N, classes], in nats; of several labels, see `bernoulli_kl`."""
    if problem_type == MULTI_LABEL:
        return float(bernoulli_kl(wanted.double(), logits.double()).mean())
    p, q = wanted.double().log_softmax(-1), logits.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def bernoulli_kl(wanted: Tensor, logits: Tensor) -> Tensor:
    """KL(sigmoid(wanted) || sigmoid(logits)) [N], summed over independent labels, of logits [N, labels]; in nats."""
    p, there, absent = wanted.sigmoid(), F.logsigmoid(wanted), F.logsigmoid(-wanted)
    return (p * (there - F.logsigmoid(logits)) + (1 - p) * (absent - F.logsigmoid(-logits))).sum(-1)


def mac_shares(plan: QuantPlan) -> dict[Part, float]:
    """Share of the blocks' multiply-accumulates of every GEMM and attention, INT8 or not."""
    config = plan.model.config
    counts: dict[Part, int] = {}
    for i, block in enumerate(plan.model.blocks):
        tokens, attended, after = config.tokens_into(i), config.tokens_attended(i), config.tokens_after(i)
        for kind, rows in zip(LINEARS, (tokens, attended, after, after), strict=True):
            counts[Part(i, kind)] = getattr(block, kind).stored.numel() * rows
        counts[Part(i, "attention")] = 2 * attended * tokens * block.proj.inputs
    total = sum(counts.values())
    return {part: count / total for part, count in counts.items()}


def by_cost(found: list[Sensitivity]) -> list[Sensitivity]:
    """In the order to put back: most noise removed per multiply-accumulate first; parts that remove none are left out."""
    useful = [part for part in found if part.noise > 0]
    return sorted(useful, key=lambda part: -part.noise / part.macs)
