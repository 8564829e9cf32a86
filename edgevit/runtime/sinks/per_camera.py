"""A sink for each camera: what goes by the order of decisions goes by each camera's own."""

from __future__ import annotations

from collections.abc import Mapping

from edgevit.runtime.decide import Decision
from edgevit.runtime.sinks.base import Sink


class PerCamera:
    """Hands each decision to the sink of its camera."""

    def __init__(self, sinks: Mapping[str | None, Sink]) -> None:
        """``sinks`` by the names of cameras; None is the one that has none."""
        self._sinks = sinks

    def __call__(self, decision: Decision) -> bool:
        """Take one decision; False if its sink asks to end the run."""
        return self._sinks[decision.camera](decision)

    def close(self) -> None:
        """Close all of them."""
        for sink in self._sinks.values():
            sink.close()
