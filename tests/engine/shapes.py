"""Vision Transformers of many shapes, to hold engines against torch: what a compiler may treat apart."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgevit.engine import open_session
from edgevit.export.graph import write_graph
from edgevit.model.pixels import normalise
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.vitconfig import BlockConfig
from tests.zoo import contract, frames, vit

PATCH = 2
# Prefix tokens and pooling: what the last block's queries are.
TOKENS: dict[str, dict[str, Any]] = {
    "class": {"class_token": True, "pooling": ("class",)},
    "mean": {"class_token": False, "pooling": ("mean",)},
    "class and mean": {"class_token": True, "pooling": ("class", "mean")},
    "distilled": {"class_token": True, "distillation_token": True, "pooling": ("class", "distillation")},
    "registers": {"class_token": True, "registers": 4, "pooling": ("class",)},
    "registers, mean": {"class_token": True, "registers": 1, "pooling": ("mean",)},
}
# One patch, primes, squares, powers of two, and what ViTs have at 224 pixels with patches of 16.
GRIDS = (
    (1, 1), (1, 2), (1, 3), (2, 2), (1, 5), (1, 7), (2, 4), (3, 3), (1, 11), (1, 13), (3, 5), (4, 4), (1, 17), (5, 5), (1, 31),
    (4, 8), (6, 6), (8, 8), (1, 61), (14, 14),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One shape."""

    tokens: str
    grid: tuple[int, int]
    heads: tuple[int, ...]
    """Per block."""
    head_dim: int
    width: int
    hidden: int
    batch: int = 1
    activation: str = "gelu"

    def __str__(self) -> str:
        rows, columns = self.grid
        heads = "-".join(map(str, self.heads))
        return f"{self.tokens} {rows}x{columns} heads {heads} of {self.head_dim} width {self.width} hidden {self.hidden}"


def boundaries() -> list[Case]:
    """As many heads as query tokens, where OpenVINO 2026.4 is wrong with the layout that is fastest elsewhere, and beside it."""
    found = []
    for tokens, grid, queries in (
        ("class", (2, 2), 5), ("mean", (2, 2), 4), ("mean", (4, 4), 16), ("distilled", (4, 4), 2), ("registers", (1, 3), 8),
        ("class and mean", (1, 6), 7),
    ):  # fmt: skip
        found += [Case(tokens, grid, (3, heads), 8, 24, 32) for heads in (queries - 1, queries, queries + 1)]
    return found


def drawn(seed: int, count: int) -> list[Case]:
    """``count`` shapes by chance."""
    chance, found = random.Random(seed), []
    for _ in range(count):
        heads = chance.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 24))
        found.append(Case(
            tokens=chance.choice(list(TOKENS)),
            grid=chance.choice(GRIDS),
            heads=tuple(chance.choice((heads, heads, max(1, heads - 1), 1, 0)) for _ in range(chance.choice((1, 2, 3)))),
            head_dim=chance.choice((1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 32, 48, 64, 80)),
            width=chance.choice((4, 6, 8, 12, 16, 24, 32, 33, 40, 48, 64)),
            hidden=chance.choice((0, 1, 3, 16, 17, 32, 40, 64, 96)),
            batch=chance.choice((1, 1, 2, 5)),
            activation=chance.choice(("gelu", "gelu_tanh", "quick_gelu", "relu")),
        ))  # fmt: skip
    return found


def worst(case: Case, engine: str, threads: int) -> float:
    """dB of the worst of a few frames, each inferred twice, against the model's own torch module."""
    model = vit(
        image_size=tuple(PATCH * side for side in case.grid), patch_size=PATCH, width=case.width, head_dim=case.head_dim,
        blocks=tuple(BlockConfig(heads=heads, hidden=case.hidden) for heads in case.heads), activation=case.activation,
        **TOKENS[case.tokens],
    )  # fmt: skip
    settings = contract(model.config)
    images = frames(model.config, 2 * case.batch)
    with torch.inference_mode():
        wanted = model(normalise(torch.from_numpy(images), settings)).numpy()
    graph = write_graph(QuantPlan(model=fold(model, settings)))
    with open_session(engine, graph, threads=threads) as session:
        starts = range(0, len(images), case.batch)
        found = [np.concatenate([session.infer(images[i : i + case.batch]) for i in starts]) for _ in range(2)]
    noise = max(float(np.square(each - wanted).mean(1).max()) for each in found)
    return 10 * math.log10(float(np.square(wanted).mean()) / noise) if noise else 400.0
