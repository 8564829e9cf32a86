"""This edgevit as a wheel, from the files it runs from: the host gets what was tested here, and nothing is fetched for it.

Laid out as PEP 427 says. Its bytes depend on the files alone, so an unchanged edgevit is not pushed twice.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import edgevit
from edgevit.errors import MissingPackageError
from edgevit.shipped import shipped_dir

PACKAGE = Path(edgevit.__file__).parent
DATA = ("calibration", "targets")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
WHEEL = "Wheel-Version: 1.0\nGenerator: edgevit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path) -> Path:
    """Write the wheel into ``folder``. Raises MissingPackageError where edgevit runs without being installed."""
    installed = _installed()
    info = f"edgevit-{installed.version}.dist-info"
    path = folder / f"edgevit-{installed.version}-py3-none-any.whl"
    records = io.StringIO()
    table = csv.writer(records, lineterminator="\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _files(installed, info):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            table.writerow((name, f"sha256={digest}", len(content)))
        table.writerow((f"{info}/RECORD", "", ""))
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", EPOCH), records.getvalue())
    return path


def requirements(extra: str, *, without: str = "") -> tuple[str, ...]:
    """What edgevit's ``extra`` needs, as pip takes it, but for the package called ``without``."""
    found = []
    for line in _installed().requires or ():
        need, _, marker = line.partition(";")
        if f"extra == '{extra}'" not in marker.replace('"', "'"):
            continue
        others = [part.strip() for part in marker.replace('"', "'").split(" and ") if "extra ==" not in part]
        name = need.strip()
        if not without or not name.startswith(without):
            found.append(f"{name}; {' and '.join(others)}" if others else name)
    return tuple(found)


def brought(needs: Iterable[str], machine: str) -> list[str]:
    """Of ``needs`` what pip installs on a host whose ``uname -m`` is ``machine``, in words for people."""
    parted = [need.partition(";") for need in needs]
    return [need.strip() for need, _, marker in parted if "platform_machine" not in marker or f"'{machine}'" in marker]


def _installed() -> Distribution:
    try:
        return distribution("edgevit")
    except PackageNotFoundError as error:
        msg = "deploy sends edgevit as it is installed here, and here it only runs from a folder. Install it: pip install ."
        raise MissingPackageError(msg) from error


def _files(installed: Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    """Names in the wheel and contents, in a fixed order."""
    for path in _below(PACKAGE):
        if path.relative_to(PACKAGE).parts[0] != "_data":
            yield f"edgevit/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes()
    for kind in DATA:
        for path in _below(shipped_dir(kind)):
            yield f"edgevit/_data/{kind}/{path.relative_to(shipped_dir(kind)).as_posix()}", path.read_bytes()
    for name in ("METADATA", "entry_points.txt"):
        yield f"{info}/{name}", (installed.read_text(name) or "").encode()
    yield f"{info}/WHEEL", WHEEL.encode()


def _below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
