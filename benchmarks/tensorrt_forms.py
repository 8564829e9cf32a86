"""What TensorRT's builder makes of every form of the graph: the table that `edgevit.engines.ENGINES` is taken from.

    python benchmarks/tensorrt_forms.py [--models deit_s,deit_t,vit_b,dinov2_s] [--onnx OTHER.onnx ...] [--out FILE.json]

Needs a TensorRT builder (docs/tensorrt.md says how to have one without a GPU). Weights are random: kernels,
bytes and fusion do not depend on them. Every model has 12 blocks, 1,000 classes and a 224x224 input, and its last
block carries the class token alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from edgevit.engine.builder import BuilderRefusedError, BuildOptions
from edgevit.engine.tensorrt import build_engine
from edgevit.export.form import Form, form_for
from edgevit.export.graph import write_graph
from edgevit.model.folded import FoldedVit
from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear, QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.model.rounding import quantize_weight
from edgevit.model.vit import Vit
from edgevit.numberformat import INT8
from edgevit.part import LINEARS, Part
from edgevit.plan.preflight import read_plan
from edgevit.preprocess import Preprocessing
from edgevit.quantize.fp16 import without_key_biases
from edgevit.vitconfig import BlockConfig, Rotary, VitConfig

MODELS = {"deit_t": (192, 3, 16), "deit_s": (384, 6, 16), "vit_b": (768, 12, 16), "dinov2_s": (384, 6, 14)}
"""Width, heads, patch size."""


def merging_at(merged: dict[int, int]) -> tuple[BlockConfig, ...]:
    """Twelve blocks of a ViT-S, those with a number in ``merged`` merging so many tokens away."""
    return tuple(BlockConfig(heads=6, hidden=1536, merged=merged.get(i, 0)) for i in range(12))


STRUCTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov3_s": ("deit_s", {"rotary": Rotary(coordinates="centred"), "registers": 4, "position_embedding": False}),
    "dinov3_s_merged": ("deit_s", {"rotary": Rotary(coordinates="centred"), "registers": 4, "position_embedding": False,
                                   "blocks": merging_at({4: 49, 7: 48})}),
    "deit_s_merged": ("deit_s", {"blocks": merging_at({4: 49, 7: 48})}),
    "clip_s": ("deit_s", {"embedding_norm": True, "activation": "quick_gelu", "projected": 512, "unit_features": True}),
    "dinov3_s_plus": ("deit_s", {"rotary": Rotary(coordinates="centred"), "registers": 4, "position_embedding": False,
                                 "gated": True, "activation": "silu"}),
    "rope_mixed_s": ("deit_s", {"rotary": Rotary(by_head=True), "position_embedding": False}),
    "eva02_s": ("dinov2_s", {"rotary": Rotary(reference=(16, 16)), "gated": True, "activation": "silu", "mlp_norm": True,
                             "pooling": ("mean",), "final_norm": "after_pooling"}),
    "siglip_s": ("deit_s", {"class_token": False, "pooling": ("attention",), "pool_heads": 6, "pool_hidden": 1536}),
}  # fmt: skip
"""Models that are no plain ViT, by the one whose sizes they have."""
FORMS = {
    "rank5": Form(dtype="fp16", attention="rank5", batch=1),
    "rank4": Form(dtype="fp16", attention="rank4", batch=1),
    "rank3": Form(dtype="fp16", attention="rank3", batch=1),
    "rank4, three products": Form(dtype="fp16", attention="rank4", joint_qkv=False, batch=1),
    "rank3, three products": Form(dtype="fp16", attention="rank3", joint_qkv=False, batch=1),
    "Attention op": Form(dtype="fp16", attention="op", batch=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="deit_s", help=f"comma-separated, of {','.join((*MODELS, *STRUCTURES))}")
    parser.add_argument("--onnx", type=Path, nargs="*", default=[], help="compile these graphs, too: other quantizers' output")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    args = parser.parse_args()
    rows = [row for name in args.models.split(",") if name.strip() for row in table(name.strip())]
    for path in args.onnx:
        row = judged(path.read_bytes(), blocks=12)
        rows.append({"model": path.name} | row)
        print(f"| {path.name} | {' | '.join(cells(row))} |", flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


def table(name: str) -> list[dict[str, object]]:
    model, rows = random_vit(name), []
    columns = ("precision", "form", "kernels", "MB", "INT8 share", "fused attention", "engine", "build s")
    print(f"\n{name}\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for precision, plan in (
        ("fp16", QuantPlan(model=bare(model))),
        ("int8, FP16 attention", random_plan(model, attention=False)),
        ("int8, INT8 attention", random_plan(model, attention=True)),
    ):
        for label, form in FORMS.items():
            if precision != "fp16" and ("three" in label or (plan.attention and form.attention == "op")):
                continue  # an INT8 qkv stays joint, and the op has no place for INT8
            row, chosen = judged(write_graph(plan, form), blocks=len(model.blocks)), form == form_for("tensorrt", precision[:4])
            rows.append({"model": name, "precision": precision, "form": label, "chosen": chosen} | row)
            print(f"| {precision} | {label}{' (chosen)' if chosen else ''} | {' | '.join(cells(row))} |", flush=True)
    return rows


def judged(graph: bytes, *, blocks: int) -> dict[str, object]:
    """The plan's figures, or why there is no plan."""
    try:
        return read_plan(build_engine(graph, BuildOptions()), blocks=blocks).summary()
    except BuilderRefusedError as error:
        return {"error": str(error)}


def cells(row: dict[str, object]) -> list[str]:
    if "error" in row:
        return [str(row["error"])]
    warnings: list[str] = row["warnings"]  # type: ignore[assignment]
    attention = str(row["fused_attention"]) + "".join(f"; {text.partition(' in ')[0]}" for text in warnings)
    share, size = 100 * float(str(row["int8_share"])), int(str(row["engine_bytes"])) / 1e6
    return [str(row["kernels"]), str(row["megabytes"]), f"{share:.1f} %", attention, f"{size:.1f} MB", f"{row['seconds']:.1f}"]


def random_vit(name: str) -> FoldedVit:
    """A folded ViT of a published size with random weights and biases."""
    plain, changes = STRUCTURES.get(name, (name, {}))
    width, heads, patch = MODELS[plain]
    torch.manual_seed(0)
    blocks = (BlockConfig(heads=heads, hidden=4 * width),) * 12
    config = VitConfig(
        **{"image_size": (224, 224), "patch_size": patch, "width": width, "head_dim": width // heads, "blocks": blocks,
           "classes": 1000, **changes}
    )  # fmt: skip
    model = Vit(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.bias, std=0.02)
    return fold(model, Preprocessing(size=(224, 224), resize=(256, 256)))


def bare(model: FoldedVit) -> FoldedVit:
    """Without key biases, as FP16 builds write it where scores stay small."""
    names = [f"blocks.{i}.attention" for i in range(len(model.blocks))]
    return without_key_biases(model, dict.fromkeys(names, 1.0) | {f"{name} without key bias": 1.0 for name in names})


def random_plan(model: FoldedVit, *, attention: bool) -> QuantPlan:
    """Every linear in INT8, and all of attention if wanted; the scales are arbitrary."""
    linears = {}
    for i, block in enumerate(model.blocks):
        for kind in LINEARS:
            linear = getattr(block, kind)
            weight, scale = quantize_weight(linear.weight, INT8)
            bias = linear.bias + 0.1
            linears[Part(i, kind)] = QuantizedLinear(weight=weight, weight_scale=scale, input_scale=0.05, bias=bias)
    steps = QuantizedAttention(query_step=0.05, key_step=0.05, value_step=0.05, probability_step=1 / 127)
    parts = [Part(i, "attention") for i in range(len(model.blocks))]
    return QuantPlan(model=model, linears=linears, attention=dict.fromkeys(parts, steps) if attention else {})


if __name__ == "__main__":
    main()
