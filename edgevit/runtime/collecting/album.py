"""The folder that snapshots are added to, and its table: nothing in it is ever replaced, and it has a budget."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import DataError, StorageError
from edgevit.files.own_kinds import COLLECTED, require_kind
from edgevit.files.writing import require_writable
from edgevit.images.dataset import UNLABELLED
from edgevit.images.finding import find_images
from edgevit.images.reading import read_small
from edgevit.printable import cell
from edgevit.runtime.collecting.look import SIDE, Look, look_at
from edgevit.runtime.collecting.unsure import Doubt
from edgevit.runtime.frame import Frame
from edgevit.runtime.picture import encoded, in_a_name, make_folder, stamp, write_picture
from edgevit.runtime.sinks.lines import LineFile

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

TABLE = "collected.csv"
"""In the folder: a row for each snapshot. What reads folders of images passes it over."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A picture that was kept. Its fields are the table's columns."""

    file: str
    """Its path in the folder."""
    time: str
    """When the frame was captured, or read from a file, UTC in ISO 8601."""
    source: str
    """The frame's name: the video or camera, or the image's path in its folder."""
    frame: int
    """Its number in the source."""
    seconds: float | None
    """Into a recording."""
    label: str | None
    guess: str | None
    """What a model took it for."""
    confidence: float | None
    margin: float | None
    sharpness: float
    """See `edgevit.runtime.collecting.look.Look`."""
    change: float | None
    """From the snapshot before; see `edgevit.runtime.collecting.difference.difference`."""

    def row(self) -> list[Any]:
        """As cells of the table."""
        values = [getattr(self, field.name) for field in fields(self)]
        return ["" if value is None else cell(value) for value in values]


COLUMNS = ",".join(field.name for field in fields(Snapshot))


class Album:
    """Writes ``FOLDER/[LABEL/]TIME-NUMBER[-GUESS-CONFIDENCE].jpg`` until the folder's pictures have so many bytes."""

    def __init__(self, folder: Path, *, suffix: str, most_bytes: int) -> None:
        """Make the folder. Raises StorageError if nothing can be written there, ConfigError if its table is something else."""
        make_folder(folder)
        require_writable(folder / TABLE, option="-o")
        require_kind(folder / TABLE, COLLECTED)
        self.folder = folder
        self.snapshots: list[Snapshot] = []
        """Of this session."""
        self._suffix, self._most = suffix, most_bytes
        self._table = LineFile(folder / TABLE)
        if self._table.first_line() is None:
            self._table.append(COLUMNS)
        self._sizes: list[int] = []
        self._made: set[str] = set()
        self._number = 0
        try:
            self._earlier = find_images(folder).images
            self._bytes = sum(path.stat().st_size for path in self._earlier)
        except (OSError, DataError) as error:
            self._table.close()
            msg = f"{folder}: cannot be looked through: {getattr(error, 'strerror', None) or error}. Choose another place"
            raise StorageError(msg) from error

    @property
    def earlier(self) -> int:
        """How many pictures lay there before."""
        return len(self._earlier)

    @property
    def mib(self) -> float:
        """Size of all pictures that lie there."""
        return self._bytes / 2**20

    def earlier_looks(self) -> Iterator[tuple[str, Look]]:
        """What lay there before, measured; what cannot be read is passed over."""
        for path in self._earlier:
            try:
                yield path.relative_to(self.folder).as_posix(), look_at(read_small(path, SIDE))
            except DataError:
                continue

    def save(
        self, frame: Frame, look: Look, *, change: float | None, label: str | None = None, doubt: Doubt | None = None,
        into: str = "",
    ) -> Snapshot | None:  # fmt: skip
        """Keep a frame in the subfolder ``into``; None if that would exceed the budget.

        Raises StorageError if it cannot be written, DataError if it cannot be encoded.
        """
        content = encoded(frame.seen, self._suffix)
        if self._bytes + len(content) > self._most:
            return None
        when = frame.clock
        guess = f"-{in_a_name(doubt.guess)}-{doubt.confidence:.2f}" if doubt else ""
        if into and not (self.folder / into).is_dir():
            make_folder(self.folder / into)
            self._made.add(into)
        wanted = self.folder / into / f"{stamp(when)}-{self._number + 1:04d}{guess}{self._suffix}"
        path = write_picture(wanted, content)
        self._number += 1
        self._bytes += len(content)
        snapshot = Snapshot(
            file=path.relative_to(self.folder).as_posix(), time=when.isoformat(timespec="milliseconds"), source=frame.name,
            frame=frame.index, seconds=None if frame.seconds is None else round(frame.seconds, 3), label=label,
            guess=doubt.guess if doubt else None, confidence=round(doubt.confidence, 4) if doubt else None,
            margin=round(doubt.margin, 4) if doubt else None, sharpness=round(look.sharpness, 1),
            change=None if change is None else round(change, 4),
        )  # fmt: skip
        self.snapshots.append(snapshot)
        self._sizes.append(len(content))
        row = io.StringIO()
        csv.writer(row, lineterminator="\r\n").writerow(snapshot.row())
        self._table.append(row.getvalue().removesuffix("\r\n"))
        return snapshot

    def undo(self) -> Snapshot | None:
        """Remove the latest snapshot of this session, and its row; None if there is none left."""
        if not self.snapshots:
            return None
        snapshot = self.snapshots.pop()
        self._bytes -= self._sizes.pop()
        try:
            (self.folder / snapshot.file).unlink(missing_ok=True)
        except OSError as error:
            msg = f"{self.folder / snapshot.file}: cannot be removed: {error.strerror}"
            raise StorageError(msg) from error
        self._table.take_back()
        # An empty folder would be a class without an image.
        if (into := snapshot.file.rpartition("/")[0]) in self._made:
            with suppress(OSError):
                (self.folder / into).rmdir()
                self._made.discard(into)
        return snapshot

    def close(self) -> None:
        """Close the table. Closing twice is harmless."""
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a folder of images holds, as `edgevit.images.dataset.load_images` reads it."""

    classes: tuple[str, ...]
    """Its subfolders with images, sorted."""
    loose: int
    """Images outside of subfolders."""
    unlabelled: int
    """Images in the folder of those without a label."""


def contents_of(folder: Path) -> Contents:
    """Look through ``folder``. Raises DataError."""
    tops = [path.relative_to(folder).parts for path in find_images(folder).images]
    classes = {parts[0] for parts in tops if len(parts) > 1}
    return Contents(
        classes=tuple(sorted(classes - {UNLABELLED})),
        loose=sum(len(parts) == 1 for parts in tops),
        unlabelled=sum(len(parts) > 1 and parts[0] == UNLABELLED for parts in tops),
    )
