"""A bundle and its service as an artifact for Mender's update module ``directory``, made by Mender's own mender-artifact.

The module exchanges one folder: it takes ``update.tar``, what is to lie in the folder, and ``dest_dir``, where that is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgevit.errors import ConfigError, MissingPackageError, storage_errors
from edgevit.files.own_kinds import MENDER, require_kind
from edgevit.files.writing import beside, put
from edgevit.packaging.application import Application
from edgevit.packaging.launcher import launcher, settings_text, unit_text
from edgevit.packaging.mender_scripts import state_scripts
from edgevit.packaging.tree import Member, bundle_members, text_member, write_tar

PROGRAM = "mender-artifact"
DATA = "/data/edgevit"
"""On Mender's own partition for what outlives an update of the system."""


def write_mender(application: Application, folder: Path, device_types: Sequence[str], key: Path | None = None) -> Path:
    """Write ``edgevit-NAME-VERSION.mender`` into ``folder``, signed with the private key in ``key`` if there is one.

    Args:
        application: what is packaged.
        folder: that exists.
        device_types: Mender's names of the devices it is for, one at least.
        key: PEM, as mender-artifact takes it (RSA or ECDSA); the server and the devices check it.

    Raises ConfigError, MissingPackageError without mender-artifact, StorageError, BundleError.
    """
    path = folder / f"{application.title}-{application.version}.mender"
    require_kind(path, MENDER)
    home = f"{DATA}/{application.name}"
    with storage_errors(path, "-o"), beside(path) as scratch:
        write_tar(scratch / "update.tar", _members(application, home))
        (scratch / "dest_dir").write_text(f"{home}\n", encoding="utf-8")
        for name, text in state_scripts(application, home).items():
            (scratch / name).write_text(text, encoding="utf-8")
            (scratch / name).chmod(0o755)
        _run(command(application, device_types, scratch, key), path)
        made = scratch / "made.mender"
        if application.secret:
            made.chmod(0o600)
        put(made, path)
    return path


def command(application: Application, device_types: Sequence[str], scratch: Path, key: Path | None) -> list[str]:
    """What makes the artifact of the files in ``scratch``."""
    scripts = [each for name in state_scripts(application, "") for each in ("--script", str(scratch / name))]
    return [
        PROGRAM, "write", "module-image", "--type", "directory",
        *(each for kind in device_types for each in ("--device-type", kind)),
        "--artifact-name", f"{application.title}-{application.version}", "--software-name", application.title,
        "--software-version", application.version, "--file", str(scratch / "update.tar"), "--file", str(scratch / "dest_dir"),
        *scripts, "--output-path", str(scratch / "made.mender"), *(["--key", str(key)] if key is not None else []),
    ]  # fmt: skip


def _members(application: Application, home: str) -> Iterator[Member]:
    """What lies in the folder. A site's own settings, outside it, come first: an update keeps them."""
    own = f"{application.name}.conf"
    yield from bundle_members(application.bundle, "bundle")
    yield text_member("service", launcher(application, f"{home}/bundle", f"/etc/edgevit/{own}", f"{home}/{own}"), 0o755)
    yield text_member(f"{application.title}.service", unit_text(application, f"{home}/service", f"{home}/bundle"))
    yield text_member(own, settings_text(application), 0o640)


def _run(arguments: Sequence[str], path: Path) -> None:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False, env=os.environ)
    except FileNotFoundError as error:
        msg = f"{PROGRAM}: not found here, and it makes Mender's artifacts. Install it: apt install {PROGRAM}"
        raise MissingPackageError(msg) from error
    if done.returncode:
        reason = ((done.stderr + done.stdout).strip().splitlines() or ["it says nothing"])[-1]
        msg = f"{path}: {PROGRAM} cannot make it: {reason}. See the device types and the key."
        raise ConfigError(msg)
