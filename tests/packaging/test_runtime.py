"""edgevit itself as a Debian package: laid out by pip of small wheels, for another machine's Python; and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit import __version__
from edgevit.errors import ConfigError
from edgevit.packaging.runtime import Runtime, write_runtime

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not installed")

PLAIN = ("click-8.1.8", "jinja2-3.1.5", "markupsafe-3.0.2", "msgspec-0.19.0", "numpy-2.1.0", "rich-13.9.0")
ARM = "cp311-cp311-manylinux_2_28_aarch64"


def wheel(folder: Path, name: str, tag: str = "py3-none-any") -> Path:
    """A wheel as PEP 427 has it, with one module and a command."""
    project, version = name.split("-")
    path = folder / f"{name}-{tag}.whl"
    info = f"{name}.dist-info"
    files = {
        f"{project}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nRequires-Dist: never-there\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{project}-command = {project}:main\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    return path


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """For a Raspberry Pi; of wheels that hold next to nothing."""
    house = tmp_path / "wheels"
    house.mkdir()
    for name in PLAIN:
        wheel(house, name)
    wheel(house, "onnxruntime-1.20.0", ARM)
    wheel(house, "opencv_python_headless-4.10.0", "cp37-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64")
    return Runtime(engine="onnxruntime", machine="aarch64", python=(3, 11), wheelhouse=house)


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[[Runtime], tuple[str, Path]]:
    """Writes the package; returns its control file and the folder it was unpacked into."""

    def run(runtime: Runtime) -> tuple[str, Path]:
        path = write_runtime(runtime, tmp_path, "1.0")
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        subprocess.run(["dpkg-deb", "--raw-extract", path, tmp_path / "x"], check=True)
        return (tmp_path / "x/DEBIAN/control").read_text(), tmp_path / "x"

    return run


def test_package(runtime: Runtime, unpacked: Callable[[Runtime], tuple[str, Path]]) -> None:
    """A virtual environment for the device's Python, with every wheel and this very edgevit, and nothing of this machine."""
    control, root = unpacked(runtime)
    assert f"Version: {__version__}+1.0\nArchitecture: arm64\n" in control
    assert "Depends: python3 (>= 3.11), python3 (<< 3.12), adduser\n" in control
    assert "Provides: edgevit-runtime-cpu\n" in control
    venv = root / "usr/lib/edgevit/venv"
    packages = venv / "lib/python3.11/site-packages"
    assert (packages / "onnxruntime.py").read_text() == "version = '1.20.0'\n"
    assert (packages / "edgevit/_data/targets/cpu.toml").exists()
    assert (venv / "bin/python").readlink() == Path("/usr/bin/python3")
    assert not (packages / "bin").exists()
    texts = [path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(str(Path(sys.prefix)).encode() in text for text in texts)
    assert not list(root.rglob("__pycache__"))


def test_it_runs(runtime: Runtime, unpacked: Callable[[Runtime], tuple[str, Path]]) -> None:
    """On this machine's own Python its packages are found, by what Python takes for a virtual environment."""
    version = (sys.version_info.major, sys.version_info.minor)
    (runtime.wheelhouse / f"onnxruntime-1.20.0-{ARM}.whl").unlink()
    wheel(runtime.wheelhouse, "onnxruntime-1.20.0")
    _, root = unpacked(replace(runtime, python=version))
    python = root / "usr/lib/edgevit/venv/bin/python"
    python.unlink()
    python.symlink_to(Path(sys.executable).resolve())
    code = "import edgevit, onnxruntime; print(onnxruntime.version, edgevit.__file__)"
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "1.20.0"
    assert Path(said[1]).is_relative_to(root)


def test_the_devices_own_opencv(runtime: Runtime, unpacked: Callable[[Runtime], tuple[str, Path]]) -> None:
    """Without a wheel of it the system's package is asked for, which NumPy 2 would break."""
    next(runtime.wheelhouse.glob("opencv*")).unlink()
    with pytest.raises(ConfigError, match=r"built for NumPy 1, and NumPy 2\.1\.0 is there"):
        unpacked(runtime)
    next(runtime.wheelhouse.glob("numpy*")).unlink()
    wheel(runtime.wheelhouse, "numpy-1.26.4")
    assert "python3-opencv" in unpacked(runtime)[0]


def test_jetson(runtime: Runtime, unpacked: Callable[[Runtime], tuple[str, Path]]) -> None:
    """TensorRT is JetPack's; pycuda was built on a board."""
    jetson = replace(runtime, engine="tensorrt", python=(3, 10))
    for path in runtime.wheelhouse.glob("o*"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"lacks tomli>=2\.0"):
        unpacked(jetson)
    wheel(runtime.wheelhouse, "tomli-2.2.1")
    with pytest.raises(ConfigError, match="lacks pycuda"):
        unpacked(jetson)
    wheel(runtime.wheelhouse, "pycuda-2026.1", "cp310-cp310-linux_aarch64")
    next(runtime.wheelhouse.glob("numpy*")).unlink()
    wheel(runtime.wheelhouse, "numpy-1.26.4")
    control, _ = unpacked(jetson)
    assert "Depends: python3 (>= 3.10), python3 (<< 3.11), python3-libnvinfer, python3-opencv, adduser\n" in control
    assert "Provides: edgevit-runtime-jetson\n" in control


def test_engine_without_wheels_for_the_machine(runtime: Runtime) -> None:
    """OpenVINO has none for Arm, and edgevit does not ask for it there: ONNX Runtime stands in."""
    write_runtime(replace(runtime, engine="openvino"), runtime.wheelhouse.parent, "1.0")
    with pytest.raises(ConfigError, match="lacks openvino"):
        write_runtime(replace(runtime, engine="openvino", machine="x86_64"), runtime.wheelhouse.parent, "1.0")


@pytest.mark.parametrize("changes", [{"machine": "x86_64"}, {"python": (3, 12)}])
def test_wheels_for_another_device(runtime: Runtime, changes: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"onnxruntime-1\.20\.0.*is not a supported wheel on this platform"):
        write_runtime(replace(runtime, **changes), tmp_path, "1.0")
    assert not list(tmp_path.glob("*.deb"))


def test_broken_wheel(runtime: Runtime, tmp_path: Path) -> None:
    (runtime.wheelhouse / "rich-13.9.0-py3-none-any.whl").write_bytes(b"PK\3\4")
    with pytest.raises(ConfigError, match="--wheelhouse"):
        write_runtime(runtime, tmp_path, "1.0")
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"
