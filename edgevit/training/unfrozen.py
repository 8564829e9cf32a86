"""Which part of a ViT learns, and how fast; the part in front of it is frozen and runs without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgevit.errors import ConfigError
from edgevit.model.merging import Tokens
from edgevit.model.vit import Vit
from edgevit.vitconfig import VitConfig

WORKSPACE = 3 * 2**29
"""Bytes that activations of one backward pass may take, about: larger batches go in parts, whose gradients add up."""


@dataclass(frozen=True)
class Cut:
    """Between what is frozen and what learns."""

    first: int | None
    """The first block that learns; None: everything learns, the embedding, too."""

    @classmethod
    def of(cls, config: VitConfig, unfreeze: int | Literal["all"]) -> Cut:
        """For so many blocks. Raises ConfigError for more than there are."""
        if unfreeze == "all":
            return cls(None)
        if unfreeze > len(config.blocks):
            msg = f"--unfreeze {unfreeze}: the backbone has {len(config.blocks)} blocks. Give as many or fewer, or all."
            raise ConfigError(msg)
        return cls(len(config.blocks) - unfreeze)

    @torch.no_grad()
    def front(self, model: Vit, images: Tensor) -> Tokens | Tensor:
        """What the part that learns takes of normalised images: tokens in front of the first block, or the images themselves."""
        return images if self.first is None else model.through(Tokens(model.embed(images)), 0, self.first)

    def logits(self, model: Vit, taken: Tokens | Tensor) -> Tensor:
        """Logits [N, classes] of what `front` gave."""
        if not isinstance(taken, Tokens):
            return model(taken)
        tokens = model.through(taken, self.first or 0)
        return model.head(model.features_of(tokens.with_x(model.norm(tokens.x))))

    def parts(self, model: Vit) -> Iterator[tuple[nn.Module | nn.Parameter, int]]:
        """What learns, and how many steps in front of the head it lies."""
        count = len(model.blocks)
        yield from ((part, 0) for part in (model.norm, model.attention_pool, model.pooled_norm, model.projection, model.head)
                    if part is not None)  # fmt: skip
        for index in range(self.first or 0, count):
            yield model.blocks[index], count - index
        if self.first is None:
            yield from ((part, count + 1) for part in (model.patch_embedding, model.patch_norm, model.prefix, model.positions,
                                                       model.embedding_norm) if part is not None)  # fmt: skip

    def parameters(self, model: Vit) -> dict[str, tuple[nn.Parameter, int]]:
        """By its name in ``model``, each parameter that learns, and how many steps in front of the head it lies."""
        steps = {id(parameter): depth for part, depth in self.parts(model)
                 for parameter in ([part] if isinstance(part, nn.Parameter) else part.parameters())}  # fmt: skip
        return {name: (parameter, steps[id(parameter)]) for name, parameter in model.named_parameters() if id(parameter) in steps}

    def groups(self, model: Vit, *, rate: float, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
        """Those of an optimizer, each with its peak learning rate: vectors, which norms, biases and tokens are, do not decay."""
        found: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, (parameter, depth) in self.parameters(model).items():
            decays = parameter.ndim > 1 and name not in ("prefix", "positions")
            found.setdefault((depth, decays), []).append(parameter)
        return [
            {"params": parameters, "peak": rate * layer_decay**depth, "weight_decay": weight_decay * decays}
            for (depth, decays), parameters in found.items()
        ]

    def at_once(self, config: VitConfig, batch: int) -> int:
        """How many of ``batch`` images pass through what learns in one go; the same whatever memory is free, so runs repeat."""
        floats = 0
        for block in config.blocks[self.first or 0 :]:
            scores = block.heads * config.tokens**2
            floats += config.tokens * (8 * config.width + 4 * block.heads * config.head_dim + 4 * block.hidden) + scores
        return max(1, min(batch, WORKSPACE // (4 * max(1, floats))))
