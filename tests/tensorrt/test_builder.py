"""The builder as edgevit drives it: engines, progress, and one clear line for whatever goes wrong."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgevit.engine import tensorrt as trt
from edgevit.engine.cut import cut
from edgevit.engine.tensorrt import (
    BuilderRefusedError,
    BuildOptions,
    Gpu,
    TensorRt,
    build_engine,
    builder_version,
    gpu,
    stamp_here,
)
from edgevit.engine.tensorrt_child import _configure
from edgevit.engine.tensorrt_log import logger_of
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.form import Form, form_for
from edgevit.export.graph import stream_tensors, write_graph
from edgevit.model.quantplan import QuantPlan
from tests.zoo import folded, int8

PLAN = int8(folded())
GRAPH = write_graph(PLAN, form_for("tensorrt", "int8"))


def broken(node: str, change: str) -> bytes:
    """GRAPH with one node made into an operation that no one knows."""
    proto = onnx.load_from_string(GRAPH)
    found = next(item for item in proto.graph.node if item.name == node)
    found.op_type = change
    return proto.SerializeToString()


def refusal(model: bytes, **options: object) -> BuilderRefusedError:
    with pytest.raises(BuilderRefusedError) as caught:
        build_engine(model, BuildOptions(**options))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_graphs_cut_short_compile(builder: Path, precision: str) -> None:
    """What the check of a wrong engine bisects with, in every form: the stream as float32, whatever it is inside."""
    plan = PLAN if precision == "int8" else QuantPlan(model=PLAN.model)
    graph = write_graph(plan, form_for("tensorrt", precision))
    for tensor in stream_tensors(PLAN.model.config):
        assert build_engine(cut(graph, tensor), BuildOptions()).engine


def test_engine_and_plan(builder: Path) -> None:
    built = build_engine(GRAPH, BuildOptions())
    assert built.version == builder_version()
    assert len(built.engine) > 10_000
    assert built.seconds > 0
    assert built.inspector is None or gpu() is not None
    assert all(line.startswith("Name: ") and "LayerType: " in line for line in built.layers)
    assert any("[ONNX Layer: blocks.1/fc2/MatMul]" in line for line in built.layers)


def test_the_same_graph_gives_the_same_plan(builder: Path) -> None:
    first, second = (build_engine(GRAPH, BuildOptions()).layers for _ in range(2))
    assert [line.partition(", Inputs")[0] for line in first] == [line.partition(", Inputs")[0] for line in second]


def test_progress_is_told(builder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_engine(GRAPH, BuildOptions(), lambda *step: seen.append(step))
    assert any(phase == "Building engine" and step == total > 0 for phase, step, total in seen)
    assert all(0 <= step <= total for _, step, total in seen)


def test_a_range_of_batches_gets_a_profile(builder: Path) -> None:
    free = write_graph(PLAN, Form(dtype="fp16", attention="rank4"))
    assert build_engine(free, BuildOptions(batch=(1, 4, 8))).engine
    assert build_engine(free, BuildOptions()).layers  # a free batch is fixed to 1


def test_timing_cache_goes_in_and_comes_out(builder: Path) -> None:
    first = build_engine(GRAPH, BuildOptions())
    second = build_engine(GRAPH, BuildOptions(), timing_cache=first.timing_cache)
    assert second.timing_cache[:8] == first.timing_cache[:8]
    assert build_engine(GRAPH, BuildOptions(), timing_cache=b"not a cache").engine


@pytest.mark.parametrize("level", [0, 5])
def test_optimization_level(builder: Path, level: int) -> None:
    assert build_engine(GRAPH, BuildOptions(optimization_level=level)).layers


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32(builder: Path, tf32: bool) -> None:
    import tensorrt

    options = asdict(BuildOptions() if tf32 else BuildOptions(tf32=False))  # on by default
    config = tensorrt.Builder(logger_of(tensorrt)).create_builder_config()
    _configure(tensorrt, config, options)
    assert config.get_flag(tensorrt.BuilderFlag.TF32) is tf32
    assert build_engine(write_graph(PLAN, Form(dtype="fp32")), BuildOptions(tf32=tf32)).layers


def test_a_module_without_tf32_has_nothing_to_clear() -> None:
    module = SimpleNamespace(ProfilingVerbosity=SimpleNamespace(DETAILED=2), BuilderFlag=SimpleNamespace())
    _configure(module, config := SimpleNamespace(), asdict(BuildOptions(tf32=False)))
    assert vars(config) == {"profiling_verbosity": 2}


@pytest.mark.parametrize("junk", [b"", b"junk", GRAPH[: len(GRAPH) // 2]], ids=["empty", "junk", "half"])
def test_what_is_no_model_is_refused(builder: Path, junk: bytes) -> None:
    assert refusal(junk).blocks == ()


def test_a_parser_error_names_its_block(builder: Path) -> None:
    found = refusal(broken("blocks.1/fc1/MatMul", "MatMulty"))
    assert found.blocks == ("blocks.1",)
    assert "blocks.1/fc1/MatMul" in str(found)


def test_every_parser_error_is_reported(builder: Path) -> None:
    proto = onnx.load_from_string(GRAPH)
    wrong = ("blocks.0/norm1/LayerNormalization", "blocks.0/act/Gelu", "blocks.1/act/Gelu")
    for node in proto.graph.node:
        if node.name in wrong:
            node.op_type += "ish"
    found = refusal(proto.SerializeToString())
    assert found.blocks == ("blocks.0", "blocks.1")
    assert all(f"{name}: " in str(found) for name in wrong)


def test_int32_dequantization_is_refused(builder: Path) -> None:
    """The exhibit: ONNX Runtime's quantizer stores biases as int32 behind DequantizeLinear, which TensorRT does not take."""
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])
    bias = helper.make_tensor("b", TensorProto.INT32, [4], [1, 2, 3, 4])
    zero = helper.make_tensor("z", TensorProto.INT32, [], [0])
    nodes = [helper.make_node("DequantizeLinear", ["b", "s", "z"], ["d"], "bias/DequantizeLinear"),
             helper.make_node("Add", ["frames", "d"], ["logits"], "Add")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])], [scale, bias, zero],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    assert "int32" in str(refusal(proto.SerializeToString())).lower()


def test_the_onnxruntime_quantizers_model_does_not_parse(builder: Path, tmp_path: Path) -> None:
    import numpy as np

    from edgevit.unreported import unreported
    from tests.zoo import frames

    with unreported():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    source.write_bytes(write_graph(QuantPlan(model=folded())))

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.frames = iter(frames(folded().config, 4))

        def get_next(self) -> dict[str, np.ndarray] | None:
            frame = next(self.frames, None)
            return None if frame is None else {"frames": frame[None]}

    quantize_static(
        source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    with pytest.raises(BuilderRefusedError):
        build_engine(target.read_bytes(), BuildOptions())


def test_killed_for_memory_is_one_clear_line(builder: Path) -> None:
    """Killed as the kernel's OOM killer does it, from outside, in the middle of the work."""

    def kill(_phase: str, _step: int, _total: int) -> None:
        children = subprocess.run(
            ["pgrep", "-P", str(os.getpid()), "-f", "tensorrt_child"], capture_output=True, text=True
        ).stdout
        for child in children.split():
            os.kill(int(child), signal.SIGKILL)

    with pytest.raises(EngineError, match="was killed, most likely for memory") as caught:
        build_engine(GRAPH, BuildOptions(), kill)
    assert "\n" not in str(caught.value)


def test_a_crash_is_one_clear_line(builder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "crash"
    module.mkdir()
    source = "__version__, Builder = '1', None\nimport os\nif os.environ.get('CRASH'): os.abort()\n"
    (module / "tensorrt_crash.py").write_text(source)
    monkeypatch.syspath_prepend(str(module))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(module), os.environ["PYTHONPATH"]]))
    monkeypatch.setitem(trt.MODULES, "tensorrt", ("tensorrt_crash",))
    assert builder_version() == "tensorrt_crash 1"
    monkeypatch.setenv("CRASH", "1")
    with pytest.raises(EngineError, match="the builder ended with SIGABRT and no engine"):
        build_engine(GRAPH, BuildOptions())
    monkeypatch.delenv("CRASH")
    with pytest.raises(EngineError, match="AttributeError"):  # a module that is no TensorRT
        build_engine(GRAPH, BuildOptions())


def test_interrupted_leaves_no_process(builder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(GRAPH)
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from edgevit.engine.tensorrt import BuildOptions, build_engine
try:
    build_engine(Path({str(tmp_path / "model.onnx")!r}).read_bytes(), BuildOptions(), lambda *_: print("on", flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said.endswith("interrupted\n")  # Ctrl-C may come between a word and its line's end
    deadline = time.monotonic() + 10
    while (found := subprocess.run(["pgrep", "-f", f"tensorrt_child.*{tmp_path}"], capture_output=True, text=True).stdout) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not found
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_builds_in_two_threads(builder: Path) -> None:
    plans: list[int] = []
    threads = [threading.Thread(target=lambda: plans.append(len(build_engine(GRAPH, BuildOptions()).layers))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 2
    assert plans[0] == plans[1]


def test_without_a_builder_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "find_spec", lambda _name: None)
    with pytest.raises(MissingPackageError, match=r"apt install python3-libnvinfer.*pip install tensorrt\."):
        builder_version()
    with pytest.raises(MissingPackageError, match="pip install tensorrt_rtx"):
        builder_version("tensorrt_rtx")


def test_an_engine_of_another_machine_is_refused_with_what_differs(builder: Path) -> None:
    TensorRt().check_stamp(stamp_here())
    other = stamp_here() | {"compute capability": "8.7", "builder": "tensorrt 10.3.0"}
    with pytest.raises(
        EngineError, match=r"builder was tensorrt 10\.3\.0 and is .*, compute capability was 8\.7 and is .*edgevit compile"
    ):
        TensorRt().check_stamp(other)
    with pytest.raises(EngineError, match="builder was unknown"):
        TensorRt().check_stamp({})


class Board:
    """libcuda.so.1 of a Jetson, as far as it is asked."""

    def __init__(self, multiprocessors: int, memory: int) -> None:
        self.attributes, self.memory = {75: 8, 76: 7, 16: multiprocessors, 18: 1}, memory

    def cuInit(self, _flags: int) -> int:  # noqa: N802  # CUDA's own name, here and below
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGet(self, _device: Any, _ordinal: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, _device: Any) -> int:  # noqa: N802
        value._obj.value = self.attributes[number]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, _device: Any) -> int:  # noqa: N802
        assert isinstance(size._obj, ctypes.c_size_t)
        size._obj.value = self.memory
        return 0


def test_an_orin_is_not_every_orin(builder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(board: Board) -> None:
        fake = SimpleNamespace(CDLL=lambda _name: board, byref=ctypes.byref, c_int=ctypes.c_int, c_size_t=ctypes.c_size_t)
        monkeypatch.setattr("edgevit.device.gpu.ctypes", fake)

    mib = 2**20
    on(Board(16, 62_800 * mib))
    assert gpu() == Gpu(compute_capability="8.7", multiprocessors=16, memory=62_800 * mib, integrated=True, cuda="12.6")
    agx = stamp_here()
    TensorRt().check_stamp(agx)
    on(Board(16, 62_700 * mib))  # another kernel of the same board
    TensorRt().check_stamp(agx)
    on(Board(8, 7_600 * mib))
    with pytest.raises(
        EngineError, match=r"elsewhere: multiprocessors was 16 and is 8, GPU memory was 61 GiB and is 7 GiB\. Compile it here"
    ):
        TensorRt().check_stamp(agx)
    on(Board(8, 3_500 * mib))  # an Orin Nano of 4 GB has the larger one's multiprocessors, or fewer
    with pytest.raises(EngineError, match=r"GPU memory was 61 GiB and is 3 GiB"):
        TensorRt().check_stamp(agx)


def test_files_of_the_current_folder_are_not_run(builder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own tensorrt.py or resource.py; and TensorRT is found by PYTHONPATH alone."""
    for name in ("tensorrt", "resource", "json"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the current folder was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(builder))
    assert build_engine(GRAPH, BuildOptions()).engine
