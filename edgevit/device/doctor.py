"""What stands between this machine and a running bundle, each finding with its fix. Reads, and changes nothing.

Sources of the fixes: NVIDIA's JetPack and TensorRT installation guides; the OpenCV wheels' own statement that they have no
GStreamer (opencv/opencv-python#524); pycuda's installation guide.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import ENGINE, MODEL, Bundle
from edgevit.device.dpkg import installed
from edgevit.device.files import first_number, text
from edgevit.device.jetson import GPU_CLOCKS, ROOT, Board, check_jetpack, detect, power_modes
from edgevit.device.memory import meminfo
from edgevit.device.modules import Module, Python
from edgevit.errors import ConfigError
from edgevit.target import Target, load_target, version_of

LEVELS = ("ok", "note", "warning", "problem")
"""A note is worth knowing, a warning will cost something, with a problem the bundle does not run."""
MIB = 2**20
BUILDER_MIB = 256  # measured: 240 for a model of half a MiB, TensorRT 11.4's builder in a process of its own, without a GPU
COPIES = 7  # measured there: the peak grows by 4.3 (FP16) to 6.7 (INT8) times the model's file
GPU_MIB = 512 + 256  # assumed: a CUDA context, which shares the system's memory; and the least that `compile` gives to kernels
SMALL_MIB = 8192
SYSTEM_VENV = "python3 -m venv --system-site-packages VENV, and install edgevit there"
SYSTEM_TENSORRT = "apt install python3-libnvinfer"
GSTREAMER = re.compile(r"GStreamer:\s+YES(?: \(([\d.]+)\))?")
NO_WINDOW = re.compile(r"GUI:\s+NONE")
SUPER_FIX = "update the board's firmware and system with its -super configuration (JetPack 6.2 or newer)"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    level: str
    """One of `LEVELS`."""
    text: str
    fix: str = ""
    """What to do; empty where there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is examined."""

    root: Path
    python: Python
    board: Board | None
    target: Target | None
    """The board's own."""
    packages: dict[str, str]
    """Version by Debian package."""
    bundle: Bundle | None

    @property
    def engine(self) -> str:
        """What the bundle runs on; without one, what this machine would."""
        if self.bundle:
            return self._engine_of(self.bundle.manifest.engine)
        return "tensorrt" if self.board else load_target("cpu").engine()

    def _engine_of(self, own: str) -> str:
        """A CPU bundle's own engine if it loads here; else, as a session does, the next one that does."""
        cpu = load_target("cpu")
        if own not in cpu.engines.values():
            return own
        modules = self.python.modules
        names = dict.fromkeys((own, cpu.engine(), *cpu.engines.values()))
        return next((name for name in names if name in modules and modules[name].loads), own)

    @property
    def needs_tensorrt(self) -> bool:
        """Whether what this machine runs is compiled by TensorRT."""
        return self.engine == "tensorrt"


def examine(python: Python, root: Path = ROOT, bundle: Bundle | None = None) -> tuple[Finding, ...]:
    """Everything worth saying about the machine whose file system ``root`` is, for ``bundle`` if one is given.

    Args:
        python: the interpreter that would run it; see `edgevit.device.modules.python_here`.
        root: the folder whose files are read.
        bundle: what is to run; it need not be compiled.
    """
    board = detect(root)
    patient = Patient(
        root=root,
        python=python,
        board=board,
        target=load_target(board.target) if board and board.target else None,
        packages=installed(root),
        bundle=bundle,
    )
    checks = (_board, _python, _tensorrt, _pycuda, _cpu_engine, _opencv, _power, _memory, _storage, _cameras)
    return tuple(finding for check in checks for finding in check(patient))


# --- the board -------------------------------------------------------------------------------------------------------


def _board(patient: Patient) -> Iterator[Finding]:
    board = patient.board
    if board is None:
        yield Finding(
            topic="board", level="ok", text="no Jetson: bundles run on the processor, or on an RTX card through TensorRT"
        )
        return
    names = f"{board.model}, {board.target or 'a module that edgevit has no target for'}"
    level, fix = ("ok", "") if board.target else ("warning", "build with --target jetson; see: edgevit targets")
    yield Finding(topic="board", level=level, text=names, fix=fix)
    jetpack = board.jetpack.version if board.jetpack else "unknown"
    if package := patient.packages.get("nvidia-jetpack"):
        jetpack += f" (package {package})"
    if board.l4t is None:
        yield Finding(
            topic="JetPack", level="warning", text="no L4T release is written anywhere", fix="see: cat /etc/nv_tegra_release"
        )
        return
    words = f"JetPack {jetpack}, L4T {'.'.join(map(str, board.l4t))}"
    try:
        check_jetpack(board)
    except ConfigError as error:
        yield Finding(topic="JetPack", level="problem", text=words, fix=str(error))
    else:
        yield Finding(topic="JetPack", level="ok", text=words)


def _power(patient: Patient) -> Iterator[Finding]:
    board = patient.board
    if board is None:
        return
    modes = power_modes(patient.root)
    mode = board.mode or (f"id {board.mode_id}" if board.mode_id is not None else "unknown")
    clock = f", GPU up to {board.gpu_mhz:g} MHz" if board.gpu_mhz else ""
    others = ", ".join(f"{name} is {key}" for key, name in modes.items() if key != board.mode_id)
    yield Finding(
        topic="power mode",
        level="ok" if not others else "note",
        text=f"{mode}{clock}",
        fix=f"this install's other modes, for sudo nvpmodel -m ID: {others}" if others else "",
    )
    yield from _super(patient, modes)
    clocks = [first_number(patient.root / folder / name for folder in GPU_CLOCKS) for name in ("min_freq", "max_freq")]
    if None not in clocks and clocks[0] != clocks[1]:
        yield Finding(
            topic="clocks",
            level="note",
            text="the GPU's clock follows the load",
            fix="for benchmarks, until the next start: sudo jetson_clocks",
        )


def _super(patient: Patient, modes: dict[int, str]) -> Iterator[Finding]:
    """Whether the module has faster modes than this install offers."""
    target, board = patient.target, patient.board
    fast = {mode.name for mode in target.modes if mode.conf == "super"} if target else set()
    only_super = fast - {mode.name for mode in target.modes if mode.conf == "standard"} if target else set()
    if not modes or not only_super or only_super & set(modes.values()) or board is None or (board.l4t or (0,)) < (36, 4, 3):
        return
    spec = re.search(r"^TNSPEC (\S+)", text(patient.root / "etc/nv_boot_control.conf"), re.MULTILINE)
    why = f"; its firmware is configured as {spec[1].rstrip('-')}" if spec and "-super" not in spec[1] else ""
    yield Finding(
        topic="power mode",
        level="warning",
        text=f"this install lacks the module's faster modes ({', '.join(sorted(only_super))}){why}",
        fix=SUPER_FIX,
    )


# --- software --------------------------------------------------------------------------------------------------------


def _python(patient: Patient) -> Iterator[Finding]:
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


def _tensorrt(patient: Patient) -> Iterator[Finding]:
    if not patient.needs_tensorrt:
        return
    module, board = _module(patient, "tensorrt"), patient.board
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
        fix = f"its libraries must be JetPack's: pip uninstall tensorrt; {SYSTEM_TENSORRT}"
        yield Finding(
            topic="TensorRT", level="problem", text=text, fix=fix if board else "pip install --force-reinstall tensorrt"
        )
        return
    words = f"tensorrt {module.version}, {'of the system' if module.of_system else 'a wheel'}: {module.file}"
    minimum = (patient.target or load_target("jetson" if board else "rtx-ampere")).minimum.get("tensorrt", "10.3")
    if not _new_enough(module.version, minimum):
        fix = f"edgevit needs TensorRT {minimum} or newer" + (
            ": install a newer JetPack" if board else ": pip install -U tensorrt"
        )
        yield Finding(topic="TensorRT", level="problem", text=words, fix=fix)
    elif board and not module.of_system:
        # A wheel is built for servers: on Orin it ends with "SM 87 is not supported", and it hides JetPack's own.
        yield Finding(topic="TensorRT", level="warning", text=words, fix="on a Jetson use JetPack's own: pip uninstall tensorrt")
    else:
        yield Finding(topic="TensorRT", level="ok", text=words)


def _pycuda(patient: Patient) -> Iterator[Finding]:
    if not patient.needs_tensorrt:
        return
    module = _module(patient, "pycuda")
    if module.loads:
        yield Finding(topic="pycuda", level="ok", text=f"pycuda {module.version}")
        return
    nvcc = patient.root / "usr/local/cuda/bin/nvcc"
    fix = "pip install 'edgevit[jetson]'"
    if not nvcc.is_file():
        fix = f"it is compiled on installation and needs nvcc: apt install nvidia-cuda-dev, or NVIDIA's cuda-toolkit; then {fix}"
    elif str(Path("/usr/local/cuda/bin")) not in patient.python.path.split(os.pathsep):
        fix = f"export PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include; {fix}"
    why = "this Python has no pycuda" if module.missing is not None else f"pycuda does not load: {module.error}"
    yield Finding(topic="pycuda", level="problem", text=why, fix=fix)


def _cpu_engine(patient: Patient) -> Iterator[Finding]:
    engine = patient.engine
    if engine not in patient.python.modules or patient.needs_tensorrt:
        return
    module = _module(patient, engine)
    if module.loads:
        yield Finding(topic="engine", level="ok", text=f"{engine} {(module.version or '').partition('-')[0]}")
    elif module.missing is not None:
        yield Finding(topic="engine", level="problem", text=f"this Python has no {engine}", fix="pip install 'edgevit[cpu]'")
    else:
        fix = f"pip install --force-reinstall {engine}; a wheel for another processor cannot load"
        yield Finding(topic="engine", level="problem", text=f"{engine} does not load: {module.error}", fix=fix)


def _opencv(patient: Patient) -> Iterator[Finding]:
    module, board = _module(patient, "cv2"), patient.board
    own = "apt install python3-opencv" if board else "pip install 'edgevit[cpu]' or apt install python3-opencv"
    if "numpy.core.multiarray" in (module.error or "") or "_ARRAY_API" in (module.error or ""):
        why = f"OpenCV is built for NumPy 1, and this Python has a newer one: {module.error}"
        yield Finding(topic="OpenCV", level="problem", text=why, fix="pip install 'numpy<2'")
        return
    if not module.loads:
        why = "this Python has no OpenCV" if module.missing is not None else f"OpenCV does not load: {module.error}"
        fix = own if patient.python.sees_system else f"{own}; {SYSTEM_VENV}" if board else own
        yield Finding(topic="OpenCV", level="problem", text=why, fix=fix)
        return
    found = GSTREAMER.search(module.build)
    gstreamer = f"with GStreamer {found[1] or ''}".rstrip() if found else "without GStreamer"
    words = f"OpenCV {module.version} {gstreamer}, {'of the system' if module.of_system else 'a wheel'}: {module.file}"
    if found:
        yield Finding(topic="OpenCV", level="ok", text=words)
    elif board:
        fix = "CSI cameras and hardware decoders need it: pip uninstall opencv-python opencv-python-headless; "
        yield Finding(topic="OpenCV", level="warning", text=words, fix=f"{fix}{own}")
    else:
        fix = "csi:// and decoding in hardware need the system's OpenCV; USB cameras and files do not"
        yield Finding(topic="OpenCV", level="note", text=words, fix=fix)
    if NO_WINDOW.search(module.build):
        yield Finding(
            topic="OpenCV", level="note", text="it cannot open windows", fix="run shows no picture; --save writes a video"
        )


# --- room ------------------------------------------------------------------------------------------------------------


def _memory(patient: Patient) -> Iterator[Finding]:
    found = {name: size / MIB for name, size in meminfo(patient.root).items()}
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        return
    free, swap = found["MemAvailable"], found.get("SwapFree", 0.0)
    words = f"{free:.0f} of {found['MemTotal']:.0f} MiB free, {swap:.0f} MiB of swap"
    if patient.bundle and patient.needs_tensorrt:
        need, how = _builder_need(patient.bundle)
        words += f"; compiling this bundle takes about {need:.0f} MiB ({how})"
        if free + swap < need:
            fix = "close other programs, log out of the desktop (sudo systemctl isolate multi-user.target), or add swap: "
            yield Finding(topic="memory", level="warning", text=words, fix=fix + _swap_fix(need - free))
            return
    if patient.board and not swap and found["MemTotal"] < SMALL_MIB:
        fix = f"compiling may be killed for memory: {_swap_fix(SMALL_MIB / 2)}"
        yield Finding(topic="memory", level="warning", text=words, fix=fix)
        return
    yield Finding(topic="memory", level="ok", text=words)


def _builder_need(bundle: Bundle) -> tuple[float, str]:
    """MiB that compiling takes, and where the figure comes from."""
    compiled = bundle.manifest.compiled or {}
    measured = (compiled.get("plan") or {}).get("builder_mib")
    if measured:
        where = "here or on a board like it" if ENGINE in bundle.manifest.files else "by a stand-in for the board's builder"
        return measured + GPU_MIB, f"measured {where}, and {GPU_MIB} for the GPU"
    model = bundle.manifest.files[MODEL].bytes / MIB if MODEL in bundle.manifest.files else 0.0
    return BUILDER_MIB + COPIES * model + GPU_MIB, "estimated from the size of its weights"


def _swap_fix(mib: float) -> str:
    gib = max(2, round(mib / 1024 + 0.5))
    return f"sudo fallocate -l {gib}G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"


def _storage(patient: Patient) -> Iterator[Finding]:
    if patient.bundle is None:
        return
    folder = patient.bundle.path.absolute().parent
    free, size = shutil.disk_usage(folder).free, patient.bundle.bytes
    words = f"{free / MIB:.0f} MiB free at {folder}, the bundle has {size / MIB:.0f}"
    if free < 3 * size:  # written beside the old one, with an engine
        yield Finding(
            topic="storage", level="warning", text=words, fix="compiling writes a second bundle first: free space there"
        )
    else:
        yield Finding(topic="storage", level="ok", text=words)


def _cameras(patient: Patient) -> Iterator[Finding]:
    nodes = sorted(patient.root.glob("dev/video[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    if not nodes:
        yield Finding(
            topic="camera", level="note", text="no /dev/video*", fix="for a USB camera see lsusb and dmesg; run takes files, too"
        )
    for node in nodes:
        name = text(patient.root / f"sys/class/video4linux/{node.name}/name").strip() or "unnamed"
        if os.access(node, os.R_OK | os.W_OK):
            yield Finding(topic="camera", level="ok", text=f"/dev/{node.name}: {name}")
        else:
            fix = "sudo usermod -aG video $USER, then log in again"
            yield Finding(
                topic="camera", level="problem", text=f"/dev/{node.name}: {name}, which this user may not open", fix=fix
            )
    if patient.board and not (patient.root / "tmp/argus_socket").exists():
        fix = "for a CSI camera: sudo systemctl restart nvargus-daemon"
        yield Finding(topic="camera", level="note", text="NVIDIA's camera service does not run", fix=fix)


def _module(patient: Patient, name: str) -> Module:
    return patient.python.modules.get(name, Module(missing=f"{name} was not looked for"))


def _new_enough(version: str | None, minimum: str) -> bool:
    numbers = re.match(r"\d+(\.\d+)*", version or "")
    return numbers is None or version_of(numbers[0]) >= version_of(minimum)
