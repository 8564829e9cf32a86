"""What gradients tell before anything is cut: how much each token and channel of the stream moves the logits.

An error e in the residual stream changes the logits by J e. Its square is e^T (J^T J) e, so J^T J, averaged over images,
is the metric in which errors are worth comparing (Gauss-Newton): the class token counts for more than a patch, some channels for
more than others. With random v of unit variance per logit, the gradient g of v^T logits has E[g g^T] = J^T J: no labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.devices import CPU
from edgevit.model.merging import Tokens
from edgevit.model.pixels import normalise
from edgevit.model.vit import Block, Vit
from edgevit.part import Sublayer
from edgevit.preprocess import Preprocessing
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.preprocess import Frame

PROBES = 2  # random projections of the logits per image
NEGLIGIBLE = 1e-3  # of the influence of all directions of the stream: the least ones, which add up to so much, are left out


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Of the stream behind one sublayer on the logits."""

    tokens: Tensor
    """float32 [keep], mean 1: of each token; one value per prefix token, and one that all patches share."""
    channels: Tensor
    """float64 [width, width]: E[g g^T], summed over tokens."""

    @property
    def counts(self) -> Tensor:
        """How often each token counts in a fit, float32 [keep], mean 1: the root of its influence.

        Not the influence itself: DINOv2's class token has up to 250 times that of a patch, and a fit that sees little else is
        one of hundreds of samples to thousands of weights (on 128 images worse than equal weights). Errors are judged by
        ``tokens``, though: what a small fit does to the class token must show.
        """
        roots = self.tokens.sqrt()
        return roots / roots.mean()

    @property
    def root(self) -> Tensor:
        """R [rank, width] with R^T R = ``channels``, but for the last thousandth of it: |R e|^2 is what an error e does.

        The class token's gradient dominates, and of every image there are few: a tenth of the width is rank enough.
        """
        values, vectors = torch.linalg.eigh(self.channels)
        values = values.clamp_min(0)
        rank = int((values.cumsum(0) > NEGLIGIBLE * values.sum()).sum()) or 1  # eigenvalues ascend
        return values[-rank:].sqrt()[:, None] * vectors[:, -rank:].T


def influences(
    model: Vit, contract: Preprocessing, batches: Iterable[Frame], seed: int, advance: Callable[[int], None],
    device: torch.device = CPU,
) -> list[Influence]:  # fmt: skip
    """Of every sublayer of ``model``, in network order, on frames uint8 [N, H, W, 3]; gradients are taken on ``device``."""
    model = _on(model, device)
    generator, found, count = torch.Generator().manual_seed(seed), dict[int, tuple[Tensor, Tensor]](), 0
    for batch in batches:
        streams = list[Tensor]()
        logits = _watched(model, streams, normalise(torch.from_numpy(batch), contract).to(device))
        for _ in range(PROBES):
            probe = torch.randn(logits.shape, generator=generator).to(device)
            gradients = torch.autograd.grad(logits, streams, probe, retain_graph=True, allow_unused=True)
            for place, (stream, gradient) in enumerate(zip(streams, gradients, strict=True)):
                g = torch.zeros_like(stream) if gradient is None else gradient
                tokens, channels = g.square().sum((0, 2)).to(CPU), (g.flatten(0, 1).T @ g.flatten(0, 1)).to(CPU).double()
                before = found.get(place, (0.0, 0.0))
                found[place] = tokens + before[0], channels + before[1]
        count += PROBES * len(batch)
        advance(len(batch))
    return [_influence(model, place, *sums, count) for place, sums in sorted(found.items())]


def contributions(
    model: Vit, contract: Preprocessing, batches: Iterable[Frame], targets: NDArray[Any], advance: Callable[[int], None],
    problem_type: str = SINGLE_LABEL, device: torch.device = CPU,
) -> dict[Sublayer, Tensor]:  # fmt: skip
    """Gradient of the cross entropy times activation, summed over tokens: [images, inputs of the writer] by sublayer.

    ``targets`` int64 [images] are the true classes; of a multi-label model, bool [images, classes] its labels, and the cross
    entropy is that of each label's sigmoid, summed.
    """
    model = _on(model, device)
    blocks, found, start = [cast("Block", block) for block in model.blocks], dict[Sublayer, list[Tensor]](), 0
    writers = {Sublayer(i, kind): writer for i, block in enumerate(blocks)
               for kind, writer in (("attention", block.proj), ("mlp", block.fc2))}  # fmt: skip
    for batch in batches:
        inputs: dict[Sublayer, Tensor] = {}

        def keep(place: Sublayer, x: Tensor, inputs: dict[Sublayer, Tensor] = inputs) -> None:
            inputs[place] = x

        hooks = [
            writer.register_forward_pre_hook(lambda _, x, place=place: keep(place, x[0])) for place, writer in writers.items()
        ]
        try:
            with torch.enable_grad():
                logits = model(normalise(torch.from_numpy(batch), contract).to(device))
                labels = torch.from_numpy(targets[start : start + len(batch)]).to(device)
                if problem_type == MULTI_LABEL:
                    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
                else:
                    loss = F.cross_entropy(logits, labels, reduction="sum")
                gradients = torch.autograd.grad(loss, list(inputs.values()))
        finally:
            for hook in hooks:
                hook.remove()
        for place, gradient in zip(inputs, gradients, strict=True):
            found.setdefault(place, []).append((gradient * inputs[place]).sum(1).detach().to(CPU))
        start += len(batch)
        advance(len(batch))
    return {place: torch.cat(parts) for place, parts in found.items()}


def _on(model: Vit, device: torch.device) -> Vit:
    """``model``, or a copy of it on ``device``."""
    return model if device == CPU else copy.deepcopy(model).to(device)


def _watched(model: Vit, streams: list[Tensor], images: Tensor) -> Tensor:
    """Logits with a graph; ``streams`` becomes the stream behind every sublayer."""

    def watch(_module: object, arguments: Sequence[Tensor], output: Tokens | None = None) -> None:
        streams.append(arguments[0] if output is None else output.x)

    hooks = []
    for block in model.blocks:
        hooks += [block.norm2.register_forward_pre_hook(watch), block.register_forward_hook(watch)]  # type: ignore[union-attr]
    try:
        with torch.enable_grad():
            return cast("Tensor", model(images))
    finally:
        for hook in hooks:
            hook.remove()


def _influence(model: Vit, place: int, tokens: Tensor, channels: Tensor, count: int) -> Influence:
    config, prefix = model.config, model.config.prefix_tokens
    left = config.tokens_after(place // 2)
    keep = left if place % 2 else config.tokens_attended(place // 2)
    # What attention writes to is seen behind the merge, if there is one: patches count there as they do once merged.
    shared = tokens[prefix:left].mean().expand(max(0, keep - prefix))
    tokens = torch.cat([tokens[: min(prefix, keep)], shared])
    mean = float(tokens.mean())
    weights = tokens / mean if mean > 0 else torch.ones_like(tokens)
    return Influence(tokens=weights, channels=channels / count)
