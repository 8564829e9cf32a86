"""Accuracy, time and memory of edgevit's quantization against NNCF's, ONNX Runtime's and NVIDIA modelopt's.

    python benchmarks/quantization.py MODEL --data DIR [--eval-data DIR] [--out results.csv]
        [--images 64] [--eval-limit 1024] [--seeds 0,1,2] [--recipes default,fast] [--methods edgevit,nncf,ort-minmax,...]
        [--modelopt-python VENV/bin/python]

Every method gets the same prepared calibration images and is evaluated on the same held-out ones, against the
FP32 logits of OpenVINO. Peers start from edgevit's own FP32 graph and choose themselves what to quantize; those
named ``-blocks`` are told to leave alone what edgevit leaves alone: everything but the matrix products of the
blocks, and of these attention times values. Every step runs in a process of its own: a method that fails, is killed
or is not installed is one line of the table. Seconds are those of quantization alone; memory is the peak of the
process that quantizes, its imports included.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# edgevit is imported where it is used: modelopt's environment has none, and a child's peak memory is never
# below its parent's, which therefore stays small.
if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Logits = NDArray[np.float32]

# As edgevit.unreported does, for this process and its children: OpenVINO, NNCF and ONNX Runtime report their use.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


# What is measured, and the order of the table.


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to quantize, and the engine that its graph is evaluated on."""

    name: str
    quantizer: str
    """Key of QUANTIZERS."""
    setting: str
    """What the quantizer is told: a recipe, or how it finds ranges."""
    engine: str
    """Key of ENGINES."""
    blocks: bool = False
    """Whether a peer is kept to the products of the blocks; see `products`."""


PEERS = (
    Method(name="nncf", quantizer="nncf", setting="transformer", engine="openvino"),
    Method(name="nncf-blocks", quantizer="nncf", setting="transformer", engine="openvino", blocks=True),
    Method(name="ort-minmax", quantizer="ort", setting="MinMax", engine="onnxruntime"),
    Method(name="ort-minmax-blocks", quantizer="ort", setting="MinMax", engine="onnxruntime", blocks=True),
    Method(name="ort-entropy", quantizer="ort", setting="Entropy", engine="onnxruntime"),
    Method(name="ort-percentile", quantizer="ort", setting="Percentile", engine="onnxruntime"),
    Method(name="modelopt-max", quantizer="modelopt", setting="max", engine="onnxruntime"),
    Method(name="modelopt-max-blocks", quantizer="modelopt", setting="max", engine="onnxruntime", blocks=True),
    Method(name="modelopt-entropy", quantizer="modelopt", setting="entropy", engine="onnxruntime"),
)
NAMES = ("edgevit", *(peer.name for peer in PEERS))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; None is what a method did not come to."""

    method: str
    engine: str
    seed: int | None = None
    top1: float | None = None
    agreement: float | None = None
    """Share of images with the FP32 model's top-1 class."""
    sqnr_db: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    """Of all threads; on a busy machine steadier than seconds."""
    peak_mib: float | None = None
    int8_gemms: int | None = None
    """Matrix products that the engine runs in INT8."""
    note: str = ""
    """Why there are no figures, in one line."""


# The parent: starts one process after another, prints what they report.


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        run_step(*sys.argv[2:])
        return
    args = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="edgevit-") as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            benchmark(args, folder)
        except StepError as error:
            sys.exit(f"error: {error}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a checkpoint, as `edgevit build` takes it")
    parser.add_argument("--data", type=Path, required=True, help="images to calibrate on")
    parser.add_argument("--eval-data", type=Path, help="images to evaluate on; the others of --data by default")
    parser.add_argument("--images", type=int, default=64, help="calibration images of every method, recipes included")
    parser.add_argument("--eval-limit", type=int, default=1024, help="evaluate on at most so many images")
    parser.add_argument("--seeds", type=integers, default=[0], help="comma-separated: each draws calibration images of its own")
    parser.add_argument("--methods", type=words, default=NAMES, help=f"comma-separated, of {','.join(NAMES)}")
    parser.add_argument("--recipes", type=words, default=["default", "fast"], help="comma-separated: edgevit's, names or files")
    parser.add_argument("--modelopt-python", type=Path, help="python of the environment that modelopt is installed in")
    parser.add_argument("--out", type=Path, help="write the rows to this .csv, or rows and conditions to this .json")
    parser.add_argument("--keep", type=Path, help="leave graphs, logits and the children's output in this folder")
    args = parser.parse_args()
    if unknown := set(args.methods) - set(NAMES):
        parser.error(f"unknown method {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if args.out and args.out.suffix not in (".csv", ".json"):
        parser.error(f"--out {args.out}: the name must end in .csv or .json")
    return args


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(text: str) -> list[int]:
    return [int(word) for word in words(text)]


def benchmark(args: argparse.Namespace, folder: Path) -> None:
    """Every chosen method with every seed; rows are written as they come."""
    say(f"prepare {args.model}")
    conditions = child(
        sys.executable, "prepare", folder, model=str(args.model), data=str(args.data), count=args.images, seeds=args.seeds,
        eval_data=str(args.eval_data or args.data), limit=args.eval_limit,
    )  # fmt: skip
    say("evaluate fp32")
    rows = [Row(method="fp32", engine="openvino", **child(sys.executable, "evaluate_fp32", folder))]
    for seed in args.seeds:
        for method in chosen(args.methods, args.recipes):
            say(f"{method.name}, seed {seed}")
            row, versions = measure(method, seed, args, folder)
            conditions["versions"] |= versions
            rows.append(row)
            write_rows(args.out, rows, conditions)
    print_rows(rows, conditions)


def chosen(methods: Sequence[str], recipes: Sequence[str]) -> Iterator[Method]:
    """The methods of these names, edgevit's once for each recipe."""
    if "edgevit" in methods:
        for recipe in recipes:
            yield Method(name=f"edgevit {Path(recipe).stem}", quantizer="edgevit", setting=recipe, engine="openvino")
    yield from (peer for peer in PEERS if peer.name in methods)


def measure(method: Method, seed: int, args: argparse.Namespace, folder: Path) -> tuple[Row, dict[str, str]]:
    """Quantize by ``method`` and evaluate: its row, and the version of what it is."""
    row = Row(method=method.name, engine=method.engine, seed=seed)
    python = sys.executable
    if method.quantizer == "modelopt":
        if args.modelopt_python is None:
            return replace(row, note="skipped: needs --modelopt-python, see benchmarks/README.md"), {}
        python = str(args.modelopt_python)
    stem = f"{method.name}-{seed}".replace(" ", "-")
    try:
        done = child(python, "quantize", folder, method=asdict(method), model=str(args.model), seed=seed, stem=stem)
        row = replace(row, **done["cost"])
        found = child(sys.executable, "evaluate", folder, graph=done["graph"], engine=method.engine)
        return replace(row, **found), done["versions"]
    except StepError as error:
        return replace(row, note=str(error)), {}


class StepError(Exception):
    """A child process failed; the message says why in one line."""


def child(python: str, step: str, folder: Path, **arguments: Any) -> Any:
    """What ``step`` returns, run by ``python`` in a process of its own. Raises StepError."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [python, __file__, "--step", step, str(folder), json.dumps(arguments)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError as error:
        msg = f"{python}: {error.strerror}"
        raise StepError(msg) from error
    with (folder / "children.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode < 0:
        msg = f"{step}: killed by {signal.Signals(-done.returncode).name}"
        raise StepError(msg)
    if done.returncode or not result.exists():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        msg = f"{step}: {lines[-1] if lines else f'exit code {done.returncode}'}"
        raise StepError(msg)
    return json.loads(result.read_text(encoding="utf-8"))


def say(text: str) -> None:
    print(f"  {text} ...", file=sys.stderr, flush=True)


def write_rows(out: Path | None, rows: Sequence[Row], conditions: dict[str, Any]) -> None:
    if out is None:
        return
    with out.open("w", encoding="utf-8", newline="") as file:
        if out.suffix == ".json":
            json.dump({"rows": [asdict(row) for row in rows], "conditions": conditions}, file, indent=2)
            return
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def print_rows(rows: Sequence[Row], conditions: dict[str, Any]) -> None:
    from edgevit.cli.console import table
    from edgevit.report.sheet import percent

    def figure(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    columns = ("method", "engine", "seed", "top-1", "agree", "SQNR dB", "seconds", "CPU s", "peak MiB", "INT8")
    cells = [
        (row.method, row.engine, figure(row.seed), percent(row.top1), percent(row.agreement), figure(row.sqnr_db, 1),
         figure(row.seconds, 1), figure(row.cpu_seconds, 1), figure(row.peak_mib), figure(row.int8_gemms))
        for row in rows
    ]  # fmt: skip
    at = conditions
    table(f"{at['model']}: {at['calibration']} calibration images, {at['held_out']} held-out images", columns, cells, left=2)
    for row in rows:
        if row.note:
            print(f"{row.method}, seed {row.seed}: {row.note}")
    print("agree and SQNR: top-1 class and logits against fp32; INT8: matrix products that the engine runs in INT8.")
    versions = ", ".join(f"{name} {number}" for name, number in at["versions"].items())
    print(f"{at['device']}, {at['threads']} threads, {versions}.")


# The children: each step reads and writes files of one folder.


def run_step(step: str, folder: str, arguments: str) -> None:
    result = STEPS[step](Path(folder), **json.loads(arguments))
    (Path(folder) / "result.json").write_text(json.dumps(result), encoding="utf-8")


def prepare(
    folder: Path, *, model: str, data: str, count: int, seeds: Sequence[int], eval_data: str, limit: int
) -> dict[str, Any]:
    """Write the FP32 graph, the calibration images of every seed and the held-out images; returns the conditions."""
    import onnxruntime
    import openvino
    import torch

    from edgevit.device.processor import processor
    from edgevit.engine.base import available_threads
    from edgevit.export.variants import fp32_variant
    from edgevit.images.dataset import load_images
    from edgevit.model import load_checkpoint

    checkpoint = load_checkpoint(model)
    contract = checkpoint.preprocessing
    (folder / "fp32.onnx").write_bytes(fp32_variant(checkpoint).model)
    calibration = {seed: load_images(data).split(count, seed)[0] for seed in seeds}
    used = {fingerprint for drawn in calibration.values() for fingerprint in drawn.fingerprints()}
    held_out = load_images(eval_data).held_out(limit, 0, used)
    if not len(held_out):
        msg = f"{eval_data}: calibration takes every image. Give --eval-data, or fewer --images or --seeds."
        raise SystemExit(msg)
    for seed, drawn in calibration.items():
        np.save(folder / f"calibration-{seed}.npy", np.concatenate(list(drawn.prepared(contract))))
    np.save(folder / "held-out.npy", np.concatenate(list(held_out.prepared(contract))))
    targets = held_out.targets_for(checkpoint.labels)
    if targets is not None:
        np.save(folder / "targets.npy", targets)
    return {
        "model": model,
        "data": data,
        "eval_data": eval_data,
        "calibration": len(calibration[seeds[0]]),
        "held_out": len(held_out),
        "device": processor(),
        "threads": available_threads(),
        "versions": {
            "torch": torch.__version__,
            "openvino": openvino.__version__.partition("-")[0],
            "onnxruntime": onnxruntime.__version__,
        },
    }


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a quantizer works on."""

    method: Method
    frames: Frames
    """Calibration images as the model takes them, uint8 [N, H, W, 3] BGR."""
    fp32: Path
    model: str
    seed: int
    stem: Path
    """Where the quantized graph goes, without its suffix."""


class Stopwatch:
    """What a ``with`` block costs; peak memory is that of the process so far."""

    def __enter__(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def __exit__(self, *_error: object) -> None:
        self.cost = {
            "seconds": time.perf_counter() - self._start,
            "cpu_seconds": time.process_time() - self._cpu_start,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def quantize(folder: Path, *, method: dict[str, Any], model: str, seed: int, stem: str) -> dict[str, Any]:
    """Write the quantized graph; returns its path, what it cost, and the version of what made it."""
    frames, fp32 = np.load(folder / f"calibration-{seed}.npy"), folder / "fp32.onnx"
    task = Task(method=Method(**method), frames=frames, fp32=fp32, model=model, seed=seed, stem=folder / stem)
    clock = Stopwatch()
    graph = QUANTIZERS[task.method.quantizer](task, clock)
    versions = {name: version(name) for name in PACKAGES.get(task.method.quantizer, ())}
    return {"graph": str(graph), "cost": clock.cost, "versions": versions}


def products(fp32: Path, *, chosen: bool) -> list[str]:
    """Names of the matrix products of the blocks except attention times values; with ``chosen=False``, of all others."""
    import onnx

    names = [node.name for node in onnx.load(fp32).graph.node if node.op_type == "MatMul"]
    return [name for name in names if chosen == (name.startswith("blocks.") and not name.endswith("attention/mix/MatMul"))]


def edgevit_recipe(task: Task, clock: Stopwatch) -> Path:
    from edgevit.export.graph import write_graph
    from edgevit.model import load_checkpoint
    from edgevit.model.rewrites.folding import fold
    from edgevit.quantize.linears import collect, quantize
    from edgevit.quantize.quantize import BATCH
    from edgevit.recipe import load_recipe

    recipe = load_recipe(task.method.setting)
    recipe = replace(recipe, calibrate=replace(recipe.calibrate, images=len(task.frames), seed=task.seed))
    checkpoint = load_checkpoint(task.model)
    folded = fold(checkpoint.model, checkpoint.preprocessing)
    graph = task.stem.with_name(f"{task.stem.name}.onnx")
    with clock:
        batches = (task.frames[start : start + BATCH] for start in range(0, len(task.frames), BATCH))
        calibration = collect(folded, batches, images=len(task.frames), recipe=recipe)
        graph.write_bytes(write_graph(quantize(folded, calibration, recipe).plan))
    return graph


def nncf_transformer(task: Task, clock: Stopwatch) -> Path:
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    graph = task.stem.with_name(f"{task.stem.name}.xml")
    ignored = nncf.IgnoredScope(names=products(task.fp32, chosen=False)) if task.method.blocks else None
    with clock:
        model = nncf.quantize(
            openvino.Core().read_model(task.fp32),
            nncf.Dataset([frame[None] for frame in task.frames]),
            subset_size=len(task.frames),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=ignored,
        )
        openvino.save_model(model, graph, compress_to_fp16=False)
    return graph


def ort_static(task: Task, clock: Stopwatch) -> Path:
    """Q/DQ with uint8 activations and int8 weights per channel, what ONNX Runtime recommends on x86-64 with VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.frames: Iterator[Frames] = iter(task.frames)

        def get_next(self) -> dict[str, Frames] | None:
            frame = next(self.frames, None)
            return None if frame is None else {"frames": frame[None]}

    graph = task.stem.with_name(f"{task.stem.name}.onnx")
    only = products(task.fp32, chosen=True) if task.method.blocks else None
    with clock:
        quantize_static(
            task.fp32, graph, Reader(), calibrate_method=CalibrationMethod[task.method.setting], nodes_to_quantize=only,
            quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    return graph


def modelopt_onnx(task: Task, clock: Stopwatch) -> Path:
    """In FP32 around the INT8: its default, FP16, is for TensorRT and slow on a CPU."""
    from modelopt.onnx.quantization import quantize

    graph = task.stem.with_name(f"{task.stem.name}.onnx")
    only = products(task.fp32, chosen=True) if task.method.blocks else None
    with clock:
        quantize(
            str(task.fp32), quantize_mode="int8", calibration_method=task.method.setting, nodes_to_quantize=only,
            calibration_data={"frames": task.frames}, calibration_eps=["cpu"], high_precision_dtype="fp32",
            output_path=str(graph), log_level="WARNING",
        )  # fmt: skip
    return graph


def evaluate_fp32(folder: Path) -> dict[str, Any]:
    """Keep the logits that every other graph is held against."""
    logits, _ = on_openvino(folder / "fp32.onnx", np.load(folder / "held-out.npy", mmap_mode="r"))
    np.save(folder / "reference.npy", logits)
    return {"top1": scores(folder, logits)["top1"]}


def evaluate(folder: Path, *, graph: str, engine: str) -> dict[str, Any]:
    logits, int8_gemms = ENGINES[engine](Path(graph), np.load(folder / "held-out.npy", mmap_mode="r"))
    return {**scores(folder, logits), "int8_gemms": int8_gemms}


def scores(folder: Path, logits: Logits) -> dict[str, Any]:
    from edgevit.measure.accuracy import measure_accuracy

    targets = folder / "targets.npy"
    accuracy = measure_accuracy(logits, np.load(folder / "reference.npy"), np.load(targets) if targets.exists() else None)
    return {"top1": accuracy.top1, "agreement": accuracy.agreement, "sqnr_db": accuracy.sqnr_db}


def on_openvino(graph: Path, frames: Frames) -> tuple[Logits, int]:
    """Logits of every frame at batch 1, and how many products run in INT8. Not by edgevit: NNCF's graph is no ONNX."""
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape([1, *frames.shape[1:]])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    logits = np.concatenate([request.infer([frame[None]])[0] for frame in frames])
    kernels = [dict(kernel.get_rt_info()) for kernel in compiled.get_runtime_model().get_ops()]
    # Attention is one Subgraph kernel, INT8 where its first product is.
    kernels = [kernel for kernel in kernels if kernel["layerType"].value in ("FullyConnected", "Subgraph")]
    int8 = [kernel["originalLayersNames"].value for kernel in kernels if kernel["runtimePrecision"].value in ("i8", "u8")]
    return logits, sum("MatMul" in names for names in int8)


def on_onnxruntime(graph: Path, frames: Frames) -> tuple[Logits, int]:
    """Logits of every frame at batch 1, and how many products run in INT8 in the graph that ONNX Runtime's optimizer leaves."""
    import onnx

    from edgevit.engine.onnxruntime import OnnxRuntime, onnxruntime_session, session_options

    model, options = graph.read_bytes(), session_options(None)
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        onnxruntime_session(model, options)
        kernels = [node.op_type for node in onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node]
    with OnnxRuntime().open(model) as session:
        logits = np.concatenate([session.infer(frame[None]) for frame in frames])
    return logits, sum(kernels.count(kind) for kind in ("MatMulIntegerToFloat", "QGemm", "QLinearConv", "QLinearMatMul"))


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare, "quantize": quantize, "evaluate_fp32": evaluate_fp32, "evaluate": evaluate,
}  # fmt: skip
QUANTIZERS = {"edgevit": edgevit_recipe, "nncf": nncf_transformer, "ort": ort_static, "modelopt": modelopt_onnx}
PACKAGES = {"nncf": ("nncf",), "modelopt": ("nvidia-modelopt",)}
ENGINES = {"openvino": on_openvino, "onnxruntime": on_onnxruntime}

if __name__ == "__main__":
    main()
