"""What a service is to run, as a deployment sends it: one JSON object, which may hold passwords."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from msgspec import Meta

from edgevit.files.fromjson import conform, json_value

LIMIT = 2**20
"""Characters of such an object."""
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]

WITHIN_S = 120.0
"""Seconds until a run must be healthy, if nobody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A release beside its bundle."""

    source: str
    """As `edgevit run` takes it."""
    options: tuple[str, ...] = ()
    """More of its command line."""
    manager: Literal["user", "system"] = "user"
    """Whose service it is where systemd runs."""
    watchdog_s: Annotated[int, Meta(ge=2)] = 30
    """Seconds without a label, after which it is started anew."""
    writable: tuple[str, ...] = ()
    """Folders that it writes to."""
    pushed: str = ""
    """SHA-256 of the bundle's manifest as it was sent: compiling there changes it."""
    installed: str = ""
    """Of all that edgevit was installed from there."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A release to put into service, and what it must reach there."""

    folder: str
    """All that is deployed lies in it."""
    name: Name
    bundle: str
    """Its name below ``bundles``."""
    wanted: Wanted
    min_fps: Annotated[float, Meta(ge=0)] | None = None
    """Labels per second; None is `edgevit.services.putting.SHARE` of what is known to be possible."""
    possible_fps: Annotated[float, Meta(ge=0)] | None = None
    """Labels per second of a benchmark there; None if there was none."""
    within: Annotated[float, Meta(ge=0)] = WITHIN_S
    """Seconds until it must be healthy."""
    password: str | None = None
    """For sudo, of a system's service; kept nowhere."""


def to_json(data: Wanted | Order) -> str:
    """One line."""
    return json.dumps(asdict(data), ensure_ascii=False)


def parse_wanted(text: str) -> Wanted:
    """From `to_json`. Raises ValueError."""
    return conform(_object(text), Wanted, "")


def parse_order(text: str) -> Order:
    """From `to_json`. Raises ValueError."""
    return conform(_object(text), Order, "")


def _object(text: str) -> object:
    if len(text) > LIMIT:
        msg = f"it is longer than {LIMIT:,} characters"
        raise ValueError(msg)
    return json_value(text)
