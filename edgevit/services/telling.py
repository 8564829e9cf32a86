"""How the services of a board are, as one answer, and how it is read where it arrives: a board is another machine."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgevit.bundle import open_bundle
from edgevit.errors import EdgevitError, StateError
from edgevit.files.fromjson import conform, json_value
from edgevit.runtime.state import RunState, Short, read_state, state_of
from edgevit.services.choice import keeper_of
from edgevit.services.keeper import Condition
from edgevit.services.place import Place

LIMIT = 2**20
MOST = 64
"""Services of a board that are told of."""
STALE_S = 10.0
"""A state that is older is of a run that hangs or was killed."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One service, at one moment."""

    name: Short
    condition: Condition
    kept_by: Short
    restarts: int | None = None
    bundle: Short = ""
    """Its name."""
    digest: Short = ""
    previous: Short = ""
    """The name of the bundle before it; empty if there is none."""
    source: Short = ""
    """Without passwords."""
    now: float = 0.0
    """Seconds since 1970 there."""
    state: RunState | None = None
    """As the run told last; None if nothing does."""
    problem: Short = ""
    """What stands in the way of knowing more."""

    @property
    def fresh(self) -> bool:
        """Whether the run is alive by its own word."""
        return self.state is not None and self.state.ended is None and abs(self.now - self.state.updated) <= STALE_S

    @property
    def healthy(self) -> bool:
        """Whether it gives labels, of the bundle that is in service."""
        return bool(self.condition == "running" and self.fresh and self.state and self.state.frames and self.state.fps != 0)


def told_of(place: Place) -> Told:
    """How a service of this machine is; never raises for what is wrong with it."""
    from edgevit.runtime.redact import redacted

    keeper, current, previous = keeper_of(place), place.current, place.previous
    told: dict[str, Any] = {
        "name": place.name,
        "condition": "stopped",
        "kept_by": keeper.what if keeper else "",
        "now": time.time(),
    }
    try:
        if current is not None:
            bundle = open_bundle(current.bundle, None)
            told |= {"bundle": bundle.path.name, "digest": bundle.sha256, "source": redacted(current.wanted().source)}
        if previous is not None and previous != current:
            told["previous"] = previous.bundle.name
        if keeper is not None:
            status = keeper.status()
            told |= {"condition": status.condition, "restarts": status.restarts, "problem": status.why[:500]}
            told["state"] = _state_of(keeper.state)
    except EdgevitError as error:
        told["problem"] = str(error)[:500]
    return Told(**told)


def _state_of(path: Path) -> RunState | None:
    try:
        return read_state(path)
    except StateError:
        return None


def told_json(services: list[Told]) -> str:
    """One line."""
    return json.dumps([asdict(service) | {"state": service.state and service.state.to_dict()} for service in services])


def parse_told(text: str) -> list[Told]:
    """From `told_json`, of another edgevit perhaps. Raises ValueError."""
    if len(text) > LIMIT:
        msg = f"it is longer than {LIMIT:,} characters"
        raise ValueError(msg)
    found = json_value(text)
    if not isinstance(found, list) or len(found) > MOST or not all(isinstance(each, dict) for each in found):
        msg = "it is no list of services"
        raise ValueError(msg)
    services = []
    for each in found:
        state = each.pop("state", None)
        known = {key: value for key, value in each.items() if key in Told.__dataclass_fields__}
        services.append(replace(conform(known, Told, ""), state=None if state is None else state_of(state)))
    return services
