"""Images on their way to another process, or to a machine that does not see their files."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgevit.errors import DataError
from edgevit.files.bounded import open_regular
from edgevit.images.dataset import ImageSet


@dataclass(frozen=True, kw_only=True)
class CarriedImages:
    """Images that can be pickled, with no more than their own content."""

    images: ImageSet
    files: tuple[bytes, ...] = ()
    """Of a folder whose files lie elsewhere, the content of each; empty where ``images`` reads them itself."""

    @contextmanager
    def laid_out(self) -> Iterator[ImageSet]:
        """The images, to be read as long as this lasts."""
        if not self.files:
            yield self.images
            return
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            names = tuple(f"{index}{Path(name).suffix}" for index, name in enumerate(self.images.names))
            for name, content in zip(names, self.files, strict=True):
                (Path(folder) / name).write_bytes(content)
            yield replace(self.images, source=folder, names=names)

    def to_bytes(self) -> bytes:
        """For `carried_from`, in another process of ours."""
        return pickle.dumps(self, pickle.HIGHEST_PROTOCOL)


def carried_from(content: bytes) -> CarriedImages:
    """What `CarriedImages.to_bytes` made. Not for files: it is pickle, which runs what it is told to."""
    found: CarriedImages = pickle.loads(content)
    return found


def carried(images: ImageSet, *, content: bool) -> CarriedImages:
    """``images`` to be sent; with ``content`` that of a folder's files, too. Raises DataError for one that cannot be read."""
    if images.array is not None:  # a part of a set would take all of it along
        rows = range(len(images)) if images.rows is None else images.rows
        return CarriedImages(images=replace(images, array=images.array[list(rows)], rows=None))
    files = tuple(_content(Path(images.source) / name) for name in images.names) if content else ()
    return CarriedImages(images=images, files=files)


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read()
    except OSError as error:
        msg = f"{path}: cannot read this image: {error.strerror or error}"
        raise DataError(msg) from error
