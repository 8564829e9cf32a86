"""Files and folders by content, for workers that do not see this machine's: packed here once, unpacked where they are needed."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

from edgevit.errors import DataError
from edgevit.executor.task import Blob

OWN = "item"
"""In an archive, the folder around what was packed."""


def packed(path: Path) -> bytes:
    """The file or folder at ``path``, links followed, as an archive. Raises DataError if it cannot be read."""
    stream = io.BytesIO()
    try:
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            archive.add(path, arcname=f"{OWN}/{path.resolve().name}")
    except OSError as error:
        msg = f"{error.filename or path}: cannot be read, to be sent to other nodes: {error.strerror or error}"
        raise DataError(msg) from error
    return stream.getvalue()


class Unpacked:
    """What was `packed`, in folders of its own as long as this lives; each blob is unpacked once."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edgevit-")
        self._found: dict[str, Path] = {}

    def path(self, blob: Blob) -> Path:
        """Where the content of ``blob`` lies, under its own name."""
        if blob.digest not in self._found:
            place = Path(self._folder.name) / blob.digest
            with tarfile.open(fileobj=io.BytesIO(blob.read())) as archive:
                archive.extractall(place, filter="data")
            self._found[blob.digest] = next((place / OWN).iterdir())
        return self._found[blob.digest]

    def close(self) -> None:
        """Remove all of it."""
        self._folder.cleanup()
