"""What is packaged: one bundle, on one source, under a name and a version that every system for updates takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import ENGINE, Bundle
from edgevit.device.service import CsiStack
from edgevit.engines import EngineTraits, traits_of
from edgevit.errors import BundleError, ConfigError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
VERSION = re.compile(r"[0-9][A-Za-z0-9.]*")
LONGEST = 40  # characters: with edgevit- before it, it is a host name's part, an image's name and a unit's
RESERVED = ("runtime", "runtime-cpu", "runtime-jetson")
"""Names of the packages that hold edgevit itself."""
PROGRAM = "/usr/bin/edgevit"
USER = "edgevit"
KEYS = "/etc/edgevit/keys"
"""On the device: a public key in this folder makes a signature by it, or another one there, required of every bundle."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """A bundle with what `edgevit run` is to be told, as the command line checked it."""

    name: str
    version: str
    bundle: Bundle
    source: str
    options: tuple[str, ...] = ()
    secret: bool = False
    """Whether source or options hold a password or a token: then what is written is for its owner alone."""
    csi: CsiStack | None = None
    on_gpu: bool = False
    restarts_argus: bool = False
    """Whether NVIDIA's camera service is to be started anew before each start."""
    writable: tuple[Path, ...] = ()
    """Folders of the device that options write into; they must be there."""
    watchdog_s: int = 30
    within_s: int = 120
    """Seconds after an update within which frames must be classified."""
    engine: str = ""
    """Which engine options ask for; the bundle's own if empty."""
    min_fps: float | None = None
    """At what rate, at least; any if None."""

    @property
    def title(self) -> str:
        """What package, unit and image are called."""
        return f"edgevit-{self.name}"

    @property
    def traits(self) -> EngineTraits:
        """Of the engine that it runs on."""
        return traits_of(self.engine or self.bundle.manifest.engine)

    @property
    def machine(self) -> str:
        """What ``uname -m`` is on its device; empty for a bundle that runs on any."""
        return machine_of(self.bundle)


def machine_of(bundle: Bundle) -> str:
    """What ``uname -m`` is on the device of ``bundle``, ``aarch64`` say; empty where it runs on any."""
    target = bundle.manifest.target
    arch: str = (target.get("machine") or {}).get("arch") or ""
    return "aarch64" if target.get("family") == "jetson" else arch


def argus_may_deadlock(bundle: Bundle) -> bool:
    """Whether the engine was compiled by the TensorRT of JetPack 6.1 to 6.2.2: up to 6.2.1 its camera service can deadlock."""
    builder: str = ((bundle.manifest.compiled or {}).get("engine") or {}).get("builder") or ""
    return builder.partition(" ")[2].startswith("10.3.")


def check_name(name: str) -> str:
    """``name``, if it can be a package's, a unit's and an image's at once. Raises ConfigError."""
    if not NAME.fullmatch(name) or len(name) > LONGEST or name in RESERVED:
        msg = (
            f"--name {name!r}: packages and images take small letters, digits and single - only, a letter first, "
            f"at most {LONGEST}, and not {RESERVED[0]!r}. For example: --name solar-cells"
        )
        raise ConfigError(msg)
    return name


def check_version(version: str) -> str:
    """``version``, if Debian, Mender and registries take it alike. Raises ConfigError."""
    if not VERSION.fullmatch(version) or len(version) > LONGEST:
        msg = f"--version {version!r}: is a digit, then letters, digits and dots only, at most {LONGEST}. For example: 1.0.3"
        raise ConfigError(msg)
    return version


def default_name(bundle: Path) -> str:
    """The bundle's own name as one for `check_name`: ``Solar_Cells.edgevit`` is ``solar-cells``; maybe nothing is left of it."""
    own = bundle.name if bundle.name not in ("", "..") else bundle.resolve().name
    stem = own.removesuffix(".zip").removesuffix(".edgevit").lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")


def check_whole(bundle: Bundle) -> None:
    """Every file is what the manifest says, and an engine that is compiled on the device is there: packages do not compile.

    Raises BundleError.
    """
    bundle.verify()
    if traits_of(bundle.manifest.engine).ahead_of_time and ENGINE not in bundle.manifest.files:
        msg = (
            f"{bundle.path}: its engine is compiled on the device, and it is not compiled yet. Have one such board do it, "
            f"and package what comes back: edgevit deploy {bundle.path} USER@BOARD"
        )
        raise BundleError(msg)
