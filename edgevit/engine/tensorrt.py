"""TensorRT: a strongly typed graph compiled to an engine, in a process of its own, and loaded on the GPU it was made for.

From 10.3 (JetPack 6.1) to 11, and TensorRT-RTX; what differs between them is found by asking the module
what it has, never by its version. The builder runs in a child process (`edgevit.engine.tensorrt_child`):
it may be killed for memory, and then one line says so. Building needs no GPU where the builder needs none.
"""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.device.gpu import Gpu, gpu
from edgevit.engine.base import LayerTime, Session, cause
from edgevit.engine.builder import Advance, AheadOfTime, BuilderRefusedError, BuildOptions, BuiltEngine, NoBuilderError
from edgevit.engines import traits_of
from edgevit.errors import EngineError, MissingPackageError

if TYPE_CHECKING:
    from types import ModuleType

    from edgevit.engine.base import Frames

MODULES = {"tensorrt": ("tensorrt", "tensorrt_rtx"), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt")}
"""Engine to the Python modules that can compile for it; the second stands in for the first in a preflight."""
WORKSPACE_SHARE = 4  # of free memory; on a Jetson the GPU's memory is this memory
SMALLEST_WORKSPACE = 256 * 2**20
BLOCK = re.compile(r"\bblocks\.\d+")
PROGRESS = re.compile(r"(.+)\t(\d+)/(\d+)")
MEMORY = re.compile(
    r"out ?of ?memory|insufficient memory|could not be allocated|workspace limit|cudaErrorMemoryAllocation", re.IGNORECASE
)

LONGEST = 300  # characters of a child's last words in a message; pybind11 writes the repr of every argument
# What `python -m` would do, but for the current folder, which it puts first on the path: a tensorrt.py or resource.py there
# is the user's own. (-P is 3.11's.) edgevit's folder is last, for a parent that found it in its own current folder.
CHILD = (
    "import sys; folder, root = sys.argv[1:]; sys.path[:] = [*filter(None, sys.path), root]; "
    "from edgevit.engine.tensorrt_child import main; main(folder)"
)


def builder_module(engine: str = "tensorrt") -> ModuleType:
    """The Python module that compiles for ``engine``. Raises MissingPackageError with what to install."""
    for name in MODULES[engine]:
        if find_spec(name):
            return _imported(name)
    what = "tensorrt_rtx" if engine == "tensorrt_rtx" else "tensorrt"
    msg = (
        f"Compiling for {engine} needs its Python module, which is not installed. On a Jetson: apt install python3-libnvinfer, "
        f"and a virtual environment made with --system-site-packages; elsewhere: pip install {what}."
    )
    raise MissingPackageError(msg)


def _imported(name: str) -> ModuleType:
    try:
        module = import_module(name)
    except Exception as error:  # of several kinds, by version: a library that is not there, or for another Python
        msg = (
            f"{name} is installed and does not load: {cause(error)}. Its libraries and this Python must be those it was made "
            "for: on a Jetson the system's own python3, in a virtual environment made with --system-site-packages."
        )
        raise MissingPackageError(msg) from error
    if not hasattr(module, "Builder"):  # any folder of that name on the path imports
        where = module.__file__ or ", ".join(module.__path__)
        msg = f"{where} is imported as {name} and is not NVIDIA's {name}. Rename it, or leave its folder."
        raise MissingPackageError(msg)
    return module


def builder_version(engine: str = "tensorrt") -> str:
    """Name and version of what compiles for ``engine`` here. Raises MissingPackageError."""
    module = builder_module(engine)
    return f"{module.__name__} {module.__version__}"


def build_engine(
    model: bytes, options: BuildOptions, advance: Advance | None = None, *, engine: str = "tensorrt", timing_cache: bytes = b""
) -> BuiltEngine:
    """Compile an ONNX model.

    Raises BuilderRefusedError for what the parser or the builder refuses, NoBuilderError if it cannot
    start, EngineError if it dies or lacks memory, MissingPackageError without one.
    """
    module = builder_module(engine).__name__
    with tempfile.TemporaryDirectory(prefix="edgevit-") as temporary:
        folder = Path(temporary)
        (folder / "model.onnx").write_bytes(model)
        (folder / "timing.cache").write_bytes(timing_cache)
        wanted = asdict(options) | {"workspace": options.workspace or _workspace(gpu()), "module": module}
        (folder / "options.json").write_text(json.dumps(wanted))
        start = time.perf_counter()
        code, said = _run_child(folder, advance)
        seconds = time.perf_counter() - start
        if not (folder / "result.json").is_file():
            raise EngineError(_death(code, said, module))
        result = json.loads((folder / "result.json").read_text())
        if result["no_builder"]:
            raise NoBuilderError(_no_builder(result["no_builder"], result["version"]))
        if result["refused"]:
            raise _refusal(result["refused"], result["version"])
        inspector, failed = _inspected(folder / "inspector.json", code, said)
        return BuiltEngine(
            engine=(folder / "engine.plan").read_bytes(),
            timing_cache=(folder / "timing.cache").read_bytes(),
            version=result["version"],
            seconds=seconds,
            peak_mib=result["peak_mib"],
            layers=tuple(result["layers"]),
            inspector=inspector,
            warnings=(*result["warnings"], *failed),
        )


def _run_child(folder: Path, advance: Advance | None) -> tuple[int, str]:
    """The child's exit code and its last words on stderr."""
    command = [sys.executable, "-c", CHILD, str(folder), str(Path(__file__).parents[2])]
    # A session of its own: Ctrl-C reaches this process alone, which then ends the child.
    with (
        (folder / "stderr").open("wb") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace", start_new_session=True
        ) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                # Other lines are TensorRT's own.
                if advance and (found := PROGRESS.fullmatch(line.rstrip("\n"))):
                    advance(found[1], int(found[2]), int(found[3]))
            code = child.wait()
        finally:
            child.kill()
    return code, _last_words((folder / "stderr").read_text(errors="replace"))


def _last_words(text: str) -> str:
    """The exception of a traceback, without the lines that pybind11 adds to it, or else the last line; cut to LONGEST."""
    lines = text.strip().splitlines()
    traces = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    raised = next((line for line in lines[traces[-1] + 1 :] if line and not line[0].isspace()), None) if traces else None
    said = (raised or (lines[-1] if lines else "nothing")).partition(" The following argument types are supported")[0]
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."


def _inspected(report: Path, code: int, said: str) -> tuple[str | None, list[str]]:
    """The inspector's JSON, if any, and why there is none. The engine is as good without it."""
    if not report.is_file():
        how = "killed, most likely for memory" if code == -signal.SIGKILL else f"{_ending(code)}: {said}"
        return None, [f"the engine is complete, and its plan could not be inspected: {how}"] if code else []
    text = report.read_text(errors="replace")
    try:
        json.loads(text)
    except ValueError as error:
        return None, [f"the engine is complete, and its inspector's report is no JSON: {cause(error)}"]
    return text, []


def _death(code: int, said: str, module: str) -> str:
    if code == -signal.SIGKILL:
        return (
            f"{module}: the builder was killed, most likely for memory. Close other programs, add swap, or compile on "
            "a machine with more memory."
        )
    return f"{module}: the builder ended with {_ending(code)} and no engine. It said last: {said}"


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _no_builder(errors: list[str], version: str) -> str:
    said = "; ".join(dict.fromkeys(" ".join(text.split()) for text in errors))
    return f"{version}: the builder cannot start: {said}. It needs an NVIDIA GPU and a driver that is new enough: see nvidia-smi."


def _refusal(errors: list[list[str]], version: str) -> EngineError:
    """``errors`` are pairs of a node's name, as far as one is known, and the builder's text."""
    errors = [[node, " ".join(text.split())] for node, text in errors]
    if lacking := next((text for _, text in errors if MEMORY.search(text)), None):
        # Not the graph's fault: a retry with less INT8 would not help.
        return EngineError(f"{version}: not enough memory: {lacking}. Close other programs, add swap, or see --workspace.")
    blocks = sorted({block for error in errors for text in error for block in BLOCK.findall(text)}, key=lambda b: int(b[7:]))
    lines = [f"{node}: {text}" if node else text for node, text in errors]
    return BuilderRefusedError(f"{version} refuses this graph: {'; '.join(dict.fromkeys(lines))}", tuple(blocks))


def _workspace(found_gpu: Gpu | None) -> int | None:
    """Bytes; None leaves it to TensorRT, which takes what the GPU has."""
    if found_gpu and not found_gpu.integrated:
        return None
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return max(SMALLEST_WORKSPACE, int(found[1]) * 1024 // WORKSPACE_SHARE if found else 0)


def stamp_here(engine: str = "tensorrt") -> dict[str, str]:
    """What an engine compiled on this machine is bound to: the builder, the GPU, the driver and the platform.

    All Orins have one compute capability. What tells them apart is what an engine's kernels were chosen for, multiprocessors
    and memory; the latter in whole GiB, as a kernel's own share differs a little from one JetPack to the next.
    """
    found = gpu()
    return {
        "builder": builder_version(engine),
        "compute capability": found.compute_capability if found else "none",
        "multiprocessors": str(found.multiprocessors) if found else "none",
        "GPU memory": f"{found.memory // 2**30} GiB" if found else "none",
        "CUDA driver": found.cuda if found else "none",
        "platform": f"{sys.platform} {platform.machine()}",
    }


def lacking(engine: str = "tensorrt") -> str:
    """What this machine would need to run ``engine`` and has not, with how to get it; empty if it has all."""
    module = MODULES[engine][0]
    found = []
    if gpu() is None:
        found.append("no NVIDIA GPU, or no driver for it")
    if find_spec(module) is None:
        source = "on a Jetson: apt install python3-libnvinfer, and a virtual environment made with --system-site-packages"
        found.append(f"no Python module {module} ({source if module == 'tensorrt' else f'pip install {module}'})")
    if find_spec("pycuda") is None:
        found.append(f"no pycuda (pip install 'edgevit[{traits_of(engine).extra}]')")
    return "; ".join(found)


class TensorRt(AheadOfTime):
    """Compiled where it runs; an engine belongs to one GPU and one TensorRT. Batch 1, the camera's case."""

    name = "tensorrt"

    @property
    def version(self) -> str:
        """See `edgevit.engine.base.Backend.version`."""
        return builder_version(self.name)

    def lacking(self) -> str:
        """See `edgevit.engine.base.Backend.lacking`: a GPU, its own module, pycuda."""
        return lacking(self.name)

    def build(
        self, model: bytes, options: BuildOptions, advance: Advance | None = None, *, timing_cache: bytes = b""
    ) -> BuiltEngine:  # fmt: skip
        """See `edgevit.engine.builder.Builder.build`."""
        return build_engine(model, options, advance, engine=self.name, timing_cache=timing_cache)

    def load(self, engine: bytes, *, graph: bool = True) -> Session:
        """See `edgevit.engine.builder.Builder.load`."""
        from edgevit.engine.tensorrt_session import TensorRtSession

        return TensorRtSession(engine, builder_module(self.name), graph=graph)

    def stamp(self) -> dict[str, str]:
        """See `edgevit.engine.base.Backend.stamp`."""
        return stamp_here(self.name)

    def layer_times(
        self, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None
    ) -> list[LayerTime]:  # fmt: skip
        """See `edgevit.engine.base.Backend.layer_times`; of ``compiled``, which `edgevit.engine.profiling` sees that there is."""
        from edgevit.engine.tensorrt_profile import tensorrt_layer_times

        built = self.build(model, BuildOptions()).engine if compiled is None else compiled
        return tensorrt_layer_times(built, builder_module(self.name), frames, runs)


class TensorRtRtx(TensorRt):
    """TensorRT-RTX: compiled ahead of time on any machine, kernels chosen when the engine is first loaded."""

    name = "tensorrt_rtx"
