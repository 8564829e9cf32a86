"""TensorRT-RTX, where its package is: an engine made for other GPUs and for this one, and run in edgevit's session."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.on_gpu.running import Report, SkippedError

CAPABILITIES = ("SM80", "CURRENT")
"""What engines are made for: GPUs of compute capability 8.0, and the one that is here."""
LONGEST = 200
"""Characters of a reason."""


def rtx(report: Report) -> None:
    """Build as edgevit does, for compute capability 8.0, and for this device; then open a session on each engine."""
    from importlib.util import find_spec

    if find_spec("tensorrt_rtx") is None:
        msg = "no Python module tensorrt_rtx (pip install tensorrt_rtx, or pack --rtx)"
        raise SkippedError(msg)
    import tensorrt_rtx as trt

    from edgevit.device.gpu import gpu
    from edgevit.engine.builder import BuildOptions
    from edgevit.engine.tensorrt import build_engine
    from edgevit.export.form import form_for
    from edgevit.export.graph import write_graph
    from edgevit.model.quantplan import QuantPlan
    from tests.zoo import folded

    here = gpu()
    assert here is not None
    report.figure("tensorrt_rtx", trt.__version__)
    graph = write_graph(QuantPlan(model=folded()), form_for("tensorrt", "fp16"))
    engines = {"edgevit's own": lambda: build_engine(graph, BuildOptions(), engine="tensorrt_rtx").engine}
    engines |= {name: lambda name=name: _built(trt, graph, name) for name in CAPABILITIES}  # type: ignore[misc]
    failures = [failure for name, build in engines.items() if (failure := _tried(report, trt, name, build))]
    known = f"SM{here.compute_capability.replace('.', '')}"
    if failures and not hasattr(trt.ComputeCapability, known):
        msg = f"this library is not made for compute capability {here.compute_capability}: {'; '.join(failures)}"
        raise SkippedError(msg)
    if failures := [failure for failure in failures if not failure.startswith("SM80")]:  # one for other GPUs need not run here
        raise RuntimeError("; ".join(failures))


def _tried(report: Report, trt: Any, name: str, build: Callable[[], bytes]) -> str:
    """Build an engine and run it in a session, against torch; what went wrong, or nothing."""
    import numpy as np
    import torch

    from edgevit.engine.tensorrt_session import TensorRtSession
    from edgevit.errors import EdgevitError
    from edgevit.model.folded import forward
    from tests.zoo import folded, frames

    model = folded()
    images = np.stack(list(frames(model.config, 3)))
    wanted = forward(model, torch.from_numpy(images)).numpy()
    start = time.perf_counter()
    try:
        engine = build()
        report.figure(f"{name}, built in", time.perf_counter() - start, "s")
        with TensorRtSession(engine, trt) as session:
            found = session.infer(images)
            report.figure(f"{name}, graph", str(session.graph))
    except (EdgevitError, RuntimeError, AttributeError) as error:
        report.figure(f"{name}", "does not run here")
        return f"{name}: {' '.join(str(error).split())[:LONGEST]}"
    report.figure(f"{name}, largest difference from torch", float(np.abs(found - wanted).max()))
    right = np.allclose(found, wanted, rtol=0, atol=0.02 * float(np.abs(wanted).max()))
    return "" if right else f"{name}: gives other logits than torch"


def _built(trt: Any, graph: bytes, capability: str) -> bytes:
    """An engine for ``capability``. Raises RuntimeError with the library's reason if there is none."""
    from edgevit.engine.tensorrt_log import Messages, logger_of

    messages, logger = Messages(), logger_of(trt)
    with logger.heard(messages):
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(graph):
            raise RuntimeError(parser.get_error(0).desc())
        frames = network.get_input(0)
        frames.shape = (1, *tuple(frames.shape)[1:])
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(messages.errors[-1] if messages.errors else "the builder gives no engine and no reason")
    return bytes(memoryview(plan))
