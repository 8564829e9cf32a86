"""edgevit's own GPU session, measured: its graph, its launches, its copies, its frames, its memory over ten thousand of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.on_gpu.running import Report

SHAPE, CLASSES, KERNELS = (224, 224, 3), 1000, 100
"""What a ViT-S/16 is to the CPU: a frame, logits, and about a hundred launches."""
FRAMES = 10_000
COPIED = 64 * 2**20
GROWTH = 1.02
SPARE_MIB = 2.0
"""How much memory may grow from the thousandth frame to the last: by this factor, and so many MiB."""


def speed(report: Report) -> None:
    """The CUDA graph and what it spares; copies; frames per second with it and without."""
    import numpy as np

    from edgevit.engine.cuda_graph import capture
    from edgevit.engine.tensorrt_session import TensorRtSession
    from tests.engine.cuda_engine import CudaModule, expected, plan

    engine = plan(SHAPE, CLASSES, kernels=KERNELS)
    frames = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), np.uint8)
    start = time.perf_counter()
    with TensorRtSession(engine, CudaModule()) as session:
        report.figure("session opened in", 1e3 * (time.perf_counter() - start), "ms")
        report.figure("graph", str(session.graph))
        if not np.array_equal(session.infer(frames), expected(engine, frames)):
            msg = "logits are not those of the frames"
            raise RuntimeError(msg)
        with session._on_the_gpu():
            held = session._held
            made = []
            report.figure(
                "graph captured in", _milliseconds(lambda: made.append(capture(held.stream.handle, session._enqueue)), 10), "ms"
            )
            report.figure(f"enqueue of {KERNELS} launches", _milliseconds(session._enqueue, 200, held.stream.synchronize), "ms")
            graph = made.pop()
            replay = _milliseconds(lambda: graph.launch(held.stream.handle), 200, held.stream.synchronize)
            report.figure("enqueue of the graph", replay, "ms")
            for each in (graph, *made):
                each.close()
            for name, rate in _copies(held.cuda, held.stream).items():
                report.figure(name, rate, "GB/s")
        report.figure("frame", _milliseconds(lambda: session.infer(frames[:1]), 500), "ms")
    with TensorRtSession(engine, CudaModule(), graph=False) as session:
        report.figure("frame without graph", _milliseconds(lambda: session.infer(frames[:1]), 500), "ms")


def memory(report: Report) -> None:
    """Ten thousand frames, then a hundred sessions: memory of the process and of the GPU stays as it is."""
    import numpy as np

    from edgevit.engine.tensorrt_session import TensorRtSession
    from tests.engine.cuda_engine import CudaModule, expected, plan

    engine = plan(SHAPE, CLASSES, kernels=KERNELS)
    frames = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8)
    with TensorRtSession(engine, CudaModule()) as session:
        start, kept = time.perf_counter(), dict[int, tuple[float, float, int]]()
        for i in range(1, FRAMES + 1):
            session.infer(frames[i % 4 : i % 4 + 1])
            if i in (FRAMES // 10, FRAMES):
                kept[i] = _state(session)
        report.figure("frames per second", FRAMES / (time.perf_counter() - start))
        _tell(report, kept, "frames")
        if not np.array_equal(session.infer(frames), expected(engine, frames)):
            msg = "logits are no longer those of the frames"
            raise RuntimeError(msg)
    kept = {}
    with TensorRtSession(engine, CudaModule(), graph=False) as measuring:
        for i in range(1, 101):
            TensorRtSession(engine, CudaModule()).close()
            if i in (10, 100):
                kept[i] = _state(measuring)
    _tell(report, kept, "sessions")


def _tell(report: Report, kept: dict[int, tuple[float, float, int]], what: str) -> None:
    for i, (process, gpu, files) in kept.items():
        report.figure(f"after {i} {what}", f"{process:.1f} MiB of the process, {gpu:.1f} MiB of the GPU, {files} open files")
    first, last = kept.values()
    grown = [
        name for name, before, after in zip(("process", "GPU"), first, last, strict=False) if after > GROWTH * before + SPARE_MIB
    ]
    if grown or last[2] > first[2]:
        msg = f"not flat over {what}: {', '.join(grown) or 'open files'}"
        raise RuntimeError(msg)


def _state(session: Any) -> tuple[float, float, int]:
    """Resident MiB, MiB of the GPU in use, open files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    with session._on_the_gpu():
        free, total = session._held.cuda.mem_get_info()
    return int(fields["VmRSS"].split()[0]) / 1024, (total - free) / 2**20, len(list(Path("/proc/self/fd").iterdir()))


def _milliseconds(call: Callable[[], Any], times: int, afterwards: Callable[[], Any] = lambda: None) -> float:
    """Median of the time that ``call`` takes."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - start))
        afterwards()
    return median(found)


def _copies(cuda: Any, stream: Any) -> dict[str, float]:
    """10^9 bytes per second of copies from and to pinned memory, timed by the GPU, and from memory that is not."""
    import numpy as np

    pinned, plain, device = cuda.pagelocked_empty(COPIED, np.uint8), np.zeros(COPIED, np.uint8), cuda.mem_alloc(COPIED)
    work: dict[str, Callable[[], Any]] = {
        "copy to the GPU": lambda: cuda.memcpy_htod_async(device, pinned, stream),
        "copy from the GPU": lambda: cuda.memcpy_dtoh_async(pinned, device, stream),
        "copy to the GPU, not pinned": lambda: cuda.memcpy_htod(device, plain),
    }
    found = {}
    for name, call in work.items():
        times = []
        for _ in range(6):
            begin, end = cuda.Event(), cuda.Event()
            begin.record(stream)
            call()
            end.record(stream)
            end.synchronize()
            times.append(1e-3 * end.time_since(begin))
        found[name] = COPIED / 1e9 / min(times)
    device.free()
    return found
