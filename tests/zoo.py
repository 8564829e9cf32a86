"""Tiny Vision Transformers with random, uneven weights, and frames for them: what the numeric tests share."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgevit.model.folded import FoldedVit
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import LUMA_BGR, fold
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing
from edgevit.quantize.linears import collect, quantize
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.vitconfig import BlockConfig, Rotary, VitConfig

Frames = NDArray[np.uint8]

CLASSES = 5
PLAIN: dict[str, Any] = {
    "image_size": (16, 16), "patch_size": 4, "width": 32, "head_dim": 8,
    "blocks": (BlockConfig(heads=4, hidden=48),) * 2, "classes": CLASSES,
}  # fmt: skip


def _merging(*counts: int) -> tuple[BlockConfig, ...]:
    """Blocks that merge so many tokens each, and one behind them."""
    return tuple(BlockConfig(heads=4, hidden=48, merged=count) for count in (*counts, 0))


# What may vary between ViTs, one thing (or one family's habits) at a time: changes to PLAIN.
ZOO: dict[str, dict[str, Any]] = {
    "plain": {},
    "distilled": {"distillation_token": True, "pooling": ("class", "distillation")},
    "distillation token alone": {"distillation_token": True, "pooling": ("distillation",)},
    "registers": {"registers": 3},
    "mean pooling": {"class_token": False, "pooling": ("mean",), "final_norm": "after_pooling"},
    "mean pooling beside prefix tokens": {"registers": 2, "pooling": ("mean",)},
    "class and mean pooling": {"pooling": ("class", "mean"), "layer_scale": True},
    "no final norm": {"final_norm": "none"},
    "norm after pooling": {"final_norm": "after_pooling", "pooling": ("class", "mean")},
    "embedding norm": {"embedding_norm": True, "activation": "quick_gelu"},
    "no norm in blocks": {"block_norm": False, "final_norm": "none"},
    "no qkv bias": {"qkv_bias": False},
    "layer scale": {"layer_scale": True},
    "tanh gelu": {"activation": "gelu_tanh"},
    "quick gelu": {"activation": "quick_gelu"},
    "relu": {"activation": "relu"},
    "no position embedding": {"position_embedding": False},
    "wide image": {"image_size": (8, 20)},
    "gray": {"channels": 1},
    "pruned blocks": {"blocks": tuple(BlockConfig(heads=h, hidden=w) for h, w in ((4, 48), (1, 16), (3, 40)))},
    "maps and biases": {"blocks": (
        BlockConfig(heads=0, hidden=48, attention_map=True), BlockConfig(heads=4, hidden=0, mlp_map=True),
        BlockConfig(heads=0, hidden=0), BlockConfig(heads=2, hidden=16),
    ), "layer_scale": True},
    "little left of the last block": {"blocks": (
        BlockConfig(heads=4, hidden=48), BlockConfig(heads=0, hidden=0, attention_map=True, mlp_map=True),
    )},
    "merging": {"blocks": _merging(5, 4)},
    "merging half of an odd number": {"image_size": (12, 12), "blocks": _merging(4, 2), "layer_scale": True},
    "merging beside prefix tokens": {"registers": 2, "pooling": ("class", "mean"), "blocks": _merging(0, 6)},
    "merging without prefix tokens": {
        "class_token": False, "pooling": ("mean",), "final_norm": "after_pooling", "blocks": _merging(3, 3),
    },
    "merging without norms": {
        "distillation_token": True, "pooling": ("class", "distillation"), "block_norm": False, "final_norm": "none",
        "blocks": _merging(8, 4),
    },
    "merging in pruned blocks": {"blocks": (
        BlockConfig(heads=3, hidden=0, mlp_map=True, merged=5), BlockConfig(heads=0, hidden=24, attention_map=True),
        BlockConfig(heads=1, hidden=16, merged=2), BlockConfig(heads=4, hidden=32),
    )},
    "one block": {"blocks": (BlockConfig(heads=2, hidden=24),)},
    "large epsilon": {"norm_eps": 1e-2},
    "rotary": {"rotary": Rotary(coordinates="centred"), "registers": 2, "position_embedding": False, "qkv_bias": False},
    "rotary and gated in pruned blocks": {
        "rotary": Rotary(offset=1.0, reference=(3, 5), by_head=True), "gated": True, "activation": "silu", "mlp_norm": True,
        "image_size": (8, 20), "blocks": (
            BlockConfig(heads=1, hidden=16), BlockConfig(heads=0, hidden=24, attention_map=True),
            BlockConfig(heads=3, hidden=0, mlp_map=True), BlockConfig(heads=3, hidden=40),
        ),
    },
    "rotary and merging": {"rotary": Rotary(coordinates="centred"), "registers": 1, "blocks": _merging(5, 3)},
    "rotary by head and merging": {"rotary": Rotary(by_head=True), "pooling": ("mean",), "blocks": (
        BlockConfig(heads=4, hidden=48, merged=6), BlockConfig(heads=3, hidden=24, merged=3), BlockConfig(heads=2, hidden=16),
    )},
    "RMSNorm": {"rms_norm": True, "patch_norm": True, "gated": True, "activation": "silu", "class_token": False,
                "pooling": ("mean",)},
    "RMSNorm of queries, keys and embedding": {"rms_norm": True, "query_norm": True, "embedding_norm": True, "mlp_norm": True,
                                              "pooling": ("patch_attention",), "pool_heads": 2, "pool_hidden": 40,
                                              "blocks": _merging(4, 2)},
    "a norm of patches": {"patch_norm": True, "registers": 2, "layer_scale": True},
    "norms before proj and fc2": {"attention_norm": True, "mlp_norm": True, "gated": True, "activation": "silu",
                                  "rotary": Rotary(reference=(4, 4)), "layer_scale": True},
    "norms of queries and keys": {"query_norm": True, "gated": True},
    "relative position bias": {"score_bias": True, "position_embedding": False, "layer_scale": True, "image_size": (8, 20)},
    "attention pooling": {"pooling": ("patch_attention",), "pool_heads": 2, "pool_hidden": 40, "registers": 1,
                          "activation": "gelu_tanh", "blocks": _merging(5, 3)},
    "features of length 1": {"projected": 24, "unit_features": True, "embedding_norm": True, "final_norm": "after_pooling",
                             "gives_features": True},
}  # fmt: skip


def vit(seed: int = 0, **changes: Any) -> Vit:
    """A ViT of PLAIN with ``changes``; like trained ones, it has outlier channels behind LayerNorms and in MLPs."""
    model = Vit(VitConfig(**(PLAIN | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            elif "scale" in name:
                value.copy_(0.3 + 0.1 * noise)
            elif name.endswith("bias"):
                value.copy_(0.2 * noise)
            else:
                value.copy_(noise * value[0].numel() ** -0.5)
        turns: list[Tensor] = []
        for block in model.blocks:
            if block.rotary is not None:
                turns.append(torch.randn(block.rotary.shape, generator=generator))
                block.rotary.copy_(turns[-1 if model.config.rotary.by_head else 0])  # axial ones are those of all blocks
            if model.config.block_norm:
                for norm, linear in ((block.norm1, block.qkv or block.proj), (block.norm2, block.fc1 or block.fc2)):
                    if isinstance(norm, nn.Identity):  # a bias alone reads nothing
                        continue
                    norm.weight[::13] *= 12
                    linear.weight[:, ::13] /= 12
            if block.fc1 is not None:
                block.fc1.weight[::11] *= 6
                block.fc2.weight[:, ::11] /= 6
    return model.eval()


def contract(config: VitConfig, **changes: Any) -> Preprocessing:
    """Preprocessing for a model of ``config``, with numbers that differ per channel."""
    gray = config.channels == 1
    settings: dict[str, Any] = {
        "size": config.image_size, "resize": config.image_size, "color": "gray" if gray else "rgb",
        "mean": (0.45,) if gray else (0.48, 0.45, 0.40), "std": (0.23,) if gray else (0.23, 0.22, 0.26),
    }  # fmt: skip
    return Preprocessing(**(settings | changes))


def folded(seed: int = 0, **changes: Any) -> FoldedVit:
    """`vit`, folded with `contract`."""
    model = vit(seed, **changes)
    return fold(model, contract(model.config))


def frames(config: VitConfig, count: int, seed: int = 0) -> Frames:
    """``count`` uint8 frames [N, H, W, 3]: a slope of random direction and colour with noise on it."""
    rng = np.random.default_rng(seed)
    height, width = config.image_size
    rows, columns = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
    slopes = rng.normal(size=(count, 2, 1, 1, 3)) * 50
    levels = rng.uniform(40, 210, size=(count, 1, 1, 3))
    noise = rng.normal(size=(count, height, width, 3)) * 20
    return np.clip(levels + slopes[:, 0] * rows + slopes[:, 1] * columns + noise, 0, 255).astype(np.uint8)


def normalised(images: Frames, settings: Preprocessing) -> Tensor:
    """What training fed to the model: float [N, channels, H, W] in the trained colour order, normalised."""
    bgr = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    if settings.color == "gray":
        bgr = (bgr * torch.tensor(LUMA_BGR).view(1, 3, 1, 1)).sum(1, keepdim=True)
    elif settings.color == "rgb":
        bgr = bgr.flip(1)
    return (bgr - torch.tensor(settings.mean).view(1, -1, 1, 1)) / torch.tensor(settings.std).view(1, -1, 1, 1)


def int8(model: FoldedVit, recipe: Recipe | None = None, calibration: Frames | None = None) -> QuantPlan:
    """``model`` quantized on 16 frames, or on those given."""
    images = frames(model.config, 16, seed=100) if calibration is None else calibration
    recipe = recipe or Recipe()
    return quantize(model, collect(model, [images], images=len(images), recipe=recipe), recipe).plan


@cache
def _quantized(name: str) -> QuantPlan:
    return int8(folded(**ZOO[name]), Recipe(quantize=QuantizeSettings(attention="full")))


def int8_of(name: str, attention: str = "full") -> QuantPlan:
    """The model called ``name`` in `ZOO`, quantized once in a process; then with fewer of attention's products in INT8.

    For tests of what is made of a plan: which one is best is not asked.
    """
    plan = _quantized(name)
    steps = {key: replace(value, value_step=None, probability_step=None) if attention == "scores" else value
             for key, value in plan.attention.items()}  # fmt: skip
    return replace(plan, attention={} if attention == "off" else steps)


def as_double(part: Any) -> Any:
    """``part`` of a folded ViT in float64, all but the patch embedding, whose input is float32."""
    if isinstance(part, Tensor):
        return part.double()
    if isinstance(part, list):
        return [as_double(item) for item in part]
    if is_dataclass(part) and not isinstance(part, VitConfig):
        names = [item.name for item in fields(part) if item.name != "patch"]
        return replace(part, **{name: as_double(getattr(part, name)) for name in names})
    return part
