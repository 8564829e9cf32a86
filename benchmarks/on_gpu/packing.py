"""What a machine without a network needs, in parts that every way of carrying takes: packed here, joined there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PART = 64 * 2**20
"""Bytes of a part, at most."""
CONTENTS = "pack.json"
PYCUDA = "pycuda>=2025.1.2"  # the first for CUDA 13
WHEELS = (
    "click>=8.1.7", "jinja2>=3.1", "markupsafe>=2.1", "msgspec>=0.18", "numpy>=1.24", "rich>=13.7",  # edgevit's own needs
    "onnx>=1.17", "onnxruntime>=1.19", "opencv-python-headless>=4.8", "pytest>=8.2", "safetensors>=0.4",  # those of its tests
    "mako", "platformdirs", "pytools", "setuptools", "wheel",  # those of pycuda, which is compiled there
    "pip",  # a machine's own may be missing, or of another environment
)  # fmt: skip
RTX = ("tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs"), "tensorrt_rtx_cu13"
"""TensorRT-RTX: its wheels, and the module over them, which comes as source."""
GLIBC = (*range(39, 16, -1), 12, 5)
"""Minor versions of glibc 2 in wheels' names: pip takes each for itself."""


def pack(folder: Path, *, python: str, leave_out: Sequence[str] = (), rtx: bool = False, part: int = PART) -> None:
    """Fill ``folder`` with wheels for CPython ``python`` (``3.12``) on x86-64 Linux, and pycuda's source; with TensorRT-RTX.

    ``leave_out`` names distributions that the machine has. Raises SystemExit with pip's last line if pip fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CONTENTS).exists() or any(folder.iterdir()):
        sys.exit(f"{folder}: is not empty. Name a new folder.")
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    options = [item for name in platforms for item in ("--platform", name)]
    wanted = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *options]
    needs = [*WHEELS, *(["tomli>=2.0", "exceptiongroup"] if python == "3.10" else [])]
    _download(folder, *wanted, *(need for need in needs if distribution(need) not in map(distribution, leave_out)))
    _download(folder, "--no-deps", "--no-binary=pycuda", PYCUDA)
    if rtx:
        wheels, source = RTX
        _download(folder, "--no-deps", *wanted, *wheels)
        _download(folder, "--no-deps", f"--no-binary={source}", source)
    unwanted = {distribution(name) for name in leave_out}
    for path in sorted(folder.iterdir()):
        if distribution(path.name) in unwanted:
            path.unlink()
    write_contents(folder, part)


def distribution(name: str) -> str:
    """The name of what a requirement or a file is of, as PEP 503 writes it but with underscores."""
    end = next((i for i, letter in enumerate(name) if letter in "<>=!~[; "), len(name))
    bare = name[:end]
    bare = bare.partition("-")[0] if bare.endswith((".whl", ".tar.gz")) else bare
    return bare.lower().replace("-", "_").replace(".", "_")


def _download(folder: Path, *arguments: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--quiet",
        "--dest",
        str(folder),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["nothing"]
        sys.exit(f"pip download: {lines[-1]}")


def write_contents(folder: Path, part: int = PART) -> None:
    """Cut files longer than ``part`` bytes, and write which files there are, of how many parts and with which digest."""
    listed = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        parts = [path.name]
        if len(content) > part:
            parts = [f"{path.name}.part{i:02d}" for i in range(-(-len(content) // part))]
            for i, name in enumerate(parts):
                (folder / name).write_bytes(content[i * part : (i + 1) * part])
            path.unlink()
        listed[path.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "parts": parts}
    (folder / CONTENTS).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def join(folder: Path, to: Path) -> list[Path]:
    """The files of ``folder``, whole, in the folder ``to``. Raises ValueError for one that lacks a part or is damaged."""
    to.mkdir(parents=True, exist_ok=True)
    return list(_joined(folder, to))


def _joined(folder: Path, to: Path) -> Iterator[Path]:
    try:
        listed = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{folder / CONTENTS}: cannot be read ({error}). Make the folder with: gpu_check.py pack"
        raise ValueError(msg) from error
    for name, file in listed.items():
        lacking = [part for part in file["parts"] if not (folder / part).is_file()]
        if lacking:
            msg = f"{folder}: {name} lacks {', '.join(lacking)}"
            raise ValueError(msg)
        content = b"".join((folder / part).read_bytes() for part in file["parts"])
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            msg = f"{folder}: {name} is not what was packed. Bring it again."
            raise ValueError(msg)
        (to / name).write_bytes(content)
        yield to / name
