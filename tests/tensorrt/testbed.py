"""The real TensorRT builder without a GPU: TensorRT 11.4's own Python module on top of TensorRT-RTX 1.7.

    python tests/tensorrt/testbed.py FOLDER

Then put FOLDER on PYTHONPATH: `import tensorrt` works, and `edgevit build --target jetson` checks plans.

x86-64 Linux, CPython 3.10 to 3.13, a C compiler, 150 MB. NVIDIA's builder compiles ahead of time on any machine,
so a graph is judged by NVIDIA's parser and compiler: whether it parses, what fuses, what runs in INT8, how many kernels
and bytes it costs. Not what an older TensorRT on a board does, and not one millisecond: running an engine needs a GPU.
The two versions belong together.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("tensorrt_cu13_bindings==11.4.0.106", "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0")
SHIM = Path(__file__).with_name("shim.c")
RTX = "onnxruntime_ep_nv_tensorrt_rtx"
LIBRARIES = {"INFER": ("libnvinfer.so.11", "libtensorrt_rtx"), "PARSER": ("libnvonnxparser.so.11", "libtensorrt_onnxparser_rtx"),
             "PLUGIN": ("libnvinfer_plugin.so.11", "libtensorrt_rtx")}  # fmt: skip
MODULE = '''"""TensorRT's own Python module over TensorRT-RTX: compiles engines without a GPU."""
import ctypes
import pathlib

for _name in {names}:
    ctypes.CDLL(str(pathlib.Path(__file__).with_name(_name)), mode=ctypes.RTLD_GLOBAL)

from tensorrt_bindings import *  # noqa: E402, F403
from tensorrt_bindings import __version__ as _bindings  # noqa: E402

__version__ = f"{{_bindings}} over TensorRT-RTX 1.7"
'''


def unsupported() -> str | None:
    """Why this machine cannot have a test bed; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"TensorRT-RTX's wheel is for x86-64 Linux, this is {sys.platform} {platform.machine()}"
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return f"TensorRT's wheel is for CPython 3.10 to 3.13, this is {platform.python_version()}"
    if find_spec("pip") is None:
        return "pip is needed in this Python: python -m ensurepip"
    if shutil.which("cc") is None:
        return "a C compiler is needed: apt install gcc"
    return None


def make(folder: Path) -> Path:
    """Make the test bed in ``folder``, or find it there; returns ``folder``.

    Raises CalledProcessError if pip or cc fails, FileExistsError rather than replace a folder with something else in it.
    """
    folder = folder.resolve()  # the stand-ins name their library by it
    marker = folder / "complete"
    wanted = hashlib.sha256(SHIM.read_bytes() + "".join(PACKAGES).encode() + MODULE.encode()).hexdigest()
    if marker.is_file() and marker.read_text() == wanted:
        return folder
    if not marker.is_file() and folder.is_dir() and any(folder.iterdir()):
        msg = f"{folder} has something else in it; name an empty folder or a new one"
        raise FileExistsError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One at a time, and beside, then renamed: a second run waits for the first, one that is killed leaves no half of it.
    with (
        (folder.parent / f".{folder.name}.lock").open("w") as lock,
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.is_file() and marker.read_text() == wanted:
            return folder
        fresh = Path(temporary) / "site"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(fresh), *PACKAGES]
        subprocess.run(install, check=True, capture_output=True, text=True)
        _stand_ins(fresh, folder)
        (fresh / "complete").write_text(wanted)
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        fresh.rename(folder)
    return folder


def _stand_ins(fresh: Path, final: Path) -> None:
    """The three libraries that the module loads, and the module's own ``__init__``."""
    module, rtx = fresh / "tensorrt", fresh / RTX
    module.mkdir()
    for role, (name, stem) in LIBRARIES.items():
        library = next(rtx.glob(f"{stem}.so.1.*")).name
        soname = rtx / f"{stem}.so.1"  # the parser looks for the builder by this name
        if not soname.exists():
            soname.symlink_to(library)
        command = ["cc", "-shared", "-fPIC", "-O1", f"-D{role}", f'-DLIBRARY="{final / RTX / soname.name}"']
        command += [f"-Wl,-soname,{name}", "-o", str(module / name), str(SHIM), "-ldl"]
        subprocess.run(command, check=True, capture_output=True, text=True)
    names = [name for name, _ in LIBRARIES.values()]
    (module / "__init__.py").write_text(MODULE.format(names=names))


def default_folder() -> Path:
    """Where tests keep it: EDGEVIT_TESTBED, or beside the user's other caches."""
    given = os.environ.get("EDGEVIT_TESTBED")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return Path(given) if given else cache / "edgevit-testbed" / version


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if reason := unsupported():
        sys.exit(f"error: {reason}")
    try:
        print(make(Path(sys.argv[1])))
    except FileExistsError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.stderr.strip().splitlines()[-1] if error.stderr.strip() else error}")
