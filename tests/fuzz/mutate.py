"""Mutations of real files: what disks, networks and enemies make of them. The same seed gives the same ones."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

MAGIC = (
    b"PK\3\4",
    b"\x80\2",
    b"\x89PNG\r\n",
    b"\x93NUMPY",
    b"\xff\xd8\xff",
    b"{",
    b"[",
    b"\0" * 8,
    b"\xff" * 8,
    b"\x1b[31m",
    b"\r\n",
)
NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "0",
    "a" * 5000, "\0", "\n", "\x1b]0;owned\x07", "\ud800", "../../etc/passwd", "/dev/zero", "=1+1", "\u202eabc",
    [], {}, [[]], {"": ""}, [1, 2, 3], [None], {"a": None}, [10**30] * 2, [60_000, 60_000], ["a"] * 300, [0.0, -1.0, 1e-30],
)  # fmt: skip


def damaged(content: bytes, chance: Random) -> bytes:
    """``content`` with one to four changes: bits, runs, blocks, ends."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not content:
            return chance.choice(MAGIC)
        at, size = chance.randrange(len(content)), chance.choice((1, 2, 4, 8, 64, 1024))
        content = chance.choice(CHANGES)(content, at, size, chance)
    return content


def _cut(content: bytes, at: int, _size: int, _chance: Random) -> bytes:
    return content[:at]


def _bit(content: bytes, at: int, _size: int, chance: Random) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def _noise(content: bytes, at: int, size: int, chance: Random) -> bytes:
    return content[:at] + chance.randbytes(len(content[at : at + size])) + content[at + size :]


def _gap(content: bytes, at: int, size: int, _chance: Random) -> bytes:
    return content[:at] + content[at + size :]


def _magic(content: bytes, at: int, _size: int, chance: Random) -> bytes:
    return content[:at] + chance.choice(MAGIC) * chance.choice((1, 1, 50)) + content[at:]


def _twice(content: bytes, at: int, size: int, chance: Random) -> bytes:
    other = chance.randrange(len(content))
    return content[:at] + content[other : other + size] + content[at:]


def _flat(content: bytes, at: int, size: int, chance: Random) -> bytes:
    return content[:at] + chance.choice((b"\0", b"\xff")) * size + content[at + size :]


CHANGES = (_bit, _bit, _noise, _cut, _gap, _magic, _twice, _flat)


def changed(value: Any, chance: Random) -> Any:
    """JSON data with one to three changes: values of other kinds and sizes, keys that are missing, doubled or strange."""
    found = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = [(None, None), *_places(found)] if chance.random() < 0.02 else list(_places(found))
        if not places:
            return _nasty(chance)
        holder, key = chance.choice(places)
        if holder is None:
            return _nasty(chance)
        action = chance.random()
        if action < 0.7:
            holder[key] = _nasty(chance)
        elif action < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[str(_nasty(chance))] = copy.deepcopy(holder[key])
        else:
            holder.extend([copy.deepcopy(holder[key])] * chance.choice((1, 40)))
    return found


def as_json(value: Any) -> bytes:
    """As text; halves of surrogate pairs escaped, as JSON has them."""
    return json.dumps(value).encode()


def deep(chance: Random) -> bytes:
    """Nesting that no reader follows."""
    return chance.choice((b"[", b'{"a":', b"[[", b'[{"b":')) * chance.choice((500, 20_000, 200_000))


def _nasty(chance: Random) -> Any:
    return copy.deepcopy(chance.choice(NASTY))  # what is put in may be changed next


def _places(value: Any) -> Any:
    """Every holder and key below ``value``."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
