"""A systemd unit that keeps a classifier running: restarted, watched, and allowed no more than it needs.

Of the system's manager, or of a user's own, which needs no root. The latter may drop privileges of its own processes (system
calls, sockets, new ones), but may not hide files or devices from them: that takes root, and is left out there.

Sources: systemd.service(5), systemd.exec(5), systemd.resource-control(5); raspberrypi/libcamera#62 for the devices that
libcamera opens.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgevit.device.jetson import Board
from edgevit.errors import ConfigError
from edgevit.files.own_kinds import UNIT_MARK

STATES, STATE_FILE, PLACE = "edgevit", "state.json", "EDGEVIT_STATE"
"""The folder of all services' states below /run or $XDG_RUNTIME_DIR, the file in a service's own, and what tells run of it."""
ORDER = """\
Wants=network-online.target
After=network-online.target nvargus-daemon.service
"""
HOPELESS = (2, 3, 5, 8)
"""Exit codes that no restart changes: a wrong option, a wrong model, a damaged or unsigned bundle, a missing package."""
INTERRUPTED = 130
STARTING_S = 600
"""An engine that is compiled at the start, on a small board, and the first frame of a camera far away."""
UNKEPT = (Path("/tmp"), Path("/var/tmp"))
"""Folders that a service has of its own, or that a restart empties."""

ALWAYS = """\
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
KeyringMode=private
LimitCORE=0
UMask=0077
# Not MemoryDenyWriteExecute: CPU engines write the code that they run.
"""
OF_SYSTEM = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectProc=invisible
RemoveIPC=yes
"""
ON_CPU = """\
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
ON_CPU_OF_SYSTEM = """\
# The processor and cameras are all it needs.
DevicePolicy=closed
DeviceAllow=char-video4linux rw
ProtectClock=yes
"""
ON_GPU = """\
# No DevicePolicy, ProtectClock or SystemCallFilter: a GPU's nodes and calls differ from driver to driver.
"""
LIBCAMERA = """\
# A CSI camera is a chain of media devices, and its pictures lie in memory that they share.
DeviceAllow=char-media rw
DeviceAllow=char-dma_heap rw
"""
ARGUS = """\
# NVIDIA's camera service has its socket in /tmp.
PrivateTmp=no
"""
OWN_TMP = """\
# Nothing of it is of others' concern.
PrivateTmp=yes
"""
RESTARTS_ARGUS = """\
# This JetPack's camera service can deadlock, for good, when a program dies while it captures. As root, and whatever comes of it.
ExecStartPre=-+/usr/bin/systemctl restart nvargus-daemon
"""

CsiStack = Literal["argus", "libcamera"]
Manager = Literal["system", "user"]
"""Whose unit it is: the machine's, put there by root, or a user's own."""
DEADLOCKS = ((36, 0, 0), (36, 5, 0))
"""L4T, from and before: JetPack 6.0 to 6.2.1, whose camera service only a restart brings back."""


def csi_stack(source: str, board: Board | None) -> CsiStack | None:
    """What ``source`` reads a CSI camera through, as `edgevit run` takes it; None if it reads none."""
    pipeline = source.removeprefix("gst:") if source.startswith("gst:") else ""
    if "nvargus" in pipeline or (source.startswith("csi:") and board):
        return "argus"
    return "libcamera" if "libcamera" in pipeline or source.startswith("csi:") else None


def argus_deadlocks(board: Board | None) -> bool:
    """Whether this board's camera service is one that can deadlock."""
    return board is not None and board.l4t is not None and DEADLOCKS[0] <= board.l4t < DEADLOCKS[1]


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is to run, and as whom."""

    name: str
    command: tuple[str, ...]
    """The program and its arguments; the program by its whole path."""
    bundle: Path
    user: str
    groups: tuple[str, ...] = ()
    """Of the machine; those that own cameras and GPU."""
    on_gpu: bool = False
    csi: CsiStack | None = None
    """What it reads a CSI camera through; None if it reads none."""
    restarts_argus: bool = False
    """Whether that service of NVIDIA's is to be started anew before each start."""
    writable: tuple[Path, ...] = ()
    """Folders that it may write to; none else."""
    environment: dict[str, str] = field(default_factory=dict)
    manager: Manager = "system"
    watchdog_s: int = 30
    memory: str = "75%"
    """As MemoryMax: a share of the machine's, or an amount such as 1024M."""


def unit(service: Service) -> str:
    """The unit's text. Raises ConfigError for a path or an argument that a unit cannot hold."""
    for path in (service.bundle, *service.writable, Path(service.command[0])):
        if any(folder in path.parents for folder in UNKEPT):
            msg = f"{path}: what lies in /tmp does not outlive a restart. Move it, for example to /opt or /var/lib."
            raise ConfigError(msg)
    system = service.manager == "system"
    lines = [
        f"{UNIT_MARK} Change it with systemctl edit, or write it anew.",
        "[Unit]",
        f"Description=edgevit {_plain(service.bundle.name)}",
        *(ORDER.splitlines() if system else []),
        "# A camera that is away for an hour must not exhaust the restarts.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        *(RESTARTS_ARGUS.splitlines() if service.restarts_argus and system else []),
        f"ExecStart={' '.join(map(quoted, service.command))}",
        *([f"User={_plain(service.user)}"] if system else []),
        *([f"SupplementaryGroups={' '.join(map(_plain, service.groups))}"] if service.groups and system else []),
        "# As Ctrl-C: the run ends with its summary.",
        "KillSignal=SIGINT",
        f"SuccessExitStatus={INTERRUPTED}",
        "Restart=on-failure",
        "RestartSec=2",
        f"RestartPreventExitStatus={' '.join(map(str, HOPELESS))}",
        f"TimeoutStartSec={STARTING_S}",
        "TimeoutStopSec=15",
        "# Every label is a sign of life.",
        f"WatchdogSec={service.watchdog_s}",
        f"MemoryMax={_plain(service.memory)}",
        "TasksMax=512",
        f"CacheDirectory={_plain(service.name)}",
        "# In memory: how the run goes, for edgevit healthcheck and fleet. It is kept when the run has ended.",
        f"RuntimeDirectory={STATES}/{_plain(service.name)}",
        "RuntimeDirectoryPreserve=yes",
        f'Environment="{PLACE}=%t/{STATES}/{_plain(service.name)}/{STATE_FILE}"',
        *(f"Environment={quoted(f'{key}={value}', expands=False)}" for key, value in _environment(service).items()),
        "",
        *(_walls(service) if system else []),
        *ALWAYS.splitlines(),
        *(ON_GPU if service.on_gpu else ON_CPU).splitlines(),
        "",
        "[Install]",
        f"WantedBy={'multi-user' if system else 'default'}.target",
    ]
    return "\n".join(lines) + "\n"


def _walls(service: Service) -> list[str]:
    """What only the system's manager can put between a service and the machine."""
    return [
        f"ReadOnlyPaths={quoted(str(service.bundle), expands=False)}",
        *(f"ReadWritePaths={quoted(str(path), expands=False)}" for path in service.writable),
        *(ARGUS if service.csi == "argus" else OWN_TMP).splitlines(),
        *OF_SYSTEM.splitlines(),
        *([] if service.on_gpu else ON_CPU_OF_SYSTEM.splitlines()),
        *(LIBCAMERA.splitlines() if service.csi == "libcamera" and not service.on_gpu else []),
    ]


def quoted(word: str, *, expands: bool = True) -> str:
    """``word`` as one word of a unit, in which systemd's quotes, escapes and specifiers mean nothing.

    ``expands`` says whether its variables would mean something, too: they do in a command. Raises ConfigError for control
    characters.
    """
    _refuse_control(word)
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text.replace("$", "$$") if expands else text}"'


def commands(path: Path, name: str, *, private: bool = False) -> tuple[str, ...]:
    """What to type to put the unit at ``path`` into service and to watch it; ``private`` if it holds a password."""
    return (
        f"sudo install -m {600 if private else 644} {shlex.quote(str(path))} /etc/systemd/system/{name}.service",
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {name}",
        f"journalctl -fu {name}",
    )


def _environment(service: Service) -> dict[str, str]:
    if service.manager == "user":  # its caches are where its user's are
        return {"PYTHONDONTWRITEBYTECODE": "1", **service.environment}
    cache = f"/var/cache/{service.name}"
    return {
        "EDGEVIT_CACHE": cache,
        # Homes are read-only: without it GStreamer loads every plugin anew to learn what it has, and pycuda compiles anew.
        "XDG_CACHE_HOME": cache,
        "CUDA_CACHE_PATH": f"{cache}/cuda",
        "PYTHONDONTWRITEBYTECODE": "1",
        **service.environment,
    }


def _plain(text: str) -> str:
    _refuse_control(text)
    return text.replace("%", "%%") if "%" in text[:-1] else text


def _refuse_control(text: str) -> None:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        msg = f"{text!r}: a service cannot have a name or an argument with control characters. Rename it."
        raise ConfigError(msg)
