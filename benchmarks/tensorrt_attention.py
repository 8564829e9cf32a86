"""Where TensorRT fuses attention, by tokens, head size and precision: the table that `edgevit.export.fusion` is taken from.

    python benchmarks/tensorrt_attention.py [--tokens 197,257,577,1370] [--heads 64,72,80] [--out FILE.json]

Needs a TensorRT builder (docs/tensorrt.md says how to have one without a GPU). Models of 12 blocks with six heads and random
weights: kernels, bytes and fusion do not depend on them. Every cell is fused attentions / kernels / MB that kernels read and
write. "shipped" is what a build takes: INT8 attention where it is fused, else INT8 linears with FP16 attention.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tensorrt_forms import bare, random_plan

from edgevit.engine.builder import BuildOptions
from edgevit.engine.tensorrt import build_engine
from edgevit.export.form import form_for
from edgevit.export.fusion import why_unfused
from edgevit.export.graph import write_graph
from edgevit.model.folded import FoldedVit
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.plan.preflight import read_plan
from edgevit.preprocess import Preprocessing
from edgevit.vitconfig import BlockConfig, VitConfig

INPUTS = {197: (224, 16), 257: (224, 14), 577: (384, 16), 1370: (518, 14)}
"""Tokens to the image's side and the patch's, pixels: ViT/16, DINOv2, ViT/16 at 384, DINOv2 as it was trained."""
HEADS, BLOCKS = 6, 12


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One compiled plan."""

    fused: int
    kernels: int
    megabytes: float

    def __str__(self) -> str:
        """As the table has it."""
        return f"{self.fused} / {self.kernels} / {self.megabytes:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="197,257,577,1370", help=f"comma-separated, of {','.join(map(str, INPUTS))}")
    parser.add_argument("--heads", default="64,72,80", help="head sizes, comma-separated")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    args = parser.parse_args()
    columns = ("tokens", "head size", "FP16", "INT8 linears", "INT8 linears and attention", "shipped")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows = []
    for tokens in map(int, args.tokens.split(",")):
        for head_dim in map(int, args.heads.split(",")):
            rows.append(row(tokens, head_dim))
            print(f"| {' | '.join(map(str, rows[-1].values()))} |", flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2, default=vars) + "\n")


def row(tokens: int, head_dim: int) -> dict[str, int | str | Cell]:
    model = random_vit(tokens, head_dim)
    fp16 = compiled(QuantPlan(model=bare(model)), "fp16")
    linears = compiled(random_plan(model, attention=False), "int8")
    attention = compiled(random_plan(model, attention=True), "int8")
    legal = why_unfused("tensorrt", head_dim=head_dim, tokens=tokens) is None
    return {"tokens": tokens, "head size": head_dim, "FP16": fp16, "INT8 linears": linears, "INT8 attention": attention,
            "shipped": "INT8 attention" if legal else "FP16 attention"}  # fmt: skip


def random_vit(tokens: int, head_dim: int) -> FoldedVit:
    side, patch = INPUTS[tokens]
    torch.manual_seed(0)
    width = HEADS * head_dim
    blocks = (BlockConfig(heads=HEADS, hidden=4 * width),) * BLOCKS
    model = Vit(VitConfig(image_size=(side, side), patch_size=patch, width=width, head_dim=head_dim, blocks=blocks, classes=1000))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.bias, std=0.02)
    return fold(model.eval(), Preprocessing(size=(side, side), resize=(side, side)))


def compiled(plan: QuantPlan, precision: str) -> Cell:
    built = build_engine(write_graph(plan, form_for("tensorrt", precision)), BuildOptions())
    found = read_plan(built, blocks=BLOCKS).plan
    return Cell(fused=found.fused_attention, kernels=len(found.kernels), megabytes=found.megabytes)


if __name__ == "__main__":
    main()
