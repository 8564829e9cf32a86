"""The pictures of events, as the model got them from the camera: evidence, and images to train on."""

from __future__ import annotations

from pathlib import Path

from edgevit.errors import StorageError
from edgevit.runtime.decide import Decision
from edgevit.runtime.picture import encoded, in_a_name, make_folder, stamp, write_picture
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.sinks.record import captured_at
from edgevit.runtime.sinks.worker import Worker

QUEUE = 4
"""Pictures that wait for a slow disk; one of 4K is 24 MiB."""


class Snapshots:
    """Writes ``FOLDER/TIME-LABEL-CONFIDENCE.jpg`` for every event, until the folder holds ``limit`` pictures.

    Of a camera with a region it is the region: what is trained on should be what is looked at. There is none of a label of a
    multi-label model that is gone: its picture would not show it.
    """

    def __init__(self, folder: Path, *, limit: int, note: Note, wait: bool = False) -> None:
        """Make the folder. Raises StorageError if it cannot be made.

        With ``wait``, events wait for a slow disk; otherwise those that find the queue full push out the oldest.
        """
        make_folder(folder)
        self.delivery = Delivery(name="snapshots")
        self._folder, self._limit = folder, limit
        self._pictures = sum(1 for _ in folder.glob("*.jpg"))
        self._worker: Worker[Decision] = Worker(self.delivery, self._write, note=note, size=QUEUE, wait=wait)

    def send(self, decision: Decision) -> None:
        """Queue one picture."""
        if decision.event != "off":
            self._worker.put(decision)

    def close(self) -> None:
        """Write what is queued."""
        self._worker.close()

    def _write(self, decision: Decision) -> None:
        if self._pictures >= self._limit:
            msg = f"{self._folder} holds {self._pictures} pictures, the limit; move some away, or raise --snapshot-limit"
            raise StorageError(msg)
        write_picture(self._folder / file_name(decision), encoded(decision.frame.seen, ".jpg"))
        self._pictures += 1


def file_name(decision: Decision) -> str:
    """Such as ``20260102T030405.678Z-golden_retriever-0.93.jpg``: sorts by time, works on every file system.

    A camera's name stands before the label.
    """
    best, camera = decision.best, f"{decision.camera}-" if decision.camera is not None else ""
    return f"{stamp(captured_at(decision))}-{camera}{in_a_name(best.label)}-{best.confidence:.2f}.jpg"
