"""Speed at kept accuracy: edgevit's precisions beside what NNCF and ONNX Runtime make of the same FP32 graph.

    python benchmarks/speed.py MODEL --data DIR --eval-data DIR [--precisions int8,int8+merge35,int8+prune20]
        [--smaller 196] [--images 64] [--eval-limit 1024] [--runs 60] [--threads 2] [--peers nncf,nncf-exact,ort] [--out FOLDER]

Every row is evaluated on the same held-out images against FP32 (top-1, agreement, SQNR, McNemar's test) and timed in turns
with all others at batch 1. ``nncf`` quantizes as its model type TRANSFORMER does by default; ``nncf-told`` leaves the patch
embedding, the head and the residual additions in floating point; ``nncf-exact`` is ``nncf`` with its rounded values multiplied in
FP32: its accuracy, not its time, on processors without VNNI, where OpenVINO's INT8 sums saturate. ``--smaller`` is the same INT8
at a smaller input image.
``--out`` keeps the comparison as HTML, with the plot of accuracy against milliseconds, and as CSV.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from openvino_peers import OpenVinoWithPeers

from edgevit.cache import Cache
from edgevit.cli.compare import print_comparison, print_warnings
from edgevit.cli.console import ConsoleProgress, command_line, note
from edgevit.commands.compare_checkpoint import subject_of_checkpoint
from edgevit.commands.compare_names import parse_precisions
from edgevit.commands.compare_request import Request, Subject
from edgevit.engines import ENGINES
from edgevit.images.dataset import ImageSet
from edgevit.images.labelmatch import open_images
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison
from edgevit.recipe import load_recipe
from edgevit.report.html import Background, to_html
from edgevit.target import load_target
from edgevit.unreported import import_onnxruntime, import_openvino
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

# As edgevit.unreported does, for this process: OpenVINO, NNCF and ONNX Runtime report their use.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

ENGINES["openvino"] = replace(ENGINES["openvino"], backend="openvino_peers:OpenVinoWithPeers")
OURS = "int8,int8+merge35,int8+prune20,int8+prune20+merge35"


def main() -> None:
    args = parse_arguments()
    target = load_target("cpu").on(args.engine)
    bench = Workbench(target=target, cache=Cache(note=note), progress=ConsoleProgress(), threads=args.threads)
    load, recipe = machine.load(), load_recipe("default")
    recipe = replace(recipe, calibrate=replace(recipe.calibrate, images=args.images))
    held_out, _ = open_images(args.eval_data, (), bench.progress)
    request = Request(models=(args.model,), data=args.eval_data, calibration=args.data, recipe=recipe,
                      precisions=parse_precisions(["fp32", *args.precisions.split(",")]))  # fmt: skip
    subject = subject_of_checkpoint(args.model, args.model.name, held_out, request, bench)
    images = held_out.held_out(args.eval_limit, recipe.calibrate.seed, set(subject.calibrated))
    candidates = [Candidate(precision=name, engine=args.engine, model=model, contract=subject.contract)
                  for name, model in subject.models.items()]  # fmt: skip
    if args.smaller:
        candidates.append(smaller(args.smaller, held_out, replace(request, precisions=parse_precisions(["int8"])), bench))
    calibration, _ = open_images(args.data, subject.labels, bench.progress, option="--data")
    drawn, _ = calibration.split(recipe.calibrate.images, recipe.calibrate.seed)
    frames = np.concatenate(list(drawn.prepared(subject.contract)))
    for peer in filter(None, args.peers.split(",")):
        with bench.stage(f"quantize with {peer}"):
            candidates.append(PEERS[peer](candidates[0].model, frames, args.threads))
    comparison = measured(candidates, images, subject, args.runs, bench, load)
    print_warnings(comparison.warnings)
    print_comparison(comparison)
    print_ratios(comparison)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        background = Background(title=f"{args.model.name} on {images.source}", notes=(), layers={}, parts={})
        (args.out / "speed.html").write_text(to_html(comparison, background))
        (args.out / "speed.csv").write_text(comparison.to_csv())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a checkpoint, as `edgevit build` takes it")
    parser.add_argument("--data", type=Path, required=True, help="images to calibrate and fit on")
    parser.add_argument("--eval-data", type=Path, required=True, help="images to evaluate on")
    parser.add_argument("--engine", default="openvino", choices=["openvino", "onnxruntime"], help="of edgevit's rows")
    parser.add_argument("--precisions", default=OURS, help="edgevit's, as `edgevit compare --precisions` takes them")
    parser.add_argument("--peers", default="nncf,nncf-told,ort", help=f"comma-separated, of {','.join(PEERS)}")
    parser.add_argument("--smaller", type=int, help="also INT8 at this image size")
    parser.add_argument("--images", type=int, default=64, help="calibration images")
    parser.add_argument("--eval-limit", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def measured(
    candidates: list[Candidate], images: ImageSet, subject: Subject, runs: int, bench: Workbench, load: float
) -> Comparison:
    return compare(
        candidates, images, subject.contract, subject.labels, problem_type=subject.problem_type, runs=runs, bench=bench,
        load=load, command=command_line(),
    )  # fmt: skip


def smaller(side: int, images: ImageSet, request: Request, bench: Workbench) -> Candidate:
    """INT8 of the same checkpoint at an image of ``side`` pixels."""
    request = replace(request, options={**request.options, "image_size": side})
    subject = subject_of_checkpoint(request.models[0], str(side), images, request, bench)
    return Candidate(precision=f"int8 at {side}", engine=bench.engine, model=subject.models["int8"], contract=subject.contract)


def nncf(model: bytes, frames: Frames, threads: int | None, *, told: bool = False, exact: bool = False) -> Candidate:
    """NNCF's post-training quantization for OpenVINO, compiled as OpenVINO does by itself unless it is to be ``exact``."""
    import onnx

    openvino = import_openvino()
    import nncf as library

    library.set_log_level(logging.ERROR)
    core, ignored = openvino.Core(), None
    if told:
        names = [node.name for node in onnx.load_from_string(model).graph.node]
        left = [name for name in names if name.endswith("MatMul") and not name.startswith("blocks.")]
        ignored = library.IgnoredScope(names=left + [name for name in names if "/residual" in name])
    graph = library.quantize(
        core.read_model(model), library.Dataset([frame[None] for frame in frames]), subset_size=len(frames),
        model_type=library.ModelType.TRANSFORMER, ignored_scope=ignored,
    )  # fmt: skip
    graph.reshape({graph.input(0).any_name: [1, *frames.shape[1:]]})
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    options |= {"LP_TRANSFORMS_MODE": "OFF"} if exact else {}
    compiled = core.compile_model(graph, "CPU", options | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        openvino.save_model(graph, f"{folder}/graph.xml", compress_to_fp16=False)
        content = b"".join((Path(folder) / name).read_bytes() for name in ("graph.xml", "graph.bin"))
    OpenVinoWithPeers.compiled_models[content] = compiled
    return Candidate(precision="nncf-told" if told else "nncf-exact" if exact else "nncf", engine="openvino", model=content)


def ort_static(model: bytes, frames: Frames, _threads: int | None) -> Candidate:
    """ONNX Runtime's static quantizer: Q/DQ, uint8 activations, int8 weights per channel."""
    import_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.frames: Iterator[Frames] = iter(frames)

        def get_next(self) -> dict[str, Frames] | None:
            frame = next(self.frames, None)
            return None if frame is None else {"frames": frame[None]}

    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(model)
        quantize_static(before, after, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
        return Candidate(precision="ort-static", engine="onnxruntime", model=after.read_bytes())


PEERS: dict[str, Callable[[bytes, Frames, int | None], Candidate]] = {
    "nncf": nncf,
    "nncf-told": lambda model, frames, threads: nncf(model, frames, threads, told=True),
    "nncf-exact": lambda model, frames, threads: nncf(model, frames, threads, exact=True),
    "ort": ort_static,
}


def print_ratios(comparison: Comparison) -> None:
    """Every row's speed over that of NNCF and of ONNX Runtime's own quantizer."""
    times = {row.precision: row.latency.p50_ms for row in comparison.rows if row.latency}
    for peer in ("nncf", "nncf-told", "ort-static"):
        if peer in times:
            print(f"speed over {peer}: " + ", ".join(f"{name} {times[peer] / own:.2f}x" for name, own in times.items()))


if __name__ == "__main__":
    main()
