"""Keys from a terminal, each as it is pressed; the terminal is as before afterwards, however the program ends."""

from __future__ import annotations

import os
import re
import select
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from edgevit.runtime.frame import Frame
from edgevit.runtime.stopping import even_at_a_second

QUIT = "q"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|(?=.))")
"""What arrows and function keys send, and Alt before a key."""


class TerminalKeys:
    """The keys that were pressed at a terminal in the mode of `key_by_key`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pressed(self, frame: Frame, *, wait: bool = False) -> list[str]:
        """Those since the last call, a character each, ``q`` if the terminal is gone; with ``wait``, at least one.

        ``frame`` is not shown: there is no display.
        """
        keys: list[str] = []
        while select.select([self._descriptor], [], [], None if wait and not keys else 0)[0]:
            try:
                data = os.read(self._descriptor, 1024)
            except OSError:  # the other end hung up
                data = b""
            if not data:
                return [*keys, QUIT]
            keys += _SEQUENCE.sub("", data.decode("utf-8", "ignore"))
        return keys

    def close(self) -> None:
        """Nothing: see `key_by_key`."""


@contextmanager
def key_by_key(descriptor: int) -> Iterator[TerminalKeys]:
    """Inside, the terminal hands over every key at once and shows none; Ctrl-C still interrupts.

    Ctrl-Z and Ctrl-backslash, which would leave it like that, do nothing.
    """
    before = termios.tcgetattr(descriptor)

    def restore() -> None:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    with even_at_a_second(restore):
        termios.tcsetattr(descriptor, termios.TCSADRAIN, _changed(before))
        yield TerminalKeys(descriptor)


def _changed(mode: list[Any]) -> list[Any]:
    inputs, outputs, control, local, in_speed, out_speed, characters = mode
    off = b"\0"  # _POSIX_VDISABLE of Linux
    characters = list(characters)
    for place in (termios.VQUIT, termios.VSUSP):
        characters[place] = off
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [inputs, outputs, control, local & ~(termios.ICANON | termios.ECHO), in_speed, out_speed, characters]
