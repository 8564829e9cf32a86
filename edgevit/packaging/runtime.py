"""edgevit itself as a Debian package, for devices that reach no package index: a virtual environment made of a wheelhouse.

A virtual environment is a folder of packages, a link to the interpreter and three lines of text (PEP 405). So it is laid out
here, for another machine's Python, and belongs to dpkg file by file: nothing is downloaded or left over on the device.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

import edgevit
from edgevit.deploy.wheel import make_wheel
from edgevit.engines import traits_of
from edgevit.errors import ConfigError, MissingPackageError
from edgevit.packaging import dpkg
from edgevit.packaging.application import KEYS, PROGRAM, USER
from edgevit.packaging.deb import changelog, maintainer
from edgevit.packaging.launcher import filled
from edgevit.packaging.tree import level, text_member, write_tree

HOME = "usr/lib/edgevit/venv"
NEWEST_GLIBC = 39
"""Minor version of glibc 2 in Ubuntu 24.04, and so in JetPack 7: wheels for newer ones are not for devices of today."""
OPENCV = "opencv"
TOMLLIB = (3, 11)
"""The first Python with a reader of TOML of its own: the only condition on a version that edgevit's needs have."""
SYSTEMS = {"jetson": ("python3-libnvinfer",)}
"""By extra: what a device's own packages bring beside the wheels."""

START = """\
#!/bin/sh
# -I: neither the current folder nor PYTHONPATH counts.
exec /@HOME@/bin/python -I -m edgevit "$@"
"""
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if ! getent passwd @USER@ >/dev/null; then
  adduser --system --group --quiet --home /nonexistent --no-create-home --gecos "camera classifier" @USER@
fi
# Cameras and GPU; not every system has each group.
for group in video render; do
  if getent group "$group" >/dev/null; then adduser --quiet @USER@ "$group"; fi
done
mkdir -p @KEYS@
py3compile -p edgevit-runtime /@HOME@ || true
"""
PRERM = """\
#!/bin/sh
set -e
find /@HOME@ -name __pycache__ -prune -exec rm -rf {} +
"""
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
  # A key that was put there is the administrator's.
  rmdir --ignore-fail-on-non-empty @KEYS@ /etc/edgevit 2>/dev/null || true
fi
"""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """edgevit for one kind of device."""

    engine: str
    """Which engine it must have; a key of `edgevit.engines.ENGINES`."""
    machine: str
    """``x86_64`` or ``aarch64``."""
    python: tuple[int, int]
    """Version of the device's ``/usr/bin/python3``."""
    wheelhouse: Path
    """A folder of wheels for these: all of them are in the package."""

    @property
    def extra(self) -> str:
        """The one of edgevit's extras that brings the engine: ``cpu``, ``jetson``."""
        return traits_of(self.engine).extra

    @property
    def wheels(self) -> list[Path]:
        """Those of the wheelhouse, but for another edgevit's."""
        return sorted(path for path in self.wheelhouse.glob("*.whl") if _distribution(path) != "edgevit")

    @property
    def brings_opencv(self) -> bool:
        """Whether one of them is OpenCV; else the device's own is used."""
        return any(_distribution(path).startswith(OPENCV) for path in self.wheels)


def write_runtime(runtime: Runtime, folder: Path, version: str) -> Path:
    """Write ``edgevit-runtime_VERSION_ARCH.deb`` into ``folder``; ``version`` goes behind edgevit's own.

    Raises ConfigError for a wheelhouse that lacks something or is for another machine; else as `edgevit.packaging.dpkg.build`.
    """
    _check(runtime)
    full = f"{edgevit.__version__}+{version}"
    architecture = dpkg.ARCHITECTURES[runtime.machine]
    path = folder / f"edgevit-runtime_{full}_{architecture}.deb"
    words = {"HOME": HOME, "USER": USER, "KEYS": KEYS}
    scripts = {"postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}
    dpkg.build(
        path,
        _fields(runtime, full, architecture),
        lambda root: _fill(root, runtime, full),
        {name: filled(text, words) for name, text in scripts.items()},
    )
    return path


def _fields(runtime: Runtime, version: str, architecture: str) -> dict[str, str]:
    major, minor = runtime.python
    brought = [*SYSTEMS.get(runtime.extra, ()), *([] if runtime.brings_opencv else ["python3-opencv"])]
    return {
        "Package": "edgevit-runtime",
        "Version": version,
        "Architecture": architecture,
        "Maintainer": maintainer(),
        # Wheels hold code that was compiled for one Python.
        "Depends": ", ".join([f"python3 (>= {major}.{minor})", f"python3 (<< {major}.{minor + 1})", *brought, "adduser"]),
        "Provides": f"edgevit-runtime-{runtime.extra}",
        "Section": "misc",
        "Priority": "optional",
        "Description": f"edgevit with its engine for devices ({runtime.extra})\n"
        " The command, its Python packages in a virtual environment, and the user that classifiers run as.",
    }


def _check(runtime: Runtime) -> None:
    """Raise ConfigError for what would be found out on the device only."""
    names = {_distribution(path): path for path in runtime.wheels}
    if not names:
        msg = f"--wheelhouse {runtime.wheelhouse}: no wheels there. Fill it with what the device needs: pip download --dest"
        raise ConfigError(msg)
    python = f"{runtime.python[0]}.{runtime.python[1]}"
    for need in _needs(runtime):
        name = _named(need)
        if name not in names and not name.startswith(OPENCV):
            device = f"{runtime.machine} and Python {python}"
            msg = f"--wheelhouse {runtime.wheelhouse}: lacks {need}. Get it for {device}: pip download --dest"
            raise ConfigError(msg)
    numpy = names["numpy"].name.split("-")[1]
    if not runtime.brings_opencv and not numpy.startswith("1."):
        msg = (
            f"--wheelhouse {runtime.wheelhouse}: without an OpenCV the device's own is used, which was built for NumPy 1, and "
            f"NumPy {numpy} is there. Put 'numpy<2' there instead, or opencv-python-headless"
        )
        raise ConfigError(msg)


def _needs(runtime: Runtime) -> Iterator[str]:
    """What edgevit and the engine ask for on that machine and Python, as pip takes it."""
    plain, extra = [], []
    for line in requires("edgevit") or ():
        need, _, marker = line.partition(";")
        marker = marker.replace('"', "'")
        if ("platform_machine" in marker and f"'{runtime.machine}'" not in marker) or (
            "python_version <" in marker and runtime.python >= TOMLLIB
        ):
            continue
        if "extra ==" not in marker:
            plain.append(need.strip())
        elif f"extra == '{runtime.extra}'" in marker:
            extra.append(need.strip())
    yield from plain
    # Where the engine has no wheels for that machine, another of its extra stands in.
    yield from [need for need in extra if _named(need) in traits_of(runtime.engine).modules] or extra


def _fill(root: Path, runtime: Runtime, version: str) -> int:
    """Lay out the virtual environment and the command below ``root``; returns the bytes of all."""
    packages = root / HOME / f"lib/python{runtime.python[0]}.{runtime.python[1]}/site-packages"
    packages.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="edgevit-") as work:
        _install([make_wheel(Path(work)), *runtime.wheels], packages, runtime)
    settings = "home = /usr/bin\ninclude-system-site-packages = true\nversion = {}.{}\n".format(*runtime.python)
    write_tree(root, [
        text_member(f"{HOME}/pyvenv.cfg", settings),
        text_member(PROGRAM.lstrip("/"), filled(START, {"HOME": HOME}), 0o755),
        text_member("usr/share/doc/edgevit-runtime/copyright", _copyright(packages)),
        changelog("edgevit-runtime", version),
    ])  # fmt: skip
    (root / HOME / "bin").mkdir()
    (root / HOME / "bin/python").symlink_to("/usr/bin/python3")
    level(root)
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def _install(wheels: Sequence[Path], packages: Path, runtime: Runtime) -> None:
    """Unpack ``wheels`` into ``packages``, by pip. Raises ConfigError for one that is not for that machine and Python."""
    platforms = [f"manylinux_2_{minor}_{runtime.machine}" for minor in range(NEWEST_GLIBC, 4, -1)]
    platforms += [f"{kind}_{runtime.machine}" for kind in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-index", "--no-deps",
        "--no-compile", "--only-binary=:all:", "--implementation=cp", f"--python-version={runtime.python[0]}.{runtime.python[1]}",
        *(f"--platform={platform}" for platform in platforms), f"--target={packages}", *map(str, wheels),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if "No module named pip" in done.stderr:
        msg = "pip: not installed here, and it is what unpacks wheels. Install it: python -m ensurepip"
        raise MissingPackageError(msg)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR: ")), "ERROR: it says nothing")
        msg = f"--wheelhouse {runtime.wheelhouse}: {reason.removeprefix('ERROR: ')} Name the device's Python with --python."
        raise ConfigError(msg)
    for name in ("bin", "share"):  # commands with this machine's Python in their first line, and pages of manuals
        shutil.rmtree(packages / name, ignore_errors=True)


def _copyright(packages: Path) -> str:
    lines = ["edgevit: Apache-2.0. The packages in its virtual environment have their licences in these folders:", ""]
    lines += [f"/{HOME}/lib/{path.parent.parent.name}/site-packages/{path.name}" for path in sorted(packages.glob("*.dist-info"))]
    return "\n".join(lines) + "\n"


def _distribution(wheel: Path) -> str:
    """The package that a wheel is of: its name's first part (PEP 427)."""
    return _plain(wheel.name.partition("-")[0])


def _named(need: str) -> str:
    """The package that a requirement is about."""
    return _plain(re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
