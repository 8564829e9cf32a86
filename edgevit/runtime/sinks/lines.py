"""Lines of JSON, on a stream or in a file, and lines of CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from edgevit.errors import ConfigError, StorageError
from edgevit.files.own_kinds import RESULTS, TABLE, require_kind
from edgevit.printable import cell
from edgevit.problem import join_labels
from edgevit.runtime.decide import Decision
from edgevit.runtime.sinks.record import record

COLUMNS = (
    "time", "frame", "name", "label", "confidence", "raw_label", "raw_confidence",
    "dropped", "read_ms", "prepare_ms", "infer_ms", "latency_ms",
)  # fmt: skip
SEVERAL = (*COLUMNS[:5], "labels", "confidences", *COLUMNS[5:])
"""The columns of a multi-label model: all that is there, too."""
REMEMBERED = 1000
"""Lines of a file that can be taken back."""

RARITY = ("typicality", "distance")
"""More columns, of a bundle that tells unknown objects."""


class JsonLines:
    """One JSON object per decision, on a line of its own, on a stream that somebody else closes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = _JsonText()

    def __call__(self, decision: Decision) -> bool:
        """Write one line, at once: whoever reads it may act on it."""
        self._stream.write(f"{self._lines(decision)}\n")  # in one piece: Ctrl-C must not come between a line and its end
        self._stream.flush()
        return True

    def close(self) -> None:
        """Leave the stream to whoever opened it."""


class JsonFile:
    """One JSON object per decision, appended to a file."""

    def __init__(self, path: Path) -> None:
        """Open ``path``. Raises StorageError if it cannot be written, ConfigError if it is a file of something else."""
        require_kind(path, RESULTS)
        self._file = LineFile(path)
        self._lines = _JsonText()

    def __call__(self, decision: Decision) -> bool:
        """Append one line. Raises StorageError."""
        self._file.append(self._lines(decision))
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvFile:
    """One row per decision, appended to a file that begins with the names of its columns.

    Labels and names that a spreadsheet would take for formulas have a ``'`` before them.

    A multi-label model's rows have ``labels`` and ``confidences``, too: all labels above their thresholds, and as many figures,
    with ``|`` between them; see `edgevit.problem.join_labels`.
    """

    def __init__(self, path: Path, *, multi_label: bool = False, rarity: bool = False, cameras: bool = False) -> None:
        """Open ``path``. Raises StorageError if it cannot be written, ConfigError if it is a file of something else.

        With ``cameras`` the second column is the camera's name.
        """
        require_kind(path, TABLE)
        self._multi_label = multi_label
        time, *rest = SEVERAL if multi_label else COLUMNS
        self._columns = (time, *(("camera",) if cameras else ()), *rest, *(RARITY if rarity else ()))
        header = ",".join(self._columns)
        self._file = LineFile(path)
        first = self._file.first_line()
        if first is None:
            self._file.append(header)
        elif first != header:
            self._file.close()
            msg = f"{path}: holds something else: its first line is not {header[:60]}.... Choose another name"
            raise ConfigError(msg)

    def __call__(self, decision: Decision) -> bool:
        """Append one row. Raises StorageError, and ValueError for the decision of a model of another kind."""
        if decision.multi_label is not self._multi_label:
            msg = f"this file was opened with multi_label={self._multi_label}, and the decision is of a model of the other kind"
            raise ValueError(msg)
        values = record(decision)
        values["labels"] = join_labels([each.label for each in decision.labels])
        values["confidences"] = join_labels([f"{each.confidence:.6f}" for each in decision.labels])
        values["raw_label"], values["raw_confidence"] = decision.raw[0].label, round(decision.raw[0].confidence, 6)
        values["dropped"] = decision.dropped
        row = io.StringIO()
        # What ends a line is put into quotes within a label, by older Pythons only if it ends lines here as well.
        csv.writer(row, lineterminator="\r\n").writerow([cell(values[column]) for column in self._columns])
        self._file.append(row.getvalue().removesuffix("\r\n"))
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class LineFile:
    """A file that lines are appended to, each whole or not at all: what a full disk cut short is taken back."""

    def __init__(self, path: Path) -> None:
        """Open ``path``, new or not. Raises StorageError."""
        self._path = path
        try:
            # Without waiting: a pipe that nobody reads must not stall the run.
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except OSError as error:
            msg = f"{path}: cannot write: {error.strerror}. Is its folder there, and yours?"
            raise StorageError(msg) from error
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._open = True
        # Where the latest lines begin and end.
        self._ends: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        size = os.fstat(self._fd).st_size if self._regular else 0
        # What a power cut left of a line does not spoil the next one.
        self._before = b"\n" if size and os.pread(self._fd, 1, size - 1) != b"\n" else b""

    def append(self, line: str) -> None:
        """Write ``line`` and its end. Raises StorageError, and then nothing of it stays."""
        data = self._before + line.encode("utf-8", "backslashreplace") + b"\n"
        size = os.fstat(self._fd).st_size
        try:
            rest = data
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            if self._regular:
                with suppress(OSError):
                    os.ftruncate(self._fd, size)
            msg = f"{self._path}: cannot write: {error.strerror}. Free space, or choose another place"
            raise StorageError(msg) from error
        self._before = b""
        self._ends.append((size, size + len(data)))

    def take_back(self) -> bool:
        """Remove the line that was appended last; False, and nothing is done, if there is none, or others wrote behind it."""
        size, end = self._ends.pop() if self._ends else (0, -1)
        if not self._regular or os.fstat(self._fd).st_size != end:
            return False
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            return False
        return True

    def first_line(self) -> str | None:
        """What a file that is not new begins with, without its end; None if it is new, or no regular file."""
        if not self._regular:
            return None
        head = os.pread(self._fd, 4096, 0)
        return head.partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r") if head else None

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        if self._open:
            os.close(self._fd)
            self._open = False


class _JsonText:
    """Decisions as JSON, with the seconds since their camera's first."""

    def __init__(self) -> None:
        self._starts: dict[str | None, float] = {}

    def __call__(self, decision: Decision) -> str:
        captured = decision.frame.captured
        start = self._starts.setdefault(decision.camera, captured)
        return json.dumps({"seconds": round(captured - start, 6), **record(decision)})
