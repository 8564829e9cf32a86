"""NVIDIA's own program on the bundle's graph: whether it parses and builds, what fuses, how fast it is without edgevit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgevit.bundle import MODEL
from edgevit.commands.acceptance.outcome import Outcome
from edgevit.commands.acceptance.visit import Visit

PLACE = "/usr/src/tensorrt/bin/trtexec"
LIMIT_S = 420.0
FUSED = "_mha"
"""In the name of a layer that is a whole attention."""
PASSED = "&&&& PASSED"
COMPUTE = "GPU compute"
_MEDIAN = r"{}: .*?median = ([\d.]+) ms"


def median_ms(output: str, name: str) -> float | None:
    """The median of ``GPU Compute Time`` or ``Enqueue Time`` as trtexec prints it."""
    found = re.search(_MEDIAN.format(re.escape(name)), output)
    return float(found[1]) if found else None


def trtexec(visit: Visit) -> Iterator[Outcome]:
    """Build and time the graph with and without a CUDA graph."""
    step = "trtexec"
    if not visit.uses_tensorrt:
        yield Outcome(step=step, status="skipped", text=f"the bundle runs on {visit.bundle.manifest.engine}")
        return
    program = PLACE if Path(PLACE).is_file() else shutil.which("trtexec")
    if program is None:
        yield Outcome(step=step, status="skipped", text=f"there is no {PLACE}: sudo apt install libnvinfer-bin")
        return
    graph = visit.folder / MODEL
    graph.write_bytes(visit.bundle.read(MODEL))
    build = [program, f"--onnx={graph}", "--stronglyTyped"]
    blocks = len(visit.bundle.manifest.blocks)
    first = visit.run([*build, "--profilingVerbosity=detailed", "--dumpLayerInfo"], LIMIT_S)
    compute, enqueue = median_ms(first.output, "GPU Compute Time"), median_ms(first.output, "Enqueue Time")
    fused = sum(FUSED in line for line in first.output.splitlines())
    if compute is not None:
        visit.found[COMPUTE] = compute
    times = f"compute {compute} ms, enqueue {enqueue} ms"
    yield first.outcome(
        step, f"{first.ending}; {times}, {fused} layers of fused attention for {blocks} blocks",
        good=first.code == 0 and PASSED in first.output, expected="PASSED, and as many fused attentions as blocks",
    )  # fmt: skip
    second = visit.run([*build, "--useCudaGraph"], LIMIT_S)
    compute, enqueue = median_ms(second.output, "GPU Compute Time"), median_ms(second.output, "Enqueue Time")
    yield second.outcome(
        f"{step}, CUDA graph", f"{second.ending}; compute {compute} ms, enqueue {enqueue} ms",
        good=second.code == 0 and PASSED in second.output, expected="PASSED, and enqueuing far below the first run's",
    )  # fmt: skip
