"""A compiled bundle's way home: fetched beside, checked, then put in the place of the one that was there."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgevit.bundle import Bundle, Manifest, check_replaceable, open_bundle
from edgevit.deploy.identity import identity
from edgevit.deploy.ssh import Ssh
from edgevit.errors import RemoteError, storage_errors


def bring_home(ssh: Ssh, remote: str, local: Path, sent: Bundle) -> Manifest:
    """Fetch the bundle ``remote``, which was ``sent`` there and compiled, to ``local``; returns its manifest.

    Raises RemoteError if it is not that, BundleError if it is damaged or ``local`` is something else, StorageError.
    """
    check_replaceable(local)
    packed = not sent.path.is_dir()
    beside, aside = (local.with_name(f".{local.name}.{what}") for what in ("part", "old"))
    with storage_errors(beside, "-o"):
        if aside.exists() and not local.exists():  # cut off between the two renames of `_swap`
            aside.replace(local)
        if beside.is_dir() == packed:
            _remove(beside)
    old = [f"--copy-dest={local.absolute()}"] if local.is_dir() and not packed else []
    ssh.fetch(remote if packed else f"{remote}/", beside, *old)
    arrived = open_bundle(beside, None)
    arrived.verify()
    if identity(arrived.manifest) != identity(sent.manifest):
        msg = f"{ssh.host.address}: the bundle there is not the one that was sent. Run the same command again."
        raise RemoteError(msg)
    with storage_errors(local, "-o"):
        _swap(beside, local, aside)
    return arrived.manifest


def _swap(fresh: Path, local: Path, old: Path) -> None:
    """Put ``fresh`` in the place of ``local``, which is there, here or as ``old``, until that is done."""
    if local.is_dir():  # a folder cannot be renamed over another
        _remove(old)
        local.replace(old)
    try:
        fresh.replace(local)
    except BaseException:  # Ctrl-C, too
        if old.exists() and not local.exists():
            old.replace(local)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
