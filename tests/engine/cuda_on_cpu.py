"""libcuda on the CPU, for a machine without a GPU: pycuda and the GPU session, as they are, over memory and kernels of the CPU's.

    python tests/engine/cuda_on_cpu.py FOLDER
    LD_PRELOAD=FOLDER/libcuda.so.1 LD_LIBRARY_PATH=FOLDER python -m pytest -m gpu tests/engine/test_on_gpu.py

Linux and a C compiler; the second line needs pycuda, which is compiled with CUDA's headers. With CUDA_ON_CPU=push, or =pop,
making a context current, or no longer, fails after an error of a kernel. What it proves: calls, their order and types,
lifetimes, threads, forks. What it does not: anything about a GPU's time, or about what a GPU does at once with something else.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
HEADERS = [
    Path(folder) / name
    for folder in ("/usr/local/cuda/include", "/usr/include")
    for name in ("cuda.h", "cudaProfiler.h", "cudaGL.h")
]
NAME = re.compile(r"\bcu[A-Z]\w+")
NOT_SUPPORTED = 801


def make(folder: Path) -> Path:
    """Compile the library into ``folder``; returns it. Raises CalledProcessError if the compiler refuses it."""
    folder.mkdir(parents=True, exist_ok=True)
    library, rest = folder / "libcuda.so.1", folder / "rest.c"
    own = set(re.findall(r"^int (cu[A-Z]\w+)\(", SOURCE.read_text(), re.MULTILINE))
    # pycuda is linked to every function that it wraps: whatever else CUDA's headers name is there, and is not supported.
    named = {name for path in HEADERS if path.is_file() for name in NAME.findall(path.read_text(errors="replace"))}
    rest.write_text("".join(f"int {name}(void) {{ return {NOT_SUPPORTED}; }}\n" for name in sorted(named - own)))
    options = ["-O2", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-lpthread"]
    subprocess.run(["cc", str(SOURCE), str(rest), "-o", str(library), *options], check=True)
    return library


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
