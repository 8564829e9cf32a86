"""What each part of an INT8 model costs in accuracy, without labels: put one back into floating point, measure, next.

Leave-one-out in the full INT8 model, and not one quantized part alone in the float model: it is the
question that the search for a mixed-precision plan asks, and it sees errors that add up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.folded import FoldedVit, embed, forward, run_block, run_head
from edgevit.model.quantplan import QuantPlan, fake_quant, fake_quant_attention
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.recipe import LINEARS

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

GROUPS = ("qkv", "attention", "proj", "fc1", "fc2")
IMAGES = 16  # frames the scan runs on: logits of 60 groups, not accuracies, are compared


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What one part of one block costs."""

    name: str
    """``blocks.3.fc2``, or ``blocks.3.attention``."""
    kl: float
    """By how much the Kullback-Leibler divergence from the float model's scores falls without it, in nats per image."""
    noise: float
    """By how much the logits' noise power falls without it, as a share of all of it; below 0 where errors cancel."""
    macs: float
    """Its share of the model's multiply-accumulates in blocks."""


def revert(plan: QuantPlan, names: Collection[str]) -> QuantPlan:
    """``plan`` with the GEMMs and attentions ``names`` in floating point. INT8 attention goes with its qkv or proj."""
    gone = {name.rpartition(".")[0] for name in names if name.rpartition(".")[2] in ("qkv", "proj", "attention")}
    return replace(
        plan,
        linears={name: linear for name, linear in plan.linears.items() if name not in names},
        attention={name: steps for name, steps in plan.attention.items() if name.rpartition(".")[0] not in gone},
    )


def groups(plan: QuantPlan) -> list[str]:
    """Everything that is INT8 in ``plan``, in network order."""
    names = [f"blocks.{i}.{group}" for i in range(len(plan.model.blocks)) for group in GROUPS]
    return [name for name in names if name in plan.linears or name in plan.attention]


def scan(
    model: FoldedVit, plan: QuantPlan, batch: Frame, progress: Callable[[str], None] = lambda _name: None,
    problem_type: str = SINGLE_LABEL,
) -> list[Sensitivity]:  # fmt: skip
    """The sensitivity of every INT8 part of ``plan`` on up to `IMAGES` frames uint8 [N, H, W, 3]; ``model`` is the float one.

    ``problem_type`` is what the logits mean.
    """
    frames = torch.from_numpy(batch[:IMAGES])
    wanted, shares, found = forward(model, frames), macs(plan), list[Sensitivity]()
    x, streams = embed(plan.model, frames), list[Tensor]()
    for i in range(len(plan.model.blocks)):
        streams.append(x)
        x = run_block(plan.model, i, x, fake_quant(plan), fake_quant_attention(plan))
    full = run_head(plan.model, x)
    noise = float((full - wanted).square().sum())
    for name in groups(plan):
        progress(name)
        index, other = int(name.split(".")[1]), revert(plan, {name})
        y = streams[index]  # what comes before it does not change
        for i in range(index, len(plan.model.blocks)):
            y = run_block(plan.model, i, y, fake_quant(other), fake_quant_attention(other))
        logits = run_head(plan.model, y)
        left = float((logits - wanted).square().sum())
        gain = divergence(wanted, full, problem_type) - divergence(wanted, logits, problem_type)
        found.append(Sensitivity(name=name, kl=gain, noise=(noise - left) / noise if noise else 0.0, macs=shares[name]))
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


def macs(plan: QuantPlan) -> dict[str, float]:
    """Share of the blocks' multiply-accumulates of every GEMM and attention, INT8 or not."""
    config = plan.model.config
    counts: dict[str, int] = {}
    for i, block in enumerate(plan.model.blocks):
        tokens, kept = config.tokens_into(i), config.tokens_after(i)
        for kind in LINEARS:
            counts[f"blocks.{i}.{kind}"] = getattr(block, kind).weight.numel() * (tokens if kind == "qkv" else kept)
        counts[f"blocks.{i}.attention"] = 2 * kept * tokens * block.proj.weight.shape[1]
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def by_cost(found: list[Sensitivity]) -> list[Sensitivity]:
    """In the order to put back: most noise removed per multiply-accumulate first; parts that remove none are left out."""
    useful = [part for part in found if part.noise > 0]
    return sorted(useful, key=lambda part: -part.noise / part.macs)
