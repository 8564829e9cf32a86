"""Debian packages, made by Debian's own dpkg-deb. The same files give the same bytes: deb(5), reproducible-builds.org."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from edgevit.errors import MissingPackageError, StorageError, storage_errors
from edgevit.files.own_kinds import DEB, require_kind
from edgevit.files.writing import beside, put
from edgevit.packaging.tree import EPOCH, epoch

PROGRAM = "dpkg-deb"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "": "all"}
"""Debian's names, by what ``uname -m`` says; empty is a package for all."""


def control(fields: Mapping[str, str]) -> str:
    """The text of a package's ``control``; further lines of a value are its long description, and empty ones are left out."""
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def build(
    path: Path,
    fields: Mapping[str, str],
    fill: Callable[[Path], int],
    scripts: Mapping[str, str],
    *,
    conffiles: Collection[str] = (),
    private: bool = False,
) -> None:
    """Write the package ``path``, all of it or nothing.

    Args:
        path: ends in ``.deb``; an older package there is replaced.
        fields: of ``control``, without Installed-Size.
        fill: writes its files below a folder, as they are to lie below ``/``; returns their bytes.
        scripts: what dpkg runs, by name.
        conffiles: paths of settings, from ``/`` on, which an update keeps if they were changed.
        private: whether it is for its owner alone.

    Raises:
        MissingPackageError: this machine has no dpkg-deb.
        StorageError: it cannot be written; ConfigError: something else is there; BundleError: a bundle is damaged.
    """
    require_kind(path, DEB)
    with storage_errors(path, "-o"), beside(path) as folder:
        root = folder / "package"
        root.mkdir(mode=0o755)
        kilobytes = -(-fill(root) // 1024)
        control_folder = root / "DEBIAN"
        control_folder.mkdir()
        control_folder.chmod(0o755)
        (control_folder / "md5sums").write_text("".join(_sums(root, {each.lstrip("/") for each in conffiles})))
        (control_folder / "control").write_text(control({**fields, "Installed-Size": str(kilobytes)}), encoding="utf-8")
        if conffiles:
            (control_folder / "conffiles").write_text("".join(f"{each}\n" for each in conffiles))
        for name, text in scripts.items():
            (control_folder / name).write_text(text, encoding="utf-8")
        for file in control_folder.iterdir():
            file.chmod(0o755 if file.name in scripts else 0o644)
        made = folder / "made.deb"
        _run(["--root-owner-group", "-Zgzip", "-z6", "--build", str(root), str(made)], path)
        if private:
            made.chmod(0o600)
        put(made, path)


def _sums(root: Path, conffiles: Collection[str]) -> Iterator[str]:
    """Lines of ``md5sums``, by which dpkg --verify finds what has changed; no protection against anybody."""
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.is_file() and not file.is_symlink() and not name.startswith("DEBIAN/") and name not in conffiles:
            yield f"{hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"


def _run(arguments: list[str], path: Path) -> None:
    command = [PROGRAM, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, EPOCH: str(epoch())}
        )
    except FileNotFoundError as error:
        msg = f"{PROGRAM}: not found here, and Debian packages are made by it. Install dpkg: apt install dpkg, brew install dpkg"
        raise MissingPackageError(msg) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        msg = f"{path}: {PROGRAM} cannot make it: {reason}. See that the disk has room for it three times."
        raise StorageError(msg)
