"""How long a fresh process takes to its first result, and how much memory it needs. Run as a module it is that process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgevit.engine import builder, open_session
from edgevit.errors import EngineError

LIMIT = 300  # seconds; a slow board compiles a large ViT in one


@dataclass(frozen=True, kw_only=True)
class Startup:
    """A process that does nothing but load one model and run it once."""

    seconds: float
    """From starting Python to the first logits, compiling included where the engine compiles at every start."""
    peak_mib: float
    """Most resident memory, MiB, Python and the engine's library included."""


def measure_startup(engine: str, model: bytes, shape: tuple[int, int, int], *, compiled: bool, threads: int | None) -> Startup:
    """Start a process, load ``model`` (of the engine called ``engine``, if ``compiled``, else ONNX) and infer one black frame.

    ``shape`` is (height, width, 3) of the frame. Raises EngineError with the process's last words if it fails.
    """
    with tempfile.NamedTemporaryFile(prefix="edgevit-") as file:
        file.write(model)
        file.flush()
        task = {"engine": engine, "file": file.name, "shape": shape, "compiled": compiled, "threads": threads}
        package = str(Path(__file__).parents[2])  # found even where edgevit runs from a checkout
        code = f"import sys; sys.path.insert(0, {package!r}); from edgevit.measure.startup import run_once; run_once(sys.argv[1])"
        command = [sys.executable, "-c", code, json.dumps(task)]
        begin = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired as error:
            msg = f"{engine}: no result within {LIMIT} s of starting a process. Is the machine busy?"
            raise EngineError(msg) from error
        seconds = time.perf_counter() - begin
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        msg = f"{engine}: a fresh process could not run this model: {said}"
        raise EngineError(msg)
    return Startup(seconds=seconds, peak_mib=json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def run_once(task: str) -> None:
    """What the process does; prints its peak memory as JSON."""
    import numpy as np

    given = json.loads(task)
    content, engine = Path(given["file"]).read_bytes(), given["engine"]
    opened = builder(engine).load(content) if given["compiled"] else open_session(engine, content, threads=given["threads"])
    with opened as session:
        session.infer(np.zeros((1, *given["shape"]), np.uint8))
    print(json.dumps({"peak_mib": _peak_mib()}), flush=True)


def _peak_mib() -> float:
    """Of this program. Not getrusage's: Linux starts that at the size of the process that started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    msg = "/proc/self/status has no VmHWM"
    raise OSError(msg)
