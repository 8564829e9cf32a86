"""The GPU machine's software: what is there, an environment of its own with what was brought along, and pycuda compiled."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.on_gpu.packing import join
from benchmarks.on_gpu.running import Report, SkippedError

MODULES = {
    "click": "click", "cv2": "opencv-python-headless", "msgspec": "msgspec", "numpy": "numpy", "onnx": "onnx",
    "onnxruntime": "onnxruntime", "pytest": "pytest", "rich": "rich", "safetensors": "safetensors", "mako": "mako",
    "platformdirs": "platformdirs", "pytools": "pytools", "setuptools": "setuptools", "wheel": "wheel",
}  # fmt: skip
"""Modules that must be there, and what has them."""
MODULES |= {"tomli": "tomli"} if sys.version_info < (3, 11) else {}


def machine(report: Report) -> None:
    """GPU, driver, compiler, torch. Skipped without a GPU, and with it all that needs one."""
    report.figure("Python", f"{platform.python_version()} {sys.executable}")
    found = gpu_name()
    if found is None:
        msg = "no NVIDIA GPU, or no driver for it"
        raise SkippedError(msg)
    for name, value in found.items():
        report.figure(name, value)
    nvcc = next(iter(_compilers()), None)
    report.figure("nvcc", _version(nvcc) if nvcc else "none")
    for module in ("torch", "tensorrt", "tensorrt_rtx", "pycuda"):
        report.figure(module, _version_of(module))


def gpu_name() -> dict[str, str] | None:
    """What the driver tells of the first GPU; None without one."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, version, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, and _MINOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return {
        "GPU": name.value.decode(errors="replace"), "compute capability": f"{major.value}.{minor.value}",
        "driver's CUDA": f"{version.value // 1000}.{version.value % 1000 // 10}",
    }  # fmt: skip


def environment(report: Report) -> None:
    """A virtual environment over this Python's own packages, with what lacks from what was brought along."""
    python = environment_python(report.work)
    if not python.exists():
        command = [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(python.parents[1])]
        _done(subprocess.run(command, capture_output=True, text=True, check=False), "venv")
    # Where this Python is itself a virtual environment's, --system-site-packages means those of the one below. By addsitedir, as
    # a path alone would leave out what .pth files there add.
    purelib = _done(_python(python, "import sysconfig; print(sysconfig.get_path('purelib'))"), "Python").strip()
    own = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    (Path(purelib) / "parent.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in own), encoding="utf-8"
    )
    lacking = _lacking(python)
    report.figure("packages that lacked", " ".join(lacking.values()) or "none")
    if lacking and report.packed is None:
        msg = f"{', '.join(lacking.values())}: not installed here. Bring them: gpu_check.py pack FOLDER, then run FOLDER"
        raise SkippedError(msg)
    if report.packed is None:
        return
    wheels = wheelhouse(report)
    if lacking:
        _pip(python, wheels, *lacking.values())
    if lacking := _lacking(python):
        msg = f"installed, and cannot be found: {', '.join(lacking)}"
        raise RuntimeError(msg)
    source = next(iter(sorted(wheels.glob("tensorrt_rtx*.tar.gz"))), None)
    if source and _version_of("tensorrt_rtx", python) == "none":
        _pip(python, wheels, "--no-build-isolation", str(source))
        report.figure("tensorrt_rtx", _version_of("tensorrt_rtx", python))


def _pip(python: Path, wheels: Path, *arguments: str) -> None:
    """Install from ``wheels`` and nothing else, with the pip that is among them or the machine's own."""
    pip = next(iter(sorted(wheels.glob("pip-*.whl"))), None)
    runner = [str(pip / "pip")] if pip else ["-m", "pip"]
    options = ["--disable-pip-version-check", "--no-index", "--find-links", str(wheels), "--no-compile", "--quiet"]
    command = [str(python), *runner, "install", *options, *arguments]
    _done(subprocess.run(command, capture_output=True, text=True, check=False), "pip install")


def wheelhouse(report: Report) -> Path:
    """The files that were brought along, joined."""
    assert report.packed is not None
    folder = report.work / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    join(report.packed, folder)
    return folder


def environment_python(work: Path) -> Path:
    """The interpreter of the environment that lies in ``work``."""
    return work / "venv" / "bin" / "python"


def pycuda(report: Report) -> None:
    """Compile pycuda with CUDA's headers and link it to the driver, unless it is there already."""
    if _loads():
        report.figure("pycuda", _version_of("pycuda"))
        return
    if report.packed is None:
        msg = "pycuda is not installed here. Bring its source: gpu_check.py pack FOLDER, then run FOLDER"
        raise SkippedError(msg)
    wheels = wheelhouse(report)
    source = next(iter(sorted(wheels.glob("pycuda-*.tar.gz"))), None)
    if source is None:
        msg = f"{report.packed}: there is no pycuda-*.tar.gz in it"
        raise SkippedError(msg)
    folder = report.work / "pycuda"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(folder)
    (root,) = folder.iterdir()
    headers, library = _headers(), _driver()
    report.figure("headers", str(headers))
    report.figure("driver's library", str(library))
    report.figure("C++ compiler", _version("c++") if shutil.which("c++") else _version("g++") if shutil.which("g++") else "none")
    links = report.work / "lib"
    links.mkdir(exist_ok=True)
    (links / "libcuda.so").unlink(missing_ok=True)
    (links / "libcuda.so").symlink_to(library)  # the linker looks for this name, and a container has libcuda.so.1 alone
    settings = {
        "CUDA_ROOT": str(headers.parent), "CUDA_INC_DIR": [str(headers)], "CUDADRV_LIB_DIR": [str(links)],
        "CUDA_ENABLE_CURAND": False,  # its library is often not there, and no session uses it
    }  # fmt: skip
    (root / "siteconf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()), encoding="utf-8")
    start = time.perf_counter()
    _pip(Path(sys.executable), wheels, "--no-build-isolation", "--no-deps", str(root))
    report.figure("compiled in", time.perf_counter() - start, "s")
    if not _loads():
        said = _python(Path(sys.executable), "import pycuda.driver").stderr.strip().splitlines()
        msg = f"compiled, and does not load: {said[-1] if said else 'nothing was said'}"
        raise RuntimeError(msg)
    report.figure("pycuda", _version_of("pycuda"))


def _loads() -> bool:
    return _python(Path(sys.executable), "import pycuda.driver as cuda; cuda.init(); cuda.Device(0)").returncode == 0


def _lacking(python: Path) -> dict[str, str]:
    code = f"from importlib.util import find_spec; print(*(name for name in {list(MODULES)} if find_spec(name) is None))"
    return {name: MODULES[name] for name in _done(_python(python, code), "Python").split()}


def _compilers() -> Iterator[Path]:
    for root in _roots():
        if (root / "bin" / "nvcc").is_file():
            yield root / "bin" / "nvcc"


def _roots() -> Iterator[Path]:
    """Where CUDA may be: named, on the path, at its usual places, and in NVIDIA's pip packages."""
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CONDA_PREFIX") if os.environ.get(name)]
    nvcc = shutil.which("nvcc")
    places = [Path(path) for path in named] + ([Path(nvcc).resolve().parents[1]] if nvcc else [])
    places += [*sorted(Path("/usr/local").glob("cuda*"), reverse=True), Path("/opt/cuda"), Path("/usr/lib/cuda"), Path("/usr")]
    for folder in dict.fromkeys(path for path in sys.path if path.endswith("-packages")):
        places += sorted((Path(folder) / "nvidia").glob("*"))
    yield from dict.fromkeys(path for path in places if path.is_dir())


def _headers() -> Path:
    """The folder with cuda.h. Raises RuntimeError with where it was looked for."""
    looked = [
        root / below for root in _roots() for below in ("include", "targets/x86_64-linux/include", "targets/sbsa-linux/include")
    ]
    for folder in looked:
        if (folder / "cuda.h").is_file():
            return folder
    msg = f"no cuda.h in {', '.join(map(str, looked))}"
    raise RuntimeError(msg)


def _driver() -> Path:
    """The driver's own libcuda, as the loader finds it: no stub is needed where there is a GPU."""
    ctypes.CDLL("libcuda.so.1")
    found = re.search(r"(/\S*libcuda\.so\S*)$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    if found is None:
        msg = "libcuda.so.1 loads from nowhere"
        raise RuntimeError(msg)
    return Path(found[1])


def _version(program: Path | str) -> str:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in said.splitlines() if "release" in line] or said.splitlines() or ["?"]
    return f"{lines[0].strip()} ({program})"


def _version_of(module: str, python: Path | None = None) -> str:
    """Of a module, without loading it here: a library that does not load may end the process."""
    code = f"import importlib.util as u, sys\nif u.find_spec({module!r}) is None: sys.exit('none')\nimport {module} as m"
    code += "\nprint(getattr(m, '__version__', None) or getattr(m, 'VERSION_TEXT', '?'))"
    code += "\nif m.__name__ == 'torch': print('CUDA', m.version.cuda, 'usable' if m.cuda.is_available() else 'not usable')"
    done = _python(python or Path(sys.executable), code)
    return " ".join(done.stdout.split()) if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[-1]


def _python(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)


def _done(done: subprocess.CompletedProcess[str], what: str) -> str:
    """What it printed. Raises RuntimeError with its last words."""
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        said = [line for line in (done.stderr or done.stdout).splitlines() if "error" in line.lower()] or done.stderr.splitlines()
        msg = f"{what}: {said[-1] if said else f'exit code {done.returncode}'}"
        raise RuntimeError(msg)
    return done.stdout
