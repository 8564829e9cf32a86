"""``edgevit package``: a bundle and its service, as a system for updates takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from edgevit.errors import ConfigError, storage_errors
from edgevit.packaging.application import Application, check_whole
from edgevit.packaging.container import write_container
from edgevit.packaging.deb import write_deb
from edgevit.packaging.mender import write_mender
from edgevit.packaging.runtime import Runtime, write_runtime

Form = Literal["deb", "mender", "container"]
FORMS: tuple[str, ...] = get_args(Form)


def package(
    application: Application,
    form: str,
    folder: Path,
    *,
    runtime: Runtime | None = None,
    device_types: Sequence[str] = (),
    key: Path | None = None,
) -> list[Path]:
    """Write ``application`` as ``form`` into ``folder``, which is made, and return what was written.

    Args:
        application: what is packaged; every file of its bundle is verified first.
        form: one of `FORMS`.
        folder: where to.
        runtime: with ``deb``, edgevit itself, as a second package.
        device_types: with ``mender``, the devices it is for.
        key: with ``mender``, the private key that it is signed with.

    Raises:
        ConfigError: what is asked for does not go together.
        BundleError: the bundle is damaged, or yet to be compiled.
        MissingPackageError: a program that this form is made by is missing here.
        StorageError: it cannot be written.
    """
    if form == "mender" and not device_types:
        msg = "--as mender: for which devices? Name their type as Mender has it: --device-type raspberrypi5-64"
        raise ConfigError(msg)
    for name, given, wanted in (
        ("--device-type", device_types, "mender"), ("--mender-key", key, "mender"), ("--wheelhouse", runtime, "deb")
    ):  # fmt: skip
        if given and form != wanted:
            msg = f"{name} is for --as {wanted}, not for --as {form}. Leave it out."
            raise ConfigError(msg)
    check_whole(application.bundle)
    with storage_errors(folder, "-o"):
        folder.mkdir(parents=True, exist_ok=True)
    if form == "container":
        return [write_container(application, folder)]
    if form == "mender":
        return [write_mender(application, folder, device_types, key)]
    written = [write_deb(application, folder)]
    return written if runtime is None else [*written, write_runtime(runtime, folder, application.version)]
