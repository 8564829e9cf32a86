"""Latency of the written INT8 graph against what the engines' own quantizers make of the same FP32 graph.

    python benchmarks/engines.py [--model deit_t|deit_s|vit_b|dinov2_s] [--runs 100]

Weights are random: latency does not depend on them. Peers: NNCF (OpenVINO; symmetric preset, transformer
mode) and onnxruntime.quantization (static, Q/DQ, per-channel int8 weights, uint8 activations). Every variant
runs on all threads at batch 1 and takes turns with the others.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgevit.cli.console import ConsoleProgress, table
from edgevit.device.processor import processor
from edgevit.engine import open_session
from edgevit.engine.base import Session, SessionBase
from edgevit.export.graph import write_graph
from edgevit.measure import latency
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing
from edgevit.quantize.linears import collect, quantize
from edgevit.recipe import load_recipe
from edgevit.unreported import import_onnxruntime, unreported
from edgevit.vitconfig import BlockConfig, VitConfig

if TYPE_CHECKING:
    from edgevit.engine.base import Given
    from edgevit.preprocess import Frame

MODELS = {  # width, heads, patch, pooling
    "deit_t": (192, 3, 16, ("class",)),
    "deit_s": (384, 6, 16, ("class",)),
    "vit_b": (768, 12, 16, ("class",)),
    "dinov2_s": (384, 6, 14, ("class", "mean")),
}
SIDE, IMAGES = 224, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="deit_s")
    parser.add_argument("--runs", type=int, default=100)
    args = parser.parse_args()
    frames = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    fp32, int8 = our_graphs(args.model, frames)
    sessions = {
        "OpenVINO FP32": open_session("openvino", fp32),
        "OpenVINO INT8, NNCF": nncf_session(fp32, frames),
        "OpenVINO INT8, edgevit": open_session("openvino", int8),
        "ONNX Runtime FP32": open_session("onnxruntime", fp32),
        "ONNX Runtime INT8, its own": ort_session(ort_static(fp32, frames)),
        "ONNX Runtime INT8, edgevit": open_session("onnxruntime", int8),
    }
    with ConsoleProgress().stage("measure latency", total=args.runs) as stage:
        times = latency.measure_latency(sessions, frames, runs=args.runs, stage=stage)
    print_table(args.model, times)


def our_graphs(name: str, frames: Frame) -> tuple[bytes, bytes]:
    width, heads, patch, pooling = MODELS[name]
    torch.manual_seed(0)
    config = VitConfig(
        image_size=(SIDE, SIDE), patch_size=patch, width=width, head_dim=width // heads,
        blocks=(BlockConfig(heads=heads, hidden=4 * width),) * 12, classes=1000, pooling=pooling,
    )  # fmt: skip
    folded = fold(Vit(config).eval(), Preprocessing(size=(SIDE, SIDE), resize=(SIDE, SIDE)))
    recipe = load_recipe("fast")
    plan = quantize(folded, collect(folded, [frames], images=len(frames), recipe=recipe), recipe).plan
    return write_graph(QuantPlan(model=folded)), write_graph(plan)


def nncf_session(fp32: bytes, frames: Frame) -> Session:
    with unreported():
        import nncf
        import openvino

    nncf.set_log_level(logging.ERROR)
    core = openvino.Core()
    model = nncf.quantize(
        core.read_model(fp32),
        nncf.Dataset([frame[None] for frame in frames]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.PERFORMANCE,
    )
    model.reshape({"frames": [1, SIDE, SIDE, 3]})
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return session("nncf", lambda batch: (request.infer([batch], share_inputs=True)[0], None))


def ort_static(fp32: bytes, frames: Frame) -> bytes:
    with unreported():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.frames: Iterator[Frame] = iter(frames)

        def get_next(self) -> dict[str, Frame] | None:
            frame = next(self.frames, None)
            return None if frame is None else {"frames": frame[None]}

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(fp32)
        quantize_static(
            source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return target.read_bytes()


def ort_session(model: bytes) -> Session:
    """ONNX Runtime as its users start it, with every optimizer on."""
    started = import_onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    return session("onnxruntime", lambda batch: (started.run(None, {"frames": batch})[0], None))


def session(engine: str, run: Callable[[Frame], Given]) -> Session:
    return SessionBase(engine=engine, threads=0, shape=(SIDE, SIDE, 3), run=run)


def print_table(model: str, times: dict[str, latency.Latency]) -> None:
    ours = {"OpenVINO": times["OpenVINO INT8, edgevit"], "ONNX Runtime": times["ONNX Runtime INT8, edgevit"]}
    rows = []
    for name, time in times.items():
        engine = name.partition(" FP32")[0].partition(" INT8")[0]
        ratio = time.p50_ms / ours[engine].p50_ms
        rows.append((name, f"{time.p50_ms:.2f}", f"{time.p90_ms:.2f}", f"{time.p99_ms:.2f}", f"{ratio:.2f}x"))
    table(f"{model}, {processor()}, all threads, batch 1", ("variant", "p50 ms", "p90 ms", "p99 ms", "of edgevit's INT8"), rows)


if __name__ == "__main__":
    main()
