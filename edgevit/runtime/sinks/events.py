"""The sink that picks events out of the decisions."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from edgevit.runtime.decide import Decision
from edgevit.runtime.sinks.base import Receiver
from edgevit.runtime.sinks.condition import Gate
from edgevit.runtime.sinks.label_gate import LabelGate


class Events:
    """Hands every event that ``gate`` finds in the decisions to all ``receivers``."""

    def __init__(self, gate: Gate | LabelGate, receivers: Sequence[Receiver]) -> None:
        self._gate, self._receivers = gate, receivers

    def __call__(self, decision: Decision) -> bool:
        """Take one decision; never asks to end the run."""
        for event in self._gate.events(decision):
            for receiver in self._receivers:
                receiver.send(event)
        return True

    def close(self) -> None:
        """Close the receivers, all at the same time: each may take seconds."""
        threads = [threading.Thread(target=receiver.close) for receiver in self._receivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
