"""What this Python runs bundles with: TensorRT and pycuda or a CPU engine, and OpenCV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from edgevit.device.doctor.finding import Finding, Patient, new_enough
from edgevit.device.doctor.jetson_tensorrt import not_for
from edgevit.engines import ENGINES
from edgevit.target import load_target

SYSTEM_VENV = "python3 -m venv --system-site-packages VENV, and install edgevit there"
SYSTEM_TENSORRT = "apt install python3-libnvinfer"
COMPILERS = {"g++": "build-essential", "Python.h": "python3-dev", "nvcc": "nvidia-cuda-dev"}
"""What pycuda is compiled with, and the packages that have it, on JetPack 7, too. Ubuntu's nvidia-cuda-toolkit is another one."""
SYSTEM_OPENCV = ("python3-opencv", "libopencv-python")
"""Ubuntu's OpenCV for Python, and NVIDIA's of JetPack 5 and 6, which exclude each other."""
GSTREAMER = re.compile(r"GStreamer:\s+YES(?: \(([\d.]+)\))?")
NO_WINDOW = re.compile(r"GUI:\s+NONE")


def python(patient: Patient) -> Iterator[Finding]:
    """Whether it is JetPack's own, and sees the system's packages."""
    python, board = patient.python, patient.board
    where = f"in {python.environment}" if python.environment else "of the system"
    words = f"Python {python.version} {where}"
    shipped = board.jetpack.python if board and board.jetpack else None
    if shipped and not python.version.startswith(f"{shipped}."):
        fix = f"TensorRT's and OpenCV's packages are for JetPack's Python {shipped}: /usr/bin/python{shipped} -m venv "
        yield Finding(topic="Python", level="problem", text=words, fix=f"{fix}--system-site-packages VENV")
    elif board and not python.sees_system:
        text = f"{words}, which does not see the system's packages: neither TensorRT nor OpenCV of JetPack"
        level = "problem" if patient.needs_tensorrt else "warning"
        yield Finding(topic="Python", level=level, text=text, fix=SYSTEM_VENV)
    else:
        yield Finding(topic="Python", level="ok", text=words)


def tensorrt(patient: Patient) -> Iterator[Finding]:
    """Whether it loads, is new enough, and is the board's own."""
    if not patient.needs_tensorrt:
        return
    module, board = patient.module("tensorrt"), patient.board
    if module.missing is not None:
        package = patient.packages.get("python3-libnvinfer")
        if package:
            text, fix = f"python3-libnvinfer {package} is installed, and this Python does not see it", SYSTEM_VENV
        else:
            text, fix = "this Python has no module tensorrt", SYSTEM_TENSORRT if board else "pip install tensorrt"
        yield Finding(topic="TensorRT", level="problem", text=text, fix=fix)
        return
    if module.error is not None:
        text = f"tensorrt is installed and does not load: {module.error}"
        uninstall = f"pip uninstall {module.owner}; " if patient.python.owns(module) else ""
        fix = f"its libraries must be JetPack's: {uninstall}{SYSTEM_TENSORRT}"
        yield Finding(
            topic="TensorRT", level="problem", text=text, fix=fix if board else "pip install --force-reinstall tensorrt"
        )
        return
    origin = "of the system" if module.of_system else "neither of the system's packages nor of pip here"
    origin = "a wheel" if patient.python.owns(module) else origin
    words = f"tensorrt {module.version}, {origin}: {module.file}"
    minimum = (patient.target or load_target("jetson" if board else "rtx-ampere")).minimum.get("tensorrt", "10.3")
    if not new_enough(module.version, minimum):
        fix = f"edgevit needs TensorRT {minimum} or newer" + (
            ": install a newer JetPack" if board else ": pip install -U tensorrt"
        )
        yield Finding(topic="TensorRT", level="problem", text=words, fix=fix)
    elif board and patient.python.owns(module):
        # It hides JetPack's own, and is for servers: on an Orin with JetPack 6 it ends with "SM 87 is not supported".
        fix = f"on a Jetson use JetPack's own: pip uninstall {module.owner}"
        yield Finding(topic="TensorRT", level="warning", text=words, fix=fix)
    elif board and (against := not_for(board, module.version)):
        level, why, fix = against
        yield Finding(topic="TensorRT", level=level, text=f"{words}; {why}", fix=fix)
    elif board and not module.of_system:
        fix = f"NVIDIA's containers bring it so, and then it is the right one; on a board itself: {SYSTEM_TENSORRT}"
        yield Finding(topic="TensorRT", level="note", text=words, fix=fix)
    else:
        yield Finding(topic="TensorRT", level="ok", text=words)


def pycuda(patient: Patient) -> Iterator[Finding]:
    """Whether it loads; else what it is compiled with, as far as that lacks."""
    if not patient.needs_tensorrt:
        return
    module = patient.module("pycuda")
    if module.loads:
        yield Finding(topic="pycuda", level="ok", text=f"pycuda {module.version}")
        return
    fix = "pip install 'edgevit[jetson]'"
    if lacking := _lacking_compilers(patient):
        names, packages = ", ".join(lacking), " ".join(lacking.values())
        fix = f"it is compiled on installation and needs {names}: sudo apt install {packages}; then {fix}"
    elif str(Path("/usr/local/cuda/bin")) not in patient.python.path.split(os.pathsep):
        fix = f"export PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include; {fix}"
    why = "this Python has no pycuda" if module.missing is not None else f"pycuda does not load: {module.error}"
    yield Finding(topic="pycuda", level="problem", text=why, fix=fix)


def _lacking_compilers(patient: Patient) -> dict[str, str]:
    """What compiling a Python package with CUDA takes and is not here, with the package that has it."""
    root, version = patient.root, ".".join(patient.python.version.split(".")[:2])
    include = (patient.python.include or f"/usr/include/python{version}").lstrip("/")
    there = {
        "g++": any((root / folder / "g++").exists() for folder in ("usr/bin", "usr/local/bin")),
        "Python.h": (root / include / "Python.h").is_file(),
        "nvcc": (root / "usr/local/cuda/bin/nvcc").is_file(),
    }
    return {name: package for name, package in COMPILERS.items() if not there[name]}


def engine(patient: Patient) -> Iterator[Finding]:
    """Whether the engine of a bundle for another processor than a GPU loads."""
    engine = patient.engine
    name = ENGINES[engine].modules[0] if engine in ENGINES else engine
    if name not in patient.python.modules or patient.needs_tensorrt:
        return
    module = patient.module(name)
    if module.loads:
        yield Finding(topic="engine", level="ok", text=f"{engine} {(module.version or '').partition('-')[0]}")
    elif module.missing is not None:
        yield Finding(topic="engine", level="problem", text=f"this Python has no {name}", fix=_install(engine))
    else:
        fix = f"pip install --force-reinstall {name}; a wheel for another processor cannot load"
        yield Finding(topic="engine", level="problem", text=f"{name} does not load: {module.error}", fix=fix)


def _install(engine: str) -> str:
    return f"pip install 'edgevit[{ENGINES[engine].extra if engine in ENGINES else 'cpu'}]'"


def opencv(patient: Patient) -> Iterator[Finding]:
    """Whether it loads, has GStreamer, and can be installed beside what is there."""
    module, board = patient.module("cv2"), patient.board
    if "numpy.core.multiarray" in (module.error or "") or "_ARRAY_API" in (module.error or ""):
        why = f"OpenCV is built for NumPy 1, and this Python has a newer one: {module.error}"
        yield Finding(topic="OpenCV", level="problem", text=why, fix="pip install 'numpy<2'")
        return
    if not module.loads:
        why = "this Python has no OpenCV" if module.missing is not None else f"OpenCV does not load: {module.error}"
        own = _install_opencv(patient) if board else "pip install 'edgevit[cpu]' or apt install python3-opencv"
        fix = f"{own}; {SYSTEM_VENV}" if board and not patient.python.sees_system else own
        yield Finding(topic="OpenCV", level="problem", text=why, fix=fix)
        return
    found = GSTREAMER.search(module.build)
    gstreamer = f"with GStreamer {found[1] or ''}".rstrip() if found else "without GStreamer"
    words = f"OpenCV {module.version} {gstreamer}, {'of the system' if module.of_system else 'a wheel'}: {module.file}"
    if found:
        yield Finding(topic="OpenCV", level="ok", text=words)
    elif board:
        steps = [f"pip uninstall {module.owner}"] if patient.python.owns(module) else []
        if not steps or not any(name in patient.packages for name in SYSTEM_OPENCV):
            steps.append(_install_opencv(patient))
        fix = f"CSI cameras and hardware decoders need it: {'; '.join(steps)}"
        yield Finding(topic="OpenCV", level="warning", text=words, fix=fix)
    else:
        fix = "csi:// and decoding in hardware need the system's OpenCV; USB cameras and files do not"
        yield Finding(topic="OpenCV", level="note", text=words, fix=fix)
    if NO_WINDOW.search(module.build):
        yield Finding(
            topic="OpenCV", level="note", text="it cannot open windows", fix="run shows no picture; --save writes a video"
        )


def _install_opencv(patient: Patient) -> str:
    """How to install the system's OpenCV, as far as apt says what that would do to what is there."""
    refused = []
    for package in SYSTEM_OPENCV:
        done = patient.simulate(package)
        if done is None:
            break
        if done.harmless:
            return f"apt install {package}"
        refused.append(f"{package} {'would remove ' + ', '.join(done.removes) if done.removes else f'cannot be: {done.error}'}")
    why = f" (apt install says: {'; '.join(refused)})" if refused else ""
    return f"apt install {SYSTEM_OPENCV[0]}{why}"
