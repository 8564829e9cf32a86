"""What edgevit's commands on a host answer, checked before it is used: a host is another machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgevit.files.fromjson import json_value

Check = Callable[[dict[str, Any]], bool]


def parsed(text: str, check: Check) -> dict[str, Any]:
    """The JSON object in ``text``. Raises ValueError if it is none, or ``check`` does not know it."""
    found = json_value(text)
    if not isinstance(found, dict) or not check(found):
        msg = "not what edgevit answers"
        raise ValueError(msg)
    return found


def doctor(found: dict[str, Any]) -> bool:
    """Whether it is what ``edgevit doctor --json`` prints."""
    findings = found.get("findings")
    return isinstance(findings, list) and all(
        isinstance(item, dict)
        and all(isinstance(item.get(key), str) for key in ("level", "topic", "text"))
        and isinstance(item.get("fix"), str | None)
        for item in findings
    )


def compiled(found: dict[str, Any]) -> bool:
    """Whether it is what ``edgevit compile --json`` prints."""
    return isinstance(found.get("version"), str) and _number(found.get("seconds"))


def benchmark(found: dict[str, Any]) -> bool:
    """Whether it is the last line of ``edgevit run --json``."""
    summary = found.get("summary")
    return isinstance(summary, dict) and (summary.get("fps") is None or _number(summary["fps"]))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
