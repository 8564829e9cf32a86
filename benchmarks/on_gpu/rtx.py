"""TensorRT-RTX, where its package is: an engine made for a named GPU and for this one, and run in edgevit's session."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.on_gpu.running import Report, SkippedError

OTHER = "8.0"
"""A compute capability that the library is told, whatever GPU is here."""


def rtx(report: Report) -> None:
    """Build for compute capability 8.0 and for this device; then open a session on each engine that there is."""
    from importlib.util import find_spec

    if find_spec("tensorrt_rtx") is None:
        msg = "no Python module tensorrt_rtx (pip install tensorrt_rtx)"
        raise SkippedError(msg)
    import numpy as np
    import tensorrt_rtx as trt

    from edgevit.device.gpu import gpu
    from edgevit.engine.tensorrt_session import TensorRtSession
    from edgevit.export.form import form_for
    from edgevit.export.graph import write_graph
    from edgevit.model.folded import forward
    from edgevit.model.quantplan import QuantPlan
    from tests.zoo import folded, frames

    here = gpu()
    assert here is not None
    report.figure("tensorrt_rtx", trt.__version__)
    model = folded()
    graph, images = write_graph(QuantPlan(model=model), form_for("tensorrt", "fp16")), np.stack(list(frames(model.config, 3)))
    problems = []
    for capability in dict.fromkeys((OTHER, here.compute_capability)):
        start = time.perf_counter()
        engine, said = _built(trt, graph, capability)
        if engine is None:
            report.figure(f"for {capability}", f"no engine: {said}")
            problems += [f"no engine for {capability}: {said}"] if capability == here.compute_capability else []
            continue
        report.figure(f"for {capability}, built in", time.perf_counter() - start, "s")
        try:
            with TensorRtSession(engine, trt) as session:
                import torch

                wanted = forward(model, torch.from_numpy(images)).numpy()
                found = session.infer(images)
                report.figure(f"for {capability}, largest difference from torch", float(np.abs(found - wanted).max()))
                report.figure(f"for {capability}, graph", str(session.graph))
                if not np.allclose(found, wanted, rtol=0, atol=0.02 * float(np.abs(wanted).max())):
                    problems.append(f"the engine for {capability} gives other logits")
        except Exception as error:  # an engine for another GPU need not run here
            report.figure(f"for {capability}, on this GPU", f"does not run: {error}")
            problems += [str(error)] if capability == here.compute_capability else []
    if problems:
        raise RuntimeError("; ".join(problems))


def _built(trt: Any, graph: bytes, capability: str) -> tuple[bytes | None, str]:
    """An engine for ``capability``, or why there is none."""
    from edgevit.engine.tensorrt_log import Messages, logger_of

    messages, name = Messages(), f"SM{capability.replace('.', '')}"
    with logger_of(trt).heard(messages):
        try:
            builder = trt.Builder(logger_of(trt))
            network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            parser = trt.OnnxParser(network, logger_of(trt))
            if not parser.parse(graph):
                return None, parser.get_error(0).desc()
            frames = network.get_input(0)
            frames.shape = (1, *tuple(frames.shape)[1:])
            config = builder.create_builder_config()
            known = getattr(trt.ComputeCapability, name, None)
            if known is None:
                return None, f"this library knows no {name}"
            config.num_compute_capabilities = 1
            config.set_compute_capability(known, 0)
            plan = builder.build_serialized_network(network, config)
        except (AttributeError, TypeError, RuntimeError) as error:
            return None, " ".join([*list(messages.errors)[-1:], str(error)]).splitlines()[0]
    return (None, " ".join(list(messages.errors)[-1:]) or "no reason is given") if plan is None else (bytes(memoryview(plan)), "")
