"""Freed memory that the process still holds."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return it to the system, where the C library can (glibc's ``malloc_trim``).

    glibc keeps freed blocks of up to 32 MiB, the size of activations and of a large ViT's weights: a third of what a build holds.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
