"""Small files of the kernel, read without a fuss: what is missing or unreadable is no value."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def text(path: Path) -> str:
    """What the file says; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def group_ids(root: Path) -> dict[str, int]:
    """Number by name of the groups in the /etc/group of the system below ``root``."""
    lines = (line.split(":") for line in text(root / "etc/group").splitlines())
    return {fields[0]: int(fields[2]) for fields in lines if len(fields) == 4 and fields[2].isdecimal()}


def number(path: Path) -> int | None:
    """The whole number in the file, decimal or hexadecimal with 0x; None if there is none."""
    try:
        return int(text(path).strip(), 0)
    except ValueError:
        return None


def first_number(paths: Iterable[Path]) -> int | None:
    """The number in the first of ``paths`` that has one."""
    return next((found for path in paths if (found := number(path)) is not None), None)
