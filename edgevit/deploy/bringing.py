"""A compiled bundle's way home: fetched beside, checked, then put in the place of the one that was there."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgevit.bundle import ENGINE, MANIFEST, SIGNATURE, TIMING_CACHE, Bundle, Manifest, check_replaceable, open_bundle
from edgevit.deploy.identity import identity
from edgevit.deploy.ssh import Ssh, only
from edgevit.errors import RemoteError, storage_errors
from edgevit.files.paths import is_folder
from edgevit.files.writing import beside, put

GROWN = 4
SPARE = 256 * 2**20
"""The largest file that a host may send: so many times the whole bundle that was sent there, and so many bytes. A plan has about
the size of its graph; TensorRT may keep some weights twice."""


def bring_home(ssh: Ssh, remote: str, local: Path, sent: Bundle) -> Manifest:
    """Fetch the bundle ``remote``, which was ``sent`` there and compiled, to ``local``; returns its manifest.

    Only what its manifest vouches for comes. Raises RemoteError if it is not what was sent or too large, BundleError if it is
    damaged or ``local`` is something else, StorageError.
    """
    check_replaceable(local)
    packed = not sent.path.is_dir()
    part = local.with_name(f".{local.name}.part")  # stays if the link breaks: what has come need not come again
    with storage_errors(part, "-o"):
        if part.is_symlink() or part.is_dir() == packed:
            _remove(part)
    names = {MANIFEST, SIGNATURE, ENGINE, TIMING_CACHE, *sent.manifest.files}
    old = [f"--copy-dest={local.absolute()}"] if is_folder(local, RemoteError) and not packed else []
    options = [] if packed else [*old, *only(names)]
    ssh.fetch(remote if packed else f"{remote}/", part, *options, largest=GROWN * sent.bytes + SPARE)
    arrived = open_bundle(part, None)
    with storage_errors(part, "-o"):
        for path in () if packed else part.iterdir():
            if path.name not in {MANIFEST, SIGNATURE, *arrived.manifest.files}:
                _remove(path)
    arrived.verify()
    if identity(arrived.manifest) != identity(sent.manifest):
        msg = f"{ssh.host.address}: the bundle there is not the one that was sent. Run the same command again."
        raise RemoteError(msg)
    with storage_errors(local, "-o"), beside(local) as folder:
        put(part.rename(folder / "bundle"), local)
    return arrived.manifest


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
