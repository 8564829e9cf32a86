"""Image files: one, or a folder of them with its class subfolders."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import SourceError
from edgevit.runtime.frame import Frame, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class Images(Source):
    """The images of a folder in natural order, or a single image. Unreadable ones are skipped and counted."""

    def __init__(self, path: Path, *, loop: bool = False) -> None:
        """List the images of ``path``. Raises SourceError if there are none."""
        self._folder = path if path.is_dir() else path.parent
        self._paths = image_paths(path) if path.is_dir() else [path]
        if not self._paths:
            msg = f"{path}: no images in this folder. Looked for {' '.join(IMAGE_SUFFIXES)}, in subfolders too."
            raise SourceError(msg)
        self.description = f"{len(self._paths)} images in {path}" if path.is_dir() else f"image {path}"
        self._loop = loop

    def __iter__(self) -> Iterator[Frame]:
        self.skipped, self.first_skipped = 0, None
        paths, index = self._paths, 0
        while paths:
            readable = []
            for path in paths:
                name = path.relative_to(self._folder).as_posix()
                image = read_image(path)
                if image is None:
                    self.skip(name)
                    continue
                readable.append(path)
                yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name=name)
                index += 1
            if not readable:
                msg = f"{self._folder}: none of {len(paths)} images can be decoded (first: {name}). Are the files complete?"
                raise SourceError(msg)
            paths = readable if self._loop else []


def image_paths(folder: Path) -> list[Path]:
    """Every image below ``folder``, so that ``img2`` comes before ``img10``."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def _natural(name: str) -> list[tuple[int, str]]:
    # Split keeps the digits at odd places, so numbers only ever meet numbers.
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.casefold())]


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """The image as uint8 [H, W, 3] BGR, turned upright by its EXIF tag; None if it cannot be decoded."""
    import cv2

    # cv2.imread fails on some non-ASCII names; numpy opens what Python opens.
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)
