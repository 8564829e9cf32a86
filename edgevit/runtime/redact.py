"""A camera's password is never shown."""

from __future__ import annotations

import re

USER_PART = re.compile(r"(?<=://)[^\s\"']*@")
"""Greedy: a password may hold @ and /, and losing a part of the path is the lesser evil."""
NAMED = re.compile(
    r"\b((?:user|username|usr|user-id|user-pw|password|passwd|pwd|pass|token|auth|key)=)(\"[^\"]*\"|[^\s&!\"']+)", re.I
)


def redacted(text: str) -> str:
    """``text``, a URI, pipeline or message, without user names, passwords and tokens."""
    return NAMED.sub(r"\1***", USER_PART.sub("", text))
