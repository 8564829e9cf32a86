"""``edgevit service``: a systemd unit that keeps a classifier running."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFile, Writing, check_outputs
from edgevit.cli.options import json_option, watchdog_option
from edgevit.cli.say import say
from edgevit.errors import ConfigError
from edgevit.files.own_kinds import UNIT

if TYPE_CHECKING:
    from edgevit.bundle import Bundle

WRITTEN = ("save", "jsonl", "csv", "features", "state")
"""Options of run that name a file to write."""
WRITTEN_FOLDERS = ("snapshot",)
SECRETS, ADDRESSES, COMMANDS = ("--serve-token", "--metrics-token"), ("--webhook", "--mqtt"), ("--on-label",)
"""Options of run that are a secret, or may hold one."""


@click.command(cls=Writing)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", metavar="SOURCE...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", default="edgevit", show_default=True, help="What systemctl calls it.")
@click.option("--user", help="Whom it runs as; you, by default.")
@watchdog_option
@click.option("--memory", type=click.IntRange(128), metavar="MIB", help="Memory it may take; three quarters of the machine's.")
@click.option("--writable", multiple=True, type=click.Path(path_type=Path), help="A folder it may write to; may be given again.")
@click.option(
    "--output",
    "-o",
    type=OutputFile(UNIT, lambda values: Path(f"{checked(values['name'])}.service")),
    help="The unit; NAME.service by default.",
)
@json_option
def service(**values: Any) -> None:
    """Write a systemd unit that runs BUNDLE on SOURCE, or several, and say how to enable it.

    Everything after -- goes to edgevit run. Nothing is installed or started. The service is restarted when it fails or gives no
    label for a while, and may read its bundle, use the camera and the GPU, and little else.
    """
    from edgevit.cli.console import note, print_json
    from edgevit.device.service import commands, unit

    made = _service(values)
    shown = shown_command(made.command)
    secret = shown != made.command
    path = values["output"]
    _write(path, unit(made), private=secret)
    steps = commands(path, made.name, private=secret)
    if values["as_json"]:
        print_json({"unit": str(path), "name": made.name, "command": list(shown), "private": secret, "steps": list(steps)})
        return
    if secret:
        note(
            f"{path} holds a password or a token, so it is for its owner alone (mode 600); but ps and systemctl show it: use an "
            "account that may do no more than this"
        )
    say(f"{path}: as {made.user}, {' '.join(shown[2:])}")
    say("Put it into service:", *(f"  {step}" for step in steps))


def _service(values: dict[str, Any]) -> Any:
    """What is asked for, checked as far as this machine can: the bundle, run's options, the user."""
    import os
    import sys

    from edgevit.bundle import open_bundle
    from edgevit.device.jetson import detect
    from edgevit.device.service import Service, argus_deadlocks, csi_stack
    from edgevit.engines import runs_on
    from edgevit.runtime.cameras import parse_named
    from edgevit.signing import REQUIRE, required_keys

    bundle = open_bundle(values["bundle"])
    path, (sources, options) = bundle.path.absolute(), _split(values["source"])
    arguments = [str(path), *sources, "--headless", *options]
    asked = asked_of_run(bundle, arguments)
    board = detect()
    stacks = [csi_stack(parse_named(source).uri, board) for source in sources]
    csi = next((stack for stack in stacks if stack), None)
    keys = os.pathsep.join(str(key.absolute()) for key in required_keys())
    return Service(
        name=checked(values["name"]),
        command=(sys.executable, "-m", "edgevit", "run", *arguments),
        bundle=path,
        user=_user(values["user"]),
        groups=_groups(),
        # A Jetson decodes and reads CSI cameras on its GPU's nodes, whatever engine classifies.
        on_gpu=runs_on(asked.get("engine") or bundle.manifest.engine, "gpu") or board is not None,
        csi=csi,
        restarts_argus=csi == "argus" and argus_deadlocks(board),
        writable=_writable(values["writable"], asked),
        environment={REQUIRE: keys} if keys else {},
        watchdog_s=values["watchdog"],
        memory=f"{values['memory']}M" if values["memory"] else "75%",
    )


def asked_of_run(bundle: Bundle, arguments: list[str]) -> dict[str, Any]:
    """The values of ``edgevit run``'s parameters: a wrong option is refused now, not at midnight, nor one that fits no model."""
    from edgevit.cli.outputs import decider_of
    from edgevit.cli.run import run

    asked = run.make_context("edgevit run", list(arguments)).params
    check_outputs(run, asked, now=False)
    decider_of(asked, bundle)
    _check_whole(asked)
    return asked


def folders_of(asked: dict[str, Any]) -> tuple[Path, ...]:
    """Where a run that is asked so writes."""
    outputs = [asked[key].parent for key in WRITTEN if asked.get(key)]
    return tuple(dict.fromkeys([*outputs, *(asked[key] for key in WRITTEN_FOLDERS if asked.get(key))]))


def _writable(folders: tuple[Path, ...], asked: dict[str, Any]) -> tuple[Path, ...]:
    """What the unit must let it write to: the named folders, and those of the outputs that run is asked for."""
    from edgevit.files.paths import is_folder

    found = tuple(dict.fromkeys([*(folder.absolute() for folder in folders), *folders_of(asked)]))
    for folder in found:
        if not is_folder(folder, ConfigError):
            msg = f"{folder}: a service can only be let into a folder that is there. Make it first: mkdir -p {folder}"
            raise ConfigError(msg)
    return found


def _split(words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The sources, each named whole, and the options of run that follow them. Raises ConfigError if there is no source."""
    sources = list(takewhile(lambda word: not word.startswith("-"), words))
    if not sources:
        msg = f"no SOURCE before {words[0]}. Write edgevit service BUNDLE SOURCE -- {' '.join(words)}"
        raise ConfigError(msg)
    return list(map(_absolute, sources)), list(words[len(sources) :])


def shown_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """``command``, of `edgevit run`, without passwords and tokens: as it is if it has none."""
    from edgevit.cli.run import run
    from edgevit.runtime.cameras import shown_source
    from edgevit.runtime.redact import HIDDEN, redacted, without_secrets

    # python -m edgevit run BUNDLE SOURCE...: wherever among the options the sources stand.
    sources = run.make_context("edgevit run", list(command[4:]), resilient_parsing=True).params["source"] or ()
    shown, option = [], ""
    for word in command:
        name, equals, value = word.partition("=") if word.startswith("--") else (option, "", word)
        option = "" if equals or word == value else name  # its value is the next word
        if name in SECRETS and value:
            value = HIDDEN
        elif name in COMMANDS:
            value = without_secrets(value)
        elif name in ADDRESSES:
            value = redacted(value)
        elif word in sources:
            value = shown_source(word)
        shown.append(name if option else f"{name}={value}" if equals else value)
    return tuple(shown)


def _check_whole(asked: dict[str, Any]) -> None:
    """A service has no current folder that a relative path could start from."""
    given = [item for value in asked.values() for item in (value if isinstance(value, tuple) else (value,))]
    for path in given:
        if isinstance(path, Path) and not path.is_absolute():
            msg = f"{path}: a service has no current folder. Write the whole path: {path.absolute()}"
            raise ConfigError(msg)


def _absolute(source: str) -> str:
    """A service has no current folder: a file that is meant as one is named whole."""
    from edgevit.errors import SourceError
    from edgevit.files.paths import exists
    from edgevit.runtime.cameras import parse_named
    from edgevit.runtime.redact import redacted

    named = parse_named(source)
    path, called = Path(named.uri), "" if named.name is None else f"{named.name}="
    if named.uri.isdecimal() or not exists(path, SourceError, called=redacted(named.uri)):
        return source
    return f"{called}{path.absolute()}"


def checked(name: str) -> str:
    """``name``, if it can be a service's. Raises ConfigError."""
    import re

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        msg = f"--name {name!r}: a service's name has letters, digits, - and _ only."
        raise ConfigError(msg)
    return name


def _user(asked: str | None) -> str:
    import getpass
    import os
    import pwd

    name = asked or os.environ.get("SUDO_USER") or getpass.getuser()
    if name == "root" and asked is None:
        msg = "a camera does not need root. Name the user to run as: --user NAME"
        raise ConfigError(msg)
    try:
        pwd.getpwnam(name)
    except KeyError:
        msg = f"--user {name}: there is no such user here. Make one: sudo useradd --system --groups video {name}"
        raise ConfigError(msg) from None
    return name


def _groups() -> tuple[str, ...]:
    """The groups that own cameras and GPUs, where this system has them: a unit that names another does not start."""
    import grp

    known = {group.gr_name for group in grp.getgrall()}
    return tuple(name for name in ("video", "render") if name in known)


def _write(path: Path, text: str, *, private: bool) -> None:
    from edgevit.files.writing import write_whole

    write_whole(path, text, kind=UNIT, mode=0o600 if private else 0o644, option="-o")
