"""Putting a bundle into service, and taking it back by itself if it does no good there.

Checked before: the bundle's own samples, on this machine's engine. Then the run in service is ended as by Ctrl-C, the link to the
release is exchanged, and the run started anew: a camera cannot be had by two. It has to classify frames of this very bundle, at a
rate; else the release before, which did, is in service again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgevit.bundle import open_bundle
from edgevit.errors import EdgevitError, StateError, storage_errors
from edgevit.printable import printable
from edgevit.runtime.health import await_health
from edgevit.runtime.state import PLACE, RunState, read_state
from edgevit.services.choice import choose, keeper_of, remember
from edgevit.services.keeper import Keeper
from edgevit.services.place import Place, Release
from edgevit.services.wanted import Order, Wanted

SHARE = 0.4
"""Of the rate that is known to be possible, which must be reached: a camera halves its own in the dark."""
LOG_LINES = 8
"""Of a run that failed, which are told."""
SAMPLES_S = 600
"""For the samples, on a small board: an engine may have to be compiled for it."""
BEGINS_S = 3.0
"""Within which a manager has begun to start it."""
ENDS = 3
"""So often it may end before it is given up: a camera that is there at the second try is none that is not there."""
QUICK_S = 5.0
"""For a service that is said to be healthy already."""

Outcome = Literal["started", "updated", "already there", "rolled back", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Put:
    """What became of it."""

    outcome: Outcome
    kept_by: str
    notes: tuple[str, ...] = ()
    """What the user should know."""
    reason: str | None = None
    """Why it was rolled back or stopped."""
    logs: tuple[str, ...] = ()
    """The last lines of the run that failed."""
    state: RunState | None = None
    """Of what is in service now."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"state": self.state and self.state.to_dict()}


def put(order: Order) -> Put:
    """Put a release into service. Raises EdgevitError where nothing was changed: a damaged bundle, an engine that is wrong."""
    place = Place(folder=Path(order.folder), name=order.name)
    with place.locked():
        bundle = open_bundle(place.folder / "bundles" / order.bundle, None)
        release, before = place.make(bundle, order.wanted), place.current
        if before == release and (found := _is_fine(place)) is not None:
            return found
        compute_samples(release.bundle)
        for folder in order.wanted.writable:
            with storage_errors(folder):
                Path(folder).mkdir(parents=True, exist_ok=True)
        keeper, notes = choose(place, order.wanted.manager, order.password)
        least = _least(order, _rate(keeper_of(place), before, order.wanted))
        back = place.begin(release)
        try:
            notes += _exchange(place, keeper, release, order.password)
            state = _healthy(keeper, release, order.within, least)
        except EdgevitError as error:
            return _back(place, keeper, back, order, str(error), notes)
        release.mark_healthy()
        place.settle(release, back)
        outcome: Outcome = "started" if before is None or before == release else "updated"
        return Put(outcome=outcome, kept_by=keeper.what, notes=tuple(notes), state=state)


def roll_back(place: Place, *, within: float, password: str | None = None) -> Put:
    """Put the release before into service again; the one that is, is the one before then. Raises StateError if there is none."""
    with place.locked():
        back, current = place.previous, place.current
        if back is None or back == current:
            msg = f"{place.name}: there is no bundle before this one to go back to."
            raise StateError(msg)
        keeper, notes = choose(place, back.wanted().manager, password)
        place.settle(back, current)
        notes += _exchange(place, keeper, back, password)
        state = _healthy(keeper, back, within, None)
        return Put(outcome="rolled back", kept_by=keeper.what, notes=tuple(notes), state=state)


def restart(place: Place, *, within: float, password: str | None = None) -> Put:
    """End the run, start it anew and wait until it is healthy. Raises StateError if nothing is in service, or it is not."""
    with place.locked():
        current, keeper = place.current, keeper_of(place, password)
        if current is None or keeper is None:
            msg = f"{place.name}: nothing is in service. Deploy a bundle with --run."
            raise StateError(msg)
        keeper.stop()
        keeper.start()
        return Put(outcome="started", kept_by=keeper.what, state=_healthy(keeper, current, within, None))


def compute_samples(bundle: Path) -> None:
    """`edgevit healthcheck` in a process of its own: an engine that crashes is an answer. Raises StateError with what it said."""
    command = [sys.executable, "-m", "edgevit", "healthcheck", str(bundle)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SAMPLES_S,
            check=False,
            cwd="/",
            env=_without_state(),
        )
    except subprocess.TimeoutExpired as error:
        msg = f"its samples are not computed within {SAMPLES_S} s: the engine hangs. Nothing was changed."
        raise StateError(msg) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        last = said[-1].removeprefix("edgevit: ") if said else f"exit code {done.returncode}"
        msg = f"its samples: {printable(last)} Nothing was changed."
        raise StateError(msg)


def _exchange(place: Place, keeper: Keeper, release: Release, password: str | None) -> list[str]:
    """End what runs, and start ``release``, to which the link leads already: what runs holds its own files."""
    former = keeper_of(place, password)
    if former is not None:
        former.stop()
        if former.kind != keeper.kind:
            former.remove()
    remember(place, keeper)
    notes = keeper.install(release.wanted())
    with suppress(OSError):
        keeper.state.unlink()  # of the run before
    keeper.start()
    return notes


def _healthy(keeper: Keeper, release: Release, within: float, least: Callable[[RunState], float | None] | None) -> RunState:
    began = time.monotonic()

    def hopeless() -> str:
        status = keeper.status()
        if status.condition == "failed" or (status.condition == "stopped" and time.monotonic() - began > BEGINS_S):
            return f"it does not run ({status.why or status.condition})"
        return f"it ended {status.restarts} times" if (status.restarts or 0) >= ENDS else ""

    try:
        digest = open_bundle(release.bundle, None).sha256
        return await_health(keeper.state, digest, within=within, min_fps=least, hopeless=hopeless)
    except StateError as error:
        raise StateError(str(error).removeprefix(f"{keeper.state}: ")) from error


def _back(place: Place, keeper: Keeper, back: Release | None, order: Order, reason: str, notes: list[str]) -> Put:
    """What ran before is in service again; without such a thing nothing is."""
    logs = tuple(printable(line) for line in keeper.logs(LOG_LINES))
    if back is None:
        with suppress(EdgevitError):
            keeper.stop()
        with suppress(EdgevitError):
            keeper.remove()
        place.settle(None, None)
        return Put(outcome="stopped", kept_by=keeper.what, notes=tuple(notes), reason=reason, logs=logs)
    state = None
    place.settle(back, None)
    try:
        former, _ = choose(place, back.wanted().manager, order.password)
        _exchange(place, former, back, order.password)
        state = _healthy(former, back, order.within, None)
    except EdgevitError as error:
        reason = f"{reason} And the bundle before it is not healthy either: {error}"
    return Put(outcome="rolled back", kept_by=keeper.what, notes=tuple(notes), reason=reason, logs=logs, state=state)


def _is_fine(place: Place) -> Put | None:
    """The service as it is, if it gives labels; None if it has to be started anew."""
    keeper, current = keeper_of(place), place.current
    if keeper is None or current is None or not current.was_healthy or keeper.status().condition != "running":
        return None
    try:
        digest = open_bundle(current.bundle, None).sha256
        state = await_health(keeper.state, digest, within=QUICK_S)
    except StateError:
        return None
    return Put(outcome="already there", kept_by=keeper.what, state=state)


def _rate(keeper: Keeper | None, before: Release | None, wanted: Wanted) -> float | None:
    """Labels per second of what is in service now, if it sees the same."""
    if keeper is None or before is None or before.wanted().source != wanted.source:
        return None
    with suppress(StateError):
        state = read_state(keeper.state)
        return state.fps if state.phase == "running" else None
    return None


def _least(order: Order, former: float | None) -> Callable[[RunState], float | None]:
    """What a run must reach: what was asked for, else `SHARE` of the least that is known, which is nothing for a first video."""

    def least(state: RunState) -> float | None:
        if order.min_fps is not None:
            return order.min_fps
        known = [rate for rate in (former, state.source_fps if state.live else None) if rate]
        if known and order.possible_fps:
            known.append(order.possible_fps)
        return SHARE * min(known) if known else None

    return least


def _without_state() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != PLACE}
