"""Image files: one, or a folder of them with its class subfolders."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from edgevit.errors import DataError, SourceError
from edgevit.files.recognition import not_images
from edgevit.images.finding import SUFFIXES, find_images
from edgevit.images.reading import read_image
from edgevit.runtime.frame import Frame, Source


class Images(Source):
    """The images of a folder in natural order, or a single image. Unreadable ones are skipped and counted."""

    timeless = True

    def __init__(self, path: Path, *, loop: bool = False) -> None:
        """List the images of ``path``. Raises SourceError if there are none."""
        self._folder = path if path.is_dir() else path.parent
        self._paths = [path]
        if path.is_dir():
            found = find_images(path)
            self._paths, self.note = sorted(found.images, key=_natural), found.note(path)
        if not self._paths:
            looked = f"no images in this folder. Looked for {' '.join(SUFFIXES)}, in subfolders too."
            msg = f"{path}: {not_images(path) or looked}"
            raise SourceError(msg if self.note is None else f"{self.note}. Nothing else lies there.")
        self.description = f"{len(self._paths)} images in {path}" if path.is_dir() else f"image {path}"
        self._loop = loop

    def __iter__(self) -> Iterator[Frame]:
        self.skipped, self.first_skipped = 0, None
        paths, index = self._paths, 0
        while paths:
            readable = []
            for path in paths:
                name = path.relative_to(self._folder).as_posix()
                try:
                    image = read_image(path)
                except DataError:
                    self.skip(name)
                    continue
                readable.append(path)
                yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name=name)
                index += 1
            if not readable:
                msg = f"{self._folder}: none of {len(paths)} images can be decoded (first: {name}). Are the files complete?"
                raise SourceError(msg)
            paths = readable if self._loop else []


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts ``img2`` before ``img10``."""
    # Split keeps the digits at odd places, so numbers only ever meet numbers.
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.as_posix().casefold())]
