"""CUDA graphs and the stand-in's kernels through real calls of a real library, which computes on the CPU; no pycuda is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.cuda_on_cpu import make
from tests.support import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")

BEGIN = """
import ctypes, sys
import numpy as np
from edgevit.device.gpu import gpu
from edgevit.engine.cuda_graph import CudaGraphError, capture
from tests.engine.cuda_engine import CudaModule, Engine, expected, plan
import json
assert gpu().compute_capability == "9.0"
cuda = ctypes.CDLL("libcuda.so.1")
for name in ("cuStreamSynchronize", "cuCtxPushCurrent_v2", "cuMemFreeHost"):
    getattr(cuda, name).argtypes = (ctypes.c_void_p,)
context, stream = ctypes.c_void_p(), ctypes.c_void_p()
cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
cuda.cuCtxPushCurrent_v2(context)
cuda.cuStreamCreate(ctypes.byref(stream), 0)

def pinned(shape, dtype):
    size, at = int(np.prod(shape)) * np.dtype(dtype).itemsize, ctypes.c_void_p()
    assert cuda.cuMemHostAlloc(ctypes.byref(at), ctypes.c_size_t(size), 0) == 0
    return np.frombuffer((ctypes.c_char * size).from_address(at.value), dtype).reshape(shape), at.value

what = plan((16, 12, 3), 7, kernels=20)
module = CudaModule()
class Logger:
    def log(self, _severity, text): print(text)
execution = Engine(module, Logger(), json.loads(what)).create_execution_context()
frame, source = pinned((1, 16, 12, 3), np.uint8)
logits, sink = pinned((1, 7), np.float32)
logits[:] = 0
execution.set_tensor_address("frames", source)
execution.set_tensor_address("logits", sink)
frames = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3), np.uint8)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cuda"))


def run(library: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LD_PRELOAD": str(library), "LD_LIBRARY_PATH": str(library.parent),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    return subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, env=environment, check=False)


def test_a_graph_is_replayed_with_what_its_addresses_hold(library: Path) -> None:
    done = run(library, """
graph = capture(stream.value, lambda: execution.execute_async_v3(stream.value))
assert not logits.any()                                   # nothing of it runs while it is captured
for i in range(3):
    frame[0] = frames[i]
    graph.launch(stream.value)
    assert cuda.cuStreamSynchronize(stream) == 0
    assert (logits == expected(what, frames[i : i + 1])).all()
graph.close()
frame[0] = frames[0]
assert execution.execute_async_v3(stream.value)
assert (logits == expected(what, frames[:1])).all()
print("end")
""")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_a_capture_that_fails_leaves_the_stream_as_it_was(library: Path) -> None:
    done = run(library, """
def failing():
    execution.execute_async_v3(stream.value)
    raise ValueError
try:
    capture(stream.value, failing)
except ValueError:
    print("raised")
try:
    capture(0, lambda: None)                              # the default stream
except CudaGraphError as error:
    print(error)
frame[0] = frames[1]
assert execution.execute_async_v3(stream.value)
assert cuda.cuStreamSynchronize(stream) == 0
assert (logits == expected(what, frames[1:2])).all()
""")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "raised\ncuStreamBeginCapture failed with 900: operation not permitted when stream is capturing\n"


def test_an_illegal_address_is_told_by_every_later_call(library: Path) -> None:
    done = run(library, """
module.lost = True
execution.execute_async_v3(stream.value)
print(cuda.cuStreamSynchronize(stream))
module.lost = False
print(execution.execute_async_v3(stream.value))
""")  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access was encountered)"
    assert done.stdout.splitlines()[-1] == "False"
    assert said in done.stdout
    assert "\n700\n" in f"\n{done.stdout}"
