"""The pictures of events, as they came from the camera: evidence, and images to train on."""

from __future__ import annotations

import re
from pathlib import Path

from edgevit.errors import DataError, StorageError
from edgevit.files.writing import write_new
from edgevit.runtime.decide import Decision
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.sinks.disk import require_space
from edgevit.runtime.sinks.record import captured_at
from edgevit.runtime.sinks.worker import Worker

QUALITY = 95
"""Of JPEG, 0 to 100."""
QUEUE = 4
"""Pictures that wait for a slow disk; one of 4K is 24 MiB."""


class Snapshots:
    """Writes ``FOLDER/TIME-LABEL-CONFIDENCE.jpg`` for every event, until the folder holds ``limit`` pictures.

    There is none of a label of a multi-label model that is gone: its picture would not show it.
    """

    def __init__(self, folder: Path, *, limit: int, note: Note, wait: bool = False) -> None:
        """Make the folder. Raises StorageError if it cannot be made.

        With ``wait``, events wait for a slow disk; otherwise those that find the queue full push out the oldest.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{folder}: cannot make this folder: {error.strerror}. Choose another place"
            raise StorageError(msg) from error
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
        import cv2

        if self._pictures >= self._limit:
            msg = f"{self._folder} holds {self._pictures} pictures, the limit; move some away, or raise --snapshot-limit"
            raise StorageError(msg)
        path = self._folder / file_name(decision)
        require_space(path)
        ok, encoded = cv2.imencode(".jpg", decision.frame.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not ok:
            msg = "this OpenCV cannot encode JPEG"
            raise DataError(msg)
        again = 1
        while not write_new(path, encoded.tobytes()):  # of the same moment, by another run
            again += 1
            path = path.with_stem(f"{path.stem.partition('~')[0]}~{again}")
        self._pictures += 1


def file_name(decision: Decision) -> str:
    """Such as ``20260102T030405.678Z-golden_retriever-0.93.jpg``: sorts by time, works on every file system."""
    when = captured_at(decision).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    label = re.sub(r"[^\w.-]+", "_", decision.best.label).strip("._")[:40] or "label"
    return f"{when}Z-{label}-{decision.best.confidence:.2f}.jpg"
