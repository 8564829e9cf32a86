"""The roofline estimate against the published latency of ViT-B/16 on an Orin Nano 8GB (MAXN_SUPER, TensorRT 10.3, batch 1).

    python benchmarks/roofline.py          needs a TensorRT builder, see docs/tensorrt.md

Compiles ViT-B/16 (random weights: time does not depend on them) here and estimates it there. FP16 is what the
estimate's one number is fitted to; INT8 and FP32 are the validation. The published graphs are not ours: "as exporters
write it" is the nearest of our forms, with one qkv product whose heads are split in five dimensions, and a mean over the
tokens as the head's input, for no block to be cut to the class token. Edgevit's own forms were not measured there: their
rows have no error.
"""

from __future__ import annotations

from dataclasses import replace

from tensorrt_forms import bare, random_plan, random_vit

from edgevit.engine.builder import BuildOptions
from edgevit.engine.tensorrt import build_engine
from edgevit.export.form import Form, form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.plan.preflight import read_plan
from edgevit.plan.roofline import ASSUMPTIONS, EFFICIENCY, estimate, roof_of
from edgevit.target import load_target

PUBLISHED = {"fp32": 13.06, "fp16": 5.68, "int8": 4.92}  # ms: onnxsim/onnxsim, scripts/nvidia/README.md


def main() -> None:
    board = load_target("jetson-orin-nano-8gb")
    mode = next(mode for mode in board.modes if mode.name == "MAXN_SUPER")
    assert board.device is not None
    roof = roof_of(board.device, mode)
    assert roof is not None
    model = random_vit("vit_b")
    whole = replace(model, config=replace(model.config, pooling=("mean",)))
    exporters = Form(dtype="fp16", attention="rank5", batch=1)
    print(f"ViT-B/16, {board.name} at {mode.name}; efficiency {EFFICIENCY:.2f}\n")
    print("| graph | kernels | MB | estimate ms | published ms | error |\n|---|---|---|---|---|---|")
    for name, plan, form, published in (
        ("FP16, as exporters write it (fitted)", QuantPlan(model=whole), exporters, PUBLISHED["fp16"]),
        ("INT8 linears, as exporters write it", random_plan(whole, attention=False), exporters, PUBLISHED["int8"]),
        ("FP32, as exporters write it", QuantPlan(model=whole), replace(exporters, dtype="fp32"), PUBLISHED["fp32"]),
        ("FP16, edgevit's form", QuantPlan(model=bare(model)), form_for("tensorrt", "fp16"), None),
        ("INT8 linears, edgevit's form", random_plan(model, attention=False), form_for("tensorrt", "int8"), None),
    ):
        compiled = read_plan(build_engine(write_graph(plan, form), BuildOptions()), blocks=len(model.blocks)).plan
        found = estimate(compiled, roof, target=board.name, mode=mode.name).milliseconds
        against = f"{published:.2f} | {100 * (found / published - 1):+.0f} %" if published else "- | -"
        print(f"| {name} | {len(compiled.kernels)} | {compiled.megabytes:.0f} | {found:.2f} | {against} |", flush=True)
    print("\nAssumed: " + "; ".join(ASSUMPTIONS) + ".")


if __name__ == "__main__":
    main()
