"""Whether what runs is what should run, and gives labels: told from the state file of the run alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edgevit.errors import StateError
from edgevit.runtime.state import RunState, read_state

FRESH_S = 5.0
"""A run writes its state every second; one that is older than this is of a process that hangs or was killed."""
LOOK_S = 0.5


def trouble(state: RunState, bundle: str, min_fps: float | None, now: float) -> str:
    """What is wrong with a run at the time ``now``, in a few words; empty if nothing is.

    ``bundle`` is the digest of the one that should run, ``min_fps`` the labels per second that it should give.
    """
    if state.bundle != bundle:
        return f"another bundle runs: {state.model}, {state.bundle[:12]}, not {bundle[:12]}"
    if state.ended is not None:
        return f"it ended with exit code {state.exit}" + (f": {state.last_error}" if state.last_error else "")
    if abs(now - state.updated) > FRESH_S:
        return f"its state is {now - state.updated:.0f} s old: it was killed, or hangs"
    because = f" ({state.last_error})" if state.last_error else ""
    if not state.frames:
        return f"no frame was classified yet{because}"
    if min_fps is not None and (state.fps is None or state.fps < min_fps):
        return f"{state.fps or 0:.1f} frames per second, and at least {min_fps:.1f} are asked for{because}"
    return ""


def await_health(
    path: Path, bundle: str, *, within: float, min_fps: float | Callable[[RunState], float | None] | None = None,
    hopeless: Callable[[], str] = str, clock: Callable[[], float] = time.time, wait: Callable[[float], None] = time.sleep,
) -> RunState:  # fmt: skip
    """Wait until the run whose state is at ``path`` classifies frames of ``bundle``, seen at two moments of one process.

    Args:
        path: what ``edgevit run`` has with ``--state``.
        bundle: SHA-256 of the manifest of the bundle that should run.
        within: seconds.
        min_fps: labels per second, over the latest ten seconds, or what tells it from the run; any rate if None.
        hopeless: says why waiting longer is of no use; empty while it is.
        clock: seconds since 1970.
        wait: sleeps.

    Raises:
        StateError: it does not within that time; with the last reason.
    """
    end, first = clock() + within, None
    while True:
        try:
            state = read_state(path)
            least = min_fps(state) if callable(min_fps) else min_fps
            reason = trouble(state, bundle, least, clock())
        except StateError as error:
            state, reason = None, str(error)
        if state is not None and not reason:
            if first is None or (first.pid, first.started) != (state.pid, state.started):
                first = state
            if state.frames > first.frames:
                return state
            reason = f"no frame since {state.frames} were classified"
        if over := hopeless():
            raise StateError(f"{over}: {reason}" if state is not None and state.bundle == bundle else f"{over}.")
        if clock() >= end:
            raise StateError(_unhealthy(path, reason, within))
        wait(LOOK_S)


def _unhealthy(path: Path, reason: str, within: float) -> str:
    return reason if reason.startswith(f"{path}: ") else f"{path}: not healthy after {within:g} s: {reason.rstrip('.')}."
