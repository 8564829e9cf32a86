"""Data from a file, held against the types that a class declares: the one way that JSON becomes objects here.

The checking is msgspec's: strict (``true`` is no number, ``"1"`` neither), with the place of what does not fit in the message.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_PLACE = re.compile(r"(?P<what>.*?)(?: - at (?:key in )?`\$\.?(?P<place>.*)`)?", re.DOTALL)
_LARGEST = 2**63  # beyond it no field of ours counts anything, and floats lose units


def json_value(content: str | bytes) -> Any:
    """What a JSON text holds. Raises ValueError, also for nesting that Python cannot follow and for numbers of 20 digits."""
    try:
        return json.loads(content, parse_int=_bounded)
    except RecursionError:
        msg = "its JSON is nested too deeply"
        raise ValueError(msg) from None


def _bounded(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else _LARGEST
    if abs(value) >= _LARGEST:
        msg = f"a number of {len(digits)} digits, beyond 64 bits"
        raise ValueError(msg)
    return value


def conform(data: Any, form: type[T], where: str) -> T:
    """``data``, as JSON holds it, as an object of ``form``, a dataclass or TypedDict with types that msgspec knows.

    Raises ValueError, ``where.blocks[3].heads: expected int >= 1, got ...``; for a dataclass also for a key that it has not.
    """
    try:
        found = msgspec.convert(data, form)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        what, place = (match["what"], match["place"]) if match else (str(error), "")
        path = ".".join(filter(None, (where, place))).replace(".[", "[")
        said = what.replace("`", "")
        msg = f"{path}: {said[:1].lower() + said[1:]}" if path else said
        raise ValueError(msg) from error
    _require_known(data, form, where)
    return found


def _require_known(data: Any, form: Any, where: str) -> None:
    """msgspec passes over keys that a dataclass has not; a typing error, or a field of a newer edgevit, must not be."""
    if is_dataclass(form) and isinstance(data, dict):
        known = {item.name for item in fields(form)}
        if strange := sorted(str(key) for key in data.keys() - known):
            msg = f"{where + ': ' if where else ''}unexpected {', '.join(map(repr, strange))}"
            raise ValueError(msg)
