"""What TensorRT says while it compiles or runs, kept instead of written to the terminal."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

MOST = 100  # messages; a session lives for weeks and TensorRT may have something to say about every inference


@dataclass(eq=False)
class Messages:
    """What TensorRT said to one session, or one builder."""

    errors: deque[str] = field(default_factory=lambda: deque(maxlen=MOST))
    """The latest last."""
    warnings: list[str] = field(default_factory=list)
    """Each text once."""
    layers: list[str] = field(default_factory=list)
    """The compiled plan, a line per layer, which a builder lists at level VERBOSE."""


@cache
def logger_of(trt: Any) -> Any:
    """The one logger for the module ``trt``. With ``logger.heard(messages)`` its messages go to ``messages`` meanwhile.

    One for all: TensorRT keeps the first that a process makes, and warns of every other that it is given.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]  # the module is only known at run time
        def __init__(self) -> None:
            super().__init__()  # pybind11 wants it
            self._listeners: list[tuple[int, Messages]] = []

        @contextmanager
        def heard(self, messages: Messages) -> Iterator[None]:
            entry = (threading.get_ident(), messages)
            self._listeners.append(entry)
            try:
                yield
            finally:
                self._listeners.remove(entry)

        def log(self, severity: Any, text: str) -> None:
            listeners = list(self._listeners)
            here = [messages for thread, messages in listeners if thread == threading.get_ident()]
            # What a thread of TensorRT's own says may be meant for any of those who wait for something.
            for messages in here[-1:] or [messages for _, messages in listeners]:
                self._add(messages, severity, text.strip())

        def _add(self, messages: Messages, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                messages.errors.append(text)
            elif severity == trt.ILogger.WARNING:
                if text not in messages.warnings and len(messages.warnings) < MOST:
                    messages.warnings.append(text)
            elif "Name: " in text and "LayerType: " in text:
                messages.layers += [line for line in text.splitlines() if line.startswith("Name: ")]

    return Logger()
