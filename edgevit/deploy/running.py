"""What is to run on the hosts for good, and what a host answers when it is put into service, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from edgevit.printable import printable
from edgevit.runtime.state import state_of
from edgevit.services.putting import Outcome, Put
from edgevit.services.wanted import WITHIN_S, Order, Wanted

LONGEST_S = 900.0
"""Beyond that, for an engine that is compiled, samples, two restarts: then a host does not answer."""
LINE = 500
"""Characters of a line of a host's that are shown."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """The same for every host."""

    name: str
    wanted: Wanted
    shown: str
    """The source and options, without passwords."""
    min_fps: float | None = None
    within: float = WITHIN_S
    password: Callable[[], str | None] = lambda: None
    """Asks for the password of sudo, once for all hosts; None where nobody can be asked."""

    def order(self, folder: str, bundle: str, wanted: Wanted, possible_fps: float | None, password: str | None) -> Order:
        """For one host."""
        return Order(
            folder=folder, name=self.name, bundle=bundle, wanted=wanted, min_fps=self.min_fps, possible_fps=possible_fps,
            within=self.within, password=password,
        )  # fmt: skip


def is_put(found: dict[str, Any]) -> bool:
    """Whether it is what ``python -m edgevit.cli.board put`` answers."""
    lines = [*(found.get("notes") or ()), *(found.get("logs") or ())]
    texts = [found.get("outcome"), found.get("kept_by"), *lines]
    state = found.get("state")
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(found.get("reason"), str | None)
        and found.get("outcome") in get_args(Outcome)
        and (state is None or _is_state(state))
    )


def put_of(found: dict[str, Any]) -> Put:
    """As an object; every line fit to be shown."""
    state = found.get("state")
    return Put(
        outcome=found["outcome"],
        kept_by=_line(found["kept_by"]),
        notes=tuple(map(_line, found.get("notes") or ())),
        reason=None if found.get("reason") is None else _line(found["reason"]),
        logs=tuple(map(_line, found.get("logs") or ())),
        state=None if state is None else state_of(state),
    )


def _is_state(state: object) -> bool:
    try:
        state_of(state)
    except ValueError:
        return False
    return True


def _line(text: str) -> str:
    return printable(text)[:LINE]
