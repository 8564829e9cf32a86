"""``edgevit package``: a bundle and its service for the systems by which devices are updated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFolder, Writing
from edgevit.cli.options import json_option, signature_option, watchdog_option
from edgevit.cli.say import say
from edgevit.cli.service import asked_of_run, folders_of, shown_command

if TYPE_CHECKING:
    from edgevit.packaging.application import Application
    from edgevit.packaging.runtime import Runtime


@click.command(cls=Writing)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--as", "form", required=True, type=click.Choice(["deb", "mender", "container"]), help="What to write.")
@click.option("--version", required=True, help="Of this update, such as 1.0.3; a later one must be higher.")
@click.option("--name", help="What it is called on devices, behind edgevit-; after the bundle by default.")
@click.option("--output", "-o", type=OutputFolder(), default="packages", show_default=True, help="Folder to write it into.")
@click.option("--within", type=click.IntRange(1), default=120, show_default=True, metavar="SECONDS",
              help="After an update, frames must be classified within that time, or the former bundle comes back.")  # fmt: skip
@click.option("--min-fps", type=click.FloatRange(0), help="At that rate, at least.")
@watchdog_option
@click.option("--wheelhouse", type=click.Path(path_type=Path),
              help="With deb: write edgevit itself, too, of the wheels for the device that lie here.")  # fmt: skip
@click.option("--python", default="3.11", show_default=True, metavar="X.Y", help="With --wheelhouse: the device's Python.")
@click.option("--machine", type=click.Choice(["x86_64", "aarch64"]), help="With --wheelhouse: the device's, by uname -m.")
@click.option("--device-type", multiple=True, metavar="TYPE", help="With mender: what it is for; may be given again.")
@click.option("--mender-key", type=click.Path(path_type=Path), help="With mender: sign it with this private key.")
@signature_option
@json_option
def package(**values: Any) -> None:
    """Write BUNDLE, and a service that runs it on SOURCE, for the system that updates your devices.

    deb: for apt and dpkg. mender: an artifact of Mender's update module directory. container: a Dockerfile with its context, and
    a compose.yaml. Each checks the new bundle on the device, and brings the former one back if it is not well (a container: says
    so). Nothing is installed or sent.
    """
    from edgevit.cli.console import note, print_json
    from edgevit.commands.package import package as write

    application = _application(values)
    written = write(
        application, values["form"], values["output"],
        runtime=_runtime(values, application), device_types=values["device_type"], key=values["mender_key"],
    )  # fmt: skip
    if values["as_json"]:
        told = {"name": application.title, "version": application.version, "private": application.secret}
        bundle = application.bundle.sha256
        print_json({"as": values["form"], **told, "bundle": bundle, "written": [str(path) for path in written]})
        return
    if application.secret:
        note("a password or a token is in it, so it is for its owner alone: it belongs in no public repository or registry. "
             "Better is to set it on the device; see docs/updates.md")  # fmt: skip
    if values["form"] == "container" and not application.on_gpu and values["source"].startswith(("usb:", "csi:", "gst:")):
        note("edgevit's image for processors has no GStreamer, which this source is read through: name the camera by its number")
    for path in written:
        say(f"{path}: {_size(path):.1f} MB")
    say(*_next(values["form"], application, written))


def _application(values: dict[str, Any]) -> Application:
    """What is asked for, checked as far as this machine can: the bundle, run's options, the names."""
    from edgevit.bundle import open_bundle
    from edgevit.device.jetson import Board
    from edgevit.device.service import csi_stack
    from edgevit.engines import runs_on
    from edgevit.errors import ConfigError
    from edgevit.packaging.application import Application, argus_may_deadlock, check_name, check_version, default_name

    bundle = open_bundle(values["bundle"], values["keys"])
    name = check_name(values["name"] if values["name"] is not None else default_name(values["bundle"]))
    version = check_version(values["version"])
    arguments = [str(bundle.path.absolute()), values["source"], "--headless", *values["options"]]
    asked = asked_of_run(bundle, arguments)
    if any(word.partition("=")[0] == "--state" for word in values["options"]):
        msg = "--state is set by the package, whose health check reads it. Leave it out."
        raise ConfigError(msg)
    _check_source(values["source"])
    jetson = bundle.manifest.target.get("family") == "jetson"
    board = Board(model="", target=None, compute_capability=None, l4t=None, memory_bytes=None) if jetson else None
    command = ("python", "-m", "edgevit", "run", *arguments)
    csi, engine = csi_stack(values["source"], board), asked.get("engine") or ""
    return Application(
        name=name, version=version, bundle=bundle, source=values["source"], options=values["options"], engine=engine,
        secret=shown_command(command) != command, csi=csi, restarts_argus=csi == "argus" and argus_may_deadlock(bundle),
        on_gpu=runs_on(engine or bundle.manifest.engine, "gpu") or jetson, writable=folders_of(asked),
        watchdog_s=values["watchdog"], within_s=values["within"], min_fps=values["min_fps"],
    )  # fmt: skip


def _check_source(source: str) -> None:
    """A file or folder is one of the device, which has no current folder. Raises ConfigError."""
    from edgevit.errors import ConfigError
    from edgevit.runtime.redact import redacted

    plain = source.isdecimal() or ":" in source or source.startswith("/")
    if not plain:
        msg = f"{redacted(source)}: no camera or address, and a file must be named as it is on the device. Write /its/whole/path"
        raise ConfigError(msg)


def _runtime(values: dict[str, Any], application: Application) -> Runtime | None:
    import platform
    import re

    from edgevit.errors import ConfigError
    from edgevit.files.paths import is_folder
    from edgevit.packaging.runtime import Runtime

    if values["wheelhouse"] is None:
        return None
    if not is_folder(values["wheelhouse"], ConfigError):
        msg = f"--wheelhouse {values['wheelhouse']}: no such folder. Fill one with what the device needs: pip download --dest"
        raise ConfigError(msg)
    version = re.fullmatch(r"3\.(\d{1,2})", values["python"])
    if version is None or int(version[1]) < 10:
        msg = (
            f"--python {values['python']!r}: is a version of Python from 3.10 on, such as 3.11; on the device: python3 --version"
        )
        raise ConfigError(msg)
    machine = values["machine"] or application.machine or platform.machine()
    if application.machine and machine != application.machine:
        msg = f"--machine {machine}: the bundle was built for {application.machine}. Leave it out."
        raise ConfigError(msg)
    engine = application.engine or application.bundle.manifest.engine
    return Runtime(engine=engine, machine=machine, python=(3, int(version[1])), wheelhouse=values["wheelhouse"])


def _size(path: Path) -> float:
    """In MB, of a file or of all in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) / 1e6


def _next(form: str, application: Application, written: list[Path]) -> list[str]:
    """What to type next."""
    import shlex

    path = shlex.quote(str(written[0]))
    if form == "container":
        return [f"Run it: cd {path} && docker compose up -d --wait"]
    if form == "mender":
        return [f"Try it on one device: sudo mender install {path} && sudo mender commit"]
    files = " ".join(
        f"./{path}" if not path.startswith("/") else path for path in (shlex.quote(str(each)) for each in reversed(written))
    )
    return [f"On the device: sudo apt install {files}", f"Its log: journalctl -fu {application.title}"]
