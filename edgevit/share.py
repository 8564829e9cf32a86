"""Shares, confidences among them, as people type them: ``0.6`` and ``60%``. All options that take one read it here."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d*\.?\d+|\d+\.)\s*(%?)", re.ASCII)
PATTERN = r"\d*\.?\d+\s*%?"
"""Regular expression of what `share_of` reads, for a language that has shares in it."""


def share_of(text: str) -> float | None:
    """The share that ``0.6`` or ``60%`` is; None of anything else. It may be more than 1: see `meant_by`."""
    match = _NUMBER.fullmatch(text.strip())
    return None if match is None else float(match[1]) / (100 if match[2] else 1)


def meant_by(text: str) -> str:
    """The question to ask about ``60``, which is no share but for a forgotten sign; of other texts, nothing.

    It is not taken for 60 %: nobody could tell what ``1`` is then, nor that ``6`` was to be ``0.6``.
    """
    number = text.strip()
    value = share_of(number)
    return f" Did you mean {number}%?" if value is not None and 1 < value <= 100 and not number.endswith("%") else ""
