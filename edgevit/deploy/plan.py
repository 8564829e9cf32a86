"""What is deployed, the same to every host: found, verified and hashed before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import Bundle, check_replaceable, open_bundle
from edgevit.deploy.destination import Destination
from edgevit.deploy.running import Running
from edgevit.deploy.wheel import make_wheel
from edgevit.engines import EngineTraits, traits_of
from edgevit.errors import ConfigError
from edgevit.files.clashes import Output, refuse_clashes
from edgevit.files.own_kinds import DEPLOYMENT, require_kind
from edgevit.files.writing import require_writable

FRAMES = 200
"""Frames of the benchmark."""
SOURCE = "test://1280x720@1000?frames={}"
"""Its source: a synthetic camera's size, faster than any engine."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every host gets, and where the results go."""

    bundle: Bundle
    digest: str
    """SHA-256 of the bundle's manifest, which holds that of every file: what the host has is compared by it."""
    bytes: int
    wheel: Path
    wheelhouse: Path | None
    """Packages to install from, for hosts without a package index."""
    out: Path
    """A folder per host is made here."""
    python: str = "python3"
    """The host's interpreter that the virtual environment is made with."""
    ssh: str = "ssh"
    frames: int = FRAMES
    running: Running | None = None
    """What is put into service there; None if nothing is."""

    @property
    def name(self) -> str:
        """Of the bundle, on the host, too; that of its folder where it is called ``.``."""
        return _name(self.bundle.path)

    @property
    def traits(self) -> EngineTraits:
        """Of the bundle's engine. Raises ConfigError for one that this edgevit does not know."""
        return traits_of(self.bundle.manifest.engine)

    @property
    def ahead(self) -> bool:
        """Whether the bundle's engine is compiled on the device and kept."""
        return self.traits.ahead_of_time

    @property
    def machine(self) -> str:
        """What the bundle's target says that ``uname -m`` is on its device; empty is whatever it is."""
        return (self.bundle.manifest.target.get("machine") or {}).get("arch") or ""

    @property
    def extra(self) -> str:
        """Which of edgevit's extras the host needs."""
        return self.traits.extra

    def wheels(self) -> list[Path]:
        """All that is installed from: edgevit's own wheel, and the wheelhouse's."""
        return [self.wheel, *(sorted(self.wheelhouse.glob("*.whl")) if self.wheelhouse else ())]


def make_plan(
    path: Path, work: Path, out: Path, *, keys: Sequence[Path] = (), wheelhouse: Path | None = None, python: str = "python3",
    ssh: str = "ssh", frames: int = FRAMES,
) -> Plan:  # fmt: skip
    """Verify the bundle at ``path``, with a signature by one of ``keys`` if there are any, and pack edgevit into ``work``.

    Raises BundleError for a bundle that is damaged or not signed, ConfigError for a wheelhouse without wheels or a name that
    cannot be one on the host.
    """
    bundle = open_bundle(path, keys)
    bundle.verify()
    name = _name(path)
    if not name.isprintable() or name.startswith("."):
        msg = f"{name!r} cannot be the bundle's name on a host: it is hidden, or not all of it can be printed. Rename it."
        raise ConfigError(msg)
    if wheelhouse is not None and not any(wheelhouse.glob("*.whl")):
        msg = f"--wheelhouse {wheelhouse}: no wheels there. Fill it with what the host needs: pip download --dest"
        raise ConfigError(msg)
    return Plan(
        bundle=bundle,
        digest=hashlib.sha256(bundle.manifest.to_json().encode()).hexdigest(),
        bytes=bundle.bytes,
        wheel=make_wheel(work),
        wheelhouse=wheelhouse,
        out=out,
        python=python,
        ssh=ssh,
        frames=frames,
    )


def check_places(plan: Plan, hosts: Sequence[Destination], keys: Sequence[Path] = ()) -> None:
    """See that what comes home can go where it belongs, and overwrites nothing else: neither what is sent nor a stranger's file.

    Raises ConfigError, BundleError or StorageError.
    """
    for host in hosts:
        folder = plan.out / host.name
        places = [Output(name="-o", path=folder), Output(name="-o", path=folder / "report.json")]
        if plan.ahead:
            places.append(Output(name="-o", path=folder / plan.name, replaced=True))
        refuse_clashes(places, [plan.bundle.path, *keys])
        require_kind(folder / "report.json", DEPLOYMENT)
        if plan.ahead:
            check_replaceable(folder / plan.name)
    require_writable(plan.out / "report", parents=True, option="-o")


def _name(path: Path) -> str:
    """``.`` and ``..`` are no names; a link keeps its own."""
    return path.name if path.name not in ("", "..") else path.resolve().name
