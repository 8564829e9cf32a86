"""Data from a file, held against the types that a class declares: the one way that JSON becomes objects here.

The checking is msgspec's: strict (``true`` is no number, ``"1"`` neither), with the place of what does not fit in the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

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

    Raises ValueError, ``where.blocks[3].heads: expected int >= 1``; for dataclasses, at any depth,
    also for a key that they have not.
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
    _require_known(data, _described(form), where)  # type: ignore[arg-type]  # a class is hashable
    return found


def _require_known(data: Any, kind: inspect.Type, where: str) -> None:
    """msgspec passes over keys that a dataclass has not; a typing error, or a field of a newer edgevit, must not be."""
    known = {field.encode_name for field in kind.fields} if isinstance(kind, inspect.DataclassType) else data
    if isinstance(data, dict) and (strange := sorted(str(key) for key in data.keys() - known)):
        msg = f"{where + ': ' if where else ''}unexpected {', '.join(map(repr, strange))}"
        raise ValueError(msg)
    for place, inside, item in _parts(data, kind):
        _require_known(inside, item, f"{where}{place}".removeprefix("."))


def _parts(data: Any, kind: inspect.Type) -> Iterator[tuple[str, Any, inspect.Type]]:
    """What of ``data``, which fits ``kind``, may hold objects: where, the value and its type."""
    if isinstance(kind, inspect.DataclassType | inspect.TypedDictType):
        for field in kind.fields:
            if data.get(field.encode_name) is not None:
                yield f".{field.encode_name}", data[field.encode_name], field.type
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield from ((f"[{i}]", item, kind.item_type) for i, item in enumerate(data))
    elif isinstance(kind, inspect.DictType):
        yield from ((f".{key}", value, kind.value_type) for key, value in data.items())
    elif isinstance(kind, inspect.UnionType):  # of one type and null
        yield from (("", data, item) for item in kind.types if not isinstance(item, inspect.NoneType))


@cache
def _described(form: Hashable) -> inspect.Type:
    return inspect.type_info(form)
